"""NIfTI volumes as SimpleITK has them, and what rigid transforms do."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from nnunetv2_mmkd.geometry import Grid, itk_geometry
from nnunetv2_mmkd.images import Volume

_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS <-> RAS


def itk_image(volume: Volume) -> sitk.Image:
    """The image of a file, float32, where its header says."""
    return on_grid(np.asarray(volume.voxels, dtype=np.float32), volume.grid)


def on_grid(voxels: np.ndarray, grid: Grid) -> sitk.Image:
    """An image of voxels ``[x, y, z]`` on a grid."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    spacing, origin, direction = itk_geometry(grid.affine)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    return image


def as_affine(transform: sitk.Transform) -> np.ndarray:
    """A linear transform as ``[4, 4]``: point in mm right, anterior, superior -> point."""
    first = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.subtract(transform.TransformPoint(axis), first) for axis in np.eye(3).tolist()]
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = np.transpose(columns), first
    result: np.ndarray = _FLIP @ lps @ _FLIP
    identity = np.eye(4)
    return identity if np.abs(result - identity).max() == 0 else result


def compose(second: sitk.Transform, first: sitk.Transform) -> sitk.Euler3DTransform:
    """The rigid transform that does one rigid transform after another one."""
    affine = _FLIP @ as_affine(second) @ as_affine(first) @ _FLIP
    left, _, right = np.linalg.svd(affine[:3, :3])
    result = sitk.Euler3DTransform()
    result.SetMatrix((left @ right).ravel().tolist(), 1e-6)
    result.SetTranslation(affine[:3, 3].tolist())
    return result


def rotation_of(transform: sitk.Transform) -> float:
    """Angle of a rigid transform, degrees."""
    trace = np.trace(as_affine(transform)[:3, :3])
    return float(np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))))


def shift_of(transform: sitk.Transform, grid: Grid) -> float:
    """How far a transform moves the centre of a grid, mm."""
    centre = grid.affine @ [*((length - 1) / 2 for length in grid.shape), 1]
    return float(np.linalg.norm((as_affine(transform) @ centre - centre)[:3]))


def resampled(image: sitk.Image, transform: sitk.Transform, grid: Grid, dtype: np.dtype) -> np.ndarray:
    """An image on a grid ``[x, y, z]``, by linear interpolation; beyond its border its least value.

    Args:
        image: float.
        transform: point of the grid -> point of the image.
        grid: the target.
        dtype: of the result; whole numbers are rounded, floats become float32.
    """
    voxels = _resample(image, transform, grid, sitk.sitkLinear, float(sitk.GetArrayViewFromImage(image).min()))
    if dtype.kind not in "iu":
        return voxels.astype(np.float32)
    bounds = np.iinfo(dtype)
    return np.clip(np.rint(voxels.astype(np.float64)), bounds.min, bounds.max).astype(dtype)


def resampled_labels(labels: sitk.Image, transform: sitk.Transform, grid: Grid) -> np.ndarray:
    """Labels on a grid ``[x, y, z]``: each voxel has that of the nearest one, 0 beyond the border.

    Args:
        labels: whole numbers.
        transform: point of the grid -> point of the labels.
        grid: the target.
    """
    return _resample(labels, transform, grid, sitk.sitkNearestNeighbor, 0.0)


def _resample(image: sitk.Image, transform: sitk.Transform, grid: Grid, how: int, outside: float) -> np.ndarray:
    spacing, origin, direction = itk_geometry(grid.affine)
    done = sitk.Resample(image, list(grid.shape), transform, how, origin, spacing, direction, outside)
    voxels: np.ndarray = sitk.GetArrayFromImage(done).T
    return voxels
