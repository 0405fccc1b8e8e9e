"""Reading label maps: whole, of whole numbers, and with the grid they lie on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.geometry import Grid, align, itk_grid
from nnunetv2_mmkd.images import integer_labels, is_nifti, read_header, read_volume, require_file
from nnunetv2_mmkd.nifti_header import grid_of


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A segmentation.

    Attributes:
        path: its file.
        values: whole numbers, 2d or 3d; of NIfTI ``[x, y, z]``, of other formats ``[z, y, x]``.
        spacing: mm per axis of ``values``.
        grid: where its voxels are.
    """

    path: Path
    values: NDArray[np.integer]
    spacing: tuple[float, ...]
    grid: Grid

    def on_grid_of(self, target: LabelMap) -> LabelMap:
        """The same, its axes permuted or flipped if that is needed.

        Raises:
            InputError: it is on another grid.
        """
        alignment = align(self.grid, target.grid)
        if not alignment.reoriented:
            return self
        apply = alignment.apply if is_nifti(self.path) else alignment.apply_reversed
        shape = self.grid.shape if is_nifti(self.path) else self.grid.shape[::-1]
        values = apply(self.values.reshape(shape)).reshape(target.values.shape)
        return replace(self, values=np.ascontiguousarray(values), spacing=target.spacing, grid=target.grid)


def read_grid(path: Path) -> Grid:
    """The grid of a segmentation, without its voxels.

    Raises:
        InputError: absent, or its header cannot be read.
    """
    require_file(path)
    if is_nifti(path):
        return grid_of(path, read_header(path))
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    return itk_grid(path, reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())


def read_label_map(path: Path, allowed: Iterable[int] | None = None) -> LabelMap:
    """Read a segmentation.

    Args:
        path: NIfTI, or anything SimpleITK reads.
        allowed: values it may hold; None: any.

    Raises:
        InputError: absent, damaged or truncated, NaN, values between labels, or a value that is not allowed.
    """
    require_file(path)
    labels = _nifti(path) if is_nifti(path) else _other_format(path)
    if allowed is not None:
        unknown = sorted(set(np.unique(labels.values).tolist()) - set(allowed))
        if unknown:
            known = ", ".join(map(str, sorted(allowed)))
            raise InputError(
                f"{path}: holds the label {unknown[0]}; this data set has {known}. Labels must be nnU-Net's, not those "
                "of a submission"
            )
    return labels


def _nifti(path: Path) -> LabelMap:
    volume = read_volume(path)
    labels = integer_labels(path, volume.voxels)
    return LabelMap(path, labels, tuple(map(float, volume.header.get_zooms()[:3])), volume.grid)


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[-150:]
    return InputError(f"{path}: cannot be read ({reason}); get a good copy of the file")


def _is_flat(shape: tuple[int, ...]) -> bool:
    """Whether it is a picture in three dimensions, as nnU-Net writes 2d."""
    return len(shape) == 3 and shape[0] == 1


def _other_format(path: Path) -> LabelMap:
    try:
        image = sitk.ReadImage(str(path))
        values = sitk.GetArrayFromImage(image)
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path}: has {image.GetNumberOfComponentsPerPixel()} values per voxel; expected one label")
    values = integer_labels(path, values)
    spacing = tuple(float(length) for length in reversed(image.GetSpacing()))
    if _is_flat(values.shape):
        values, spacing = values[0], spacing[1:]
    grid = itk_grid(path, image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return LabelMap(path, values, spacing, grid)
