"""Images and label maps as slices, oriented as radiologists see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.label_map import LabelMap
from nnunetv2_mmkd.geometry import Grid, align, itk_grid
from nnunetv2_mmkd.images import is_nifti, read_volume, require_file

THICK = 3.0
"""Ratio of spacings from which an image is a stack of slices, shown in the plane they were taken in."""

SIDES = {"axial": "RL", "coronal": "RL", "sagittal": "AP"}
"""What is at the left and at the right of a page: the patient's right and left, in sagittal slices front and back."""

MARGIN = 4
"""Pixels around what a slice holds."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image.

    Attributes:
        voxels: grey values, 2d or 3d, axes as :class:`~nnunetv2_mmkd.evaluation.label_map.LabelMap` has them.
        plane: how to slice it.
        grid: where its voxels are.
    """

    voxels: NDArray[np.float32]
    plane: Plane
    grid: Grid

    def on_grid(self, target: Grid) -> Picture:
        """The same, its axes permuted or flipped if that is needed.

        Raises:
            InputError: it is on another grid.
        """
        alignment = align(self.grid, target)
        if not alignment.reoriented:
            return self
        if is_nifti(self.grid.path):
            return _nifti_picture(alignment.apply(self.voxels), target)
        return _picture(alignment.apply_reversed(self.voxels.reshape(self.grid.shape[::-1])), target)


@dataclass(frozen=True)
class Plane:
    """Which axis of an array is sliced, and how a slice lies on the page.

    Attributes:
        axis: that is sliced; None: the array is one slice.
        transposed: whether the first remaining axis goes across the page.
        flip: whether to turn the rows and the columns of the page round.
        aspect: height of a pixel over its width.
        name: axial, coronal or sagittal; empty if not known.
    """

    axis: int | None
    transposed: bool
    flip: tuple[bool, bool]
    aspect: float
    name: str

    def slice(self, values: NDArray[Any], index: int) -> NDArray[Any]:
        """A slice as it lies on the page, ``[row, column]``."""
        page = values if self.axis is None else np.moveaxis(values, self.axis, 0)[index]
        page = page.T if self.transposed else page
        return page[:: -1 if self.flip[0] else 1, :: -1 if self.flip[1] else 1]

    def areas(self, mask: NDArray[Any]) -> NDArray[np.int64]:
        """Voxels of a mask in each slice."""
        if self.axis is None:
            return np.array([np.count_nonzero(mask)])
        other = tuple(axis for axis in range(mask.ndim) if axis != self.axis)
        return np.asarray(np.count_nonzero(mask, axis=other))


def read_picture(path: Path) -> Picture:
    """Read an image: NIfTI, or anything SimpleITK reads (colours are averaged).

    Raises:
        InputError: absent or damaged.
    """
    require_file(path)
    if is_nifti(path):
        volume = read_volume(path)
        return _nifti_picture(volume.voxels.astype(np.float32), volume.grid)
    try:
        image = sitk.ReadImage(str(path))
        voxels = sitk.GetArrayFromImage(image).astype(np.float32)
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())[-150:]})") from error
    if image.GetNumberOfComponentsPerPixel() > 1:
        voxels = voxels.mean(axis=-1)
    return _picture(
        voxels, itk_grid(path, image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    )


def _nifti_picture(voxels: NDArray[np.float32], grid: Grid) -> Picture:
    return Picture(voxels, plane_of(grid.affine[:3, :3], voxels.shape), grid)


def _picture(voxels: NDArray[np.float32], grid: Grid) -> Picture:
    """A picture of axes ``[z, y, x]`` or ``[y, x]``."""
    voxels = voxels[0] if voxels.ndim == 3 and len(voxels) == 1 else voxels
    return Picture(voxels, _plane_of_reversed(grid, voxels.shape), grid)


def _plane_of_reversed(grid: Grid, shape: Sequence[int]) -> Plane:
    if len(shape) == 2:
        return Plane(None, False, (False, False), grid.spacing[1] / grid.spacing[0], "")
    return plane_of(grid.affine[:3, 2::-1], shape)


def plane_of_labels(labels: LabelMap) -> Plane:
    """How to slice a segmentation."""
    shape = labels.values.shape
    return (
        plane_of(labels.grid.affine[:3, :3], shape) if is_nifti(labels.path) else _plane_of_reversed(labels.grid, shape)
    )


def plane_of(affine: NDArray[Any], shape: Sequence[int]) -> Plane:
    """How to slice a volume: across its thick axis if it has one, else axially.

    Anterior or superior is up, the patient's right at the left of the page; in sagittal slices anterior is at the left.

    Args:
        affine: axes of the array -> mm right, anterior, superior, ``[3, 3]``.
        shape: of the array.
    """
    ways = nib.orientations.io_orientation(np.vstack([np.column_stack([affine, np.zeros(3)]), [0, 0, 0, 1]]))
    world, sign = ways[:, 0].astype(int).tolist(), ways[:, 1].tolist()
    spacing = np.linalg.norm(affine, axis=0)
    thick = int(spacing.argmax())
    if 1 in shape:
        axis = list(shape).index(1)
    elif spacing[thick] >= THICK * np.sort(spacing)[1]:
        axis = thick
    else:
        axis = world.index(2)
    row, column = {2: (1, 0), 1: (2, 0), 0: (2, 1)}[world[axis]]
    rows, columns = world.index(row), world.index(column)
    return Plane(
        axis=axis,
        transposed=columns < rows,
        flip=(sign[rows] > 0, sign[columns] > 0),
        aspect=float(spacing[rows] / spacing[columns]),
        name=("sagittal", "coronal", "axial")[world[axis]],
    )


def grey_range(voxels: NDArray[Any], brightness: float = 1.0) -> tuple[float, float]:
    """What is shown as black and as white: the same in all slices of a volume."""
    grey = voxels[voxels != 0] if (voxels != 0).any() else voxels
    low, high = (float(value) for value in np.percentile(grey, (0.5, 99.5)))
    low = min(low, max(0.0, low - 0.1 * (high - low)))  # the darkest tissue is not quite black
    return low, low + ((high - low) or 1.0) / brightness


def window(where: NDArray[np.bool_], margin: int = MARGIN) -> tuple[slice, slice]:
    """Rows and columns of a slice that hold something, and a margin."""
    if not where.any():
        return slice(None), slice(None)
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    return tuple(slice(max(0, int(one[0]) - margin), int(one[-1]) + 1 + margin) for one in (rows, columns))  # type: ignore[return-value]
