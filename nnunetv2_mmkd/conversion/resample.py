"""Images of one exam on grids of their own -> one grid, by their headers; nothing is registered.

As the organisers' own preparation of PI-CAI does it (picai_prep): cubic B-splines, 0 outside. Labels are never
resampled.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from nnunetv2_mmkd.geometry import Grid
from nnunetv2_mmkd.images import Volume

LEAST_COVERAGE = 0.5
"""Share of the grid that an image must cover; less is taken for another exam."""

HOW = "cubic B-splines, by the headers; nothing is registered"
"""For messages."""

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def resampled(volume: Volume, onto: Grid) -> NDArray[np.number]:
    """The voxels ``[x, y, z]`` of an image on another grid.

    Whole numbers stay whole numbers, and no value leaves the range of the image's, as splines otherwise do at edges.

    Deviations:
        picai_prep lets values leave the range.

    Args:
        volume: the image.
        onto: the grid.
    """
    grid = itk_image(np.zeros((1, 1, 1), np.uint8), onto)
    voxels = volume.voxels
    work = sitk.ResampleImageFilter()
    work.SetSize(onto.shape)
    work.SetOutputSpacing(grid.GetSpacing())
    work.SetOutputOrigin(grid.GetOrigin())
    work.SetOutputDirection(grid.GetDirection())
    work.SetInterpolator(sitk.sitkBSpline)
    work.SetNumberOfThreads(1)
    result = sitk.GetArrayFromImage(work.Execute(itk_image(voxels.astype(np.float32), volume.grid))).T
    result = result.clip(min(float(voxels.min()), 0.0), float(voxels.max()))
    whole = voxels.dtype.kind in "iu"
    return np.rint(result).astype(voxels.dtype) if whole else result.astype(np.float32)


def itk_image(voxels: NDArray[np.number], grid: Grid) -> sitk.Image:
    """An image of SimpleITK from voxels ``[x, y, z]`` whose first one is the grid's first."""
    affine, spacing = _LPS @ grid.affine, np.asarray(grid.spacing)
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    return image
