"""Exams whose sequences lie each on a grid of its own, the patient moved by a known motion before each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from nnunetv2_mmkd.registration.itk import as_affine

GRIDS: Mapping[str, tuple[float, float, float]] = {"t1": (3.6, 3, 3), "t2": (2.4, 2.4, 5), "flair": (2.7, 2.7, 6)}
"""Spacing of the moved sequences, mm; the axes of each are tilted, too."""
LABEL = "seg"


@dataclass(frozen=True)
class Moved:
    """A sequence that was moved.

    Attributes:
        image: as it came from the scanner.
        label: the truth on its grid.
        motion: point of the unmoved image -> point of this one.
    """

    image: sitk.Image
    label: sitk.Image
    motion: sitk.Euler3DTransform


def itk(voxels: np.ndarray, spacing: float) -> sitk.Image:
    """An image of voxels ``[x, y, z]`` whose centre is at 0."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    image.SetSpacing([spacing] * 3)
    image.SetOrigin([-spacing * (length - 1) / 2 for length in voxels.shape])
    return image


def moved(image: sitk.Image, label: sitk.Image, spacing: tuple[float, ...], seed: int) -> Moved:
    """An image of a patient who lies otherwise, on a tilted grid; thick slices hold the mean of what lies in them."""
    rng = np.random.default_rng(seed)
    centre = image.TransformContinuousIndexToPhysicalPoint([(length - 1) / 2 for length in image.GetSize()])
    motion, tilt = sitk.Euler3DTransform(), sitk.Euler3DTransform()
    motion.SetCenter(centre)
    motion.SetRotation(*np.deg2rad(rng.uniform(-8, 8, 3)))
    motion.SetTranslation(rng.uniform(-8, 8, 3).tolist())
    tilt.SetRotation(*np.deg2rad(rng.uniform(-12, 12, 3)))
    axes = np.reshape(tilt.GetMatrix(), (3, 3))
    extent = np.multiply(image.GetSize(), image.GetSpacing()) + 10
    size = np.ceil(extent / spacing).astype(int)
    grid = sitk.Image(size.tolist(), sitk.sitkUInt8)
    grid.SetSpacing(spacing)
    grid.SetDirection(axes.ravel().tolist())
    origin = np.array(motion.TransformPoint(centre)) - axes @ (np.multiply(spacing, size - 1) / 2)
    grid.SetOrigin(origin.tolist())
    parts = max(1, round(spacing[2] / min(image.GetSpacing())))
    back, slices = motion.GetInverse(), []
    for part in range(parts):
        grid.SetOrigin((origin + axes[:, 2] * spacing[2] * ((part + 0.5) / parts - 0.5)).tolist())
        slices.append(sitk.GetArrayFromImage(sitk.Resample(image, grid, back, sitk.sitkLinear, 0.0, sitk.sitkFloat32)))
    grid.SetOrigin(origin.tolist())
    result = sitk.GetImageFromArray(np.mean(slices, axis=0))
    result.CopyInformation(grid)
    return Moved(result, sitk.Resample(label, grid, back, sitk.sitkNearestNeighbor, 0.0, sitk.sitkUInt8), motion)


def save(path: Path, image: sitk.Image) -> Path:
    """Write an image as int16, or a label as uint8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image if image.GetPixelID() == sitk.sitkUInt8 else sitk.Cast(image, sitk.sitkInt16), str(path))
    return path


def mean_surface_distance(first: np.ndarray, second: np.ndarray, spacing: tuple[float, ...]) -> float:
    """Mean of the distances of the surface voxels of each mask to the other surface, mm; both directions."""
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (first > 0, second > 0)]
    distances = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    return float(np.mean([distances[1][surfaces[0]].mean(), distances[0][surfaces[1]].mean()]))


def error(found: sitk.Transform, motion: sitk.Transform, image: sitk.Image) -> float:
    """Mean distance of where two transforms bring the corners of the middle half of an image, mm."""
    size = np.array(image.GetSize())
    corners = [np.where(np.unravel_index(corner, (2, 2, 2)), 0.75, 0.25) * size for corner in range(8)]
    points = np.array([[*image.TransformContinuousIndexToPhysicalPoint(each.tolist()), 1] for each in corners]).T
    ras = np.diag([-1, -1, 1, 1]) @ points
    return float(np.linalg.norm((as_affine(found) @ ras - as_affine(motion) @ ras)[:3], axis=0).mean())


def read(path: Path) -> np.ndarray:
    """The voxels of a file, ``[x, y, z]``."""
    return np.asarray(nib.load(path).dataobj)
