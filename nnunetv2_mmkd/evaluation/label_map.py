"""Reading label maps: whole, of whole numbers, and with the grid they lie on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.images import integer_labels, read_header, read_volume

TOLERANCE = 1e-3
"""mm (and direction cosines) by which two grids may differ."""


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a file lie.

    Attributes:
        path: the file.
        shape: voxels per axis.
        spacing: mm per axis.
        placement: what else places it: affine, or origin and direction, flattened.
    """

    path: Path
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    placement: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A segmentation.

    Attributes:
        path: its file.
        values: whole numbers, 2d or 3d.
        spacing: mm per axis of ``values``.
        placement: what else places it: affine, or origin and direction, flattened.
    """

    path: Path
    values: NDArray[np.integer]
    spacing: tuple[float, ...]
    placement: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels per axis."""
        return tuple(self.values.shape)


def read_grid(path: Path) -> Grid:
    """The grid of a segmentation, without its voxels.

    Raises:
        InputError: absent, or its header cannot be read.
    """
    _require_file(path)
    if _is_nifti(path):
        header = read_header(path)
        return Grid(path, tuple(header.get_data_shape()), *_geometry(header))
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    shape, spacing = tuple(reversed(reader.GetSize())), tuple(reversed(reader.GetSpacing()))
    flat = _is_flat(shape)
    return Grid(path, shape[flat:], spacing[flat:], (*reader.GetOrigin(), *reader.GetDirection()))


def read_label_map(path: Path, allowed: Iterable[int] | None = None) -> LabelMap:
    """Read a segmentation.

    Args:
        path: NIfTI, or anything SimpleITK reads.
        allowed: values it may hold; None: any.

    Raises:
        InputError: absent, damaged or truncated, NaN, values between labels, or a value that is not allowed.
    """
    _require_file(path)
    labels = _nifti(path) if _is_nifti(path) else _other_format(path)
    if allowed is not None:
        unknown = sorted(set(np.unique(labels.values).tolist()) - set(allowed))
        if unknown:
            known = ", ".join(map(str, sorted(allowed)))
            raise InputError(
                f"{path}: holds the label {unknown[0]}; this data set has {known}. Labels must be nnU-Net's, not those "
                "of a submission"
            )
    return labels


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} does not exist")


def _is_nifti(path: Path) -> bool:
    return path.name.endswith((".nii", ".nii.gz"))


def _geometry(header: nib.Nifti1Header) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Spacing and placement."""
    return tuple(map(float, header.get_zooms()[:3])), tuple(np.ravel(header.get_best_affine()).tolist())


def _nifti(path: Path) -> LabelMap:
    volume = read_volume(path)
    try:
        labels = integer_labels(volume)
    except InputError as error:
        raise InputError(f"{error}; expected labels, not probabilities or resampled labels") from error
    return LabelMap(path, labels, *_geometry(volume.header))


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
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or np.abs(values - np.rint(values)).max(initial=0) > TOLERANCE:
            raise InputError(f"{path}: holds values that are no whole numbers; expected labels, not probabilities")
        values = np.rint(values)
    spacing = tuple(float(length) for length in reversed(image.GetSpacing()))
    if _is_flat(values.shape):
        values, spacing = values[0], spacing[1:]
    return LabelMap(path, values.astype(np.int64), spacing, (*image.GetOrigin(), *image.GetDirection()))


def require_same_grid(prediction: LabelMap | Grid, truth: LabelMap | Grid) -> None:
    """Check that two segmentations lie on one grid.

    Raises:
        InputError: another shape, spacing or placement.
    """
    for what, one, other in (
        ("shape", prediction.shape, truth.shape),
        ("spacing in mm", prediction.spacing, truth.spacing),
        ("origin, direction or affine", prediction.placement, truth.placement),
    ):
        if len(one) != len(other) or not np.allclose(one, other, atol=TOLERANCE, rtol=0):
            raise InputError(
                f"{prediction.path}: its {what} {tuple(np.round(one, 4).tolist())} is not that of {truth.path} "
                f"{tuple(np.round(other, 4).tolist())}; predictions must be in the grid of the labels"
            )
