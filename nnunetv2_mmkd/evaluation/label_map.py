"""Reading label maps: whole, of whole numbers, and with the grid they lie on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from nnunetv2_mmkd.dataset_conversion.nifti import integer_labels, read_volume
from nnunetv2_mmkd.errors import InputError

TOLERANCE = 1e-3
"""mm (and direction cosines) by which two grids may differ."""


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


def read_label_map(path: Path, allowed: Iterable[int] | None = None) -> LabelMap:
    """Read a segmentation.

    Args:
        path: NIfTI, or anything SimpleITK reads.
        allowed: values it may hold; None: any.

    Raises:
        InputError: absent, damaged or truncated, NaN, values between labels, or a value that is not allowed.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    if path.name.endswith((".nii", ".nii.gz")):
        volume = read_volume(path)
        found = LabelMap(
            path,
            integer_labels(volume),
            tuple(float(zoom) for zoom in volume.header.get_zooms()[:3]),
            tuple(np.ravel(volume.header.get_best_affine()).tolist()),
        )
    else:
        found = _other_format(path)
    if allowed is not None:
        odd = sorted(set(np.unique(found.values).tolist()) - set(allowed))
        if odd:
            raise InputError(
                f"{path}: holds the label {odd[0]}; this data set has {', '.join(map(str, sorted(allowed)))}. Labels "
                "must be nnU-Net's, not those of a submission"
            )
    return found


def _other_format(path: Path) -> LabelMap:
    try:
        image = sitk.ReadImage(str(path))
        values = sitk.GetArrayFromImage(image)
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())[-150:]})") from error
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or np.abs(values - np.rint(values)).max(initial=0) > TOLERANCE:
            raise InputError(f"{path}: holds values that are no whole numbers; expected labels")
        values = np.rint(values)
    spacing = tuple(float(length) for length in reversed(image.GetSpacing()))
    if values.ndim == 3 and values.shape[0] == 1:
        values, spacing = values[0], spacing[1:]
    return LabelMap(path, values.astype(np.int64), spacing, (*image.GetOrigin(), *image.GetDirection()))


def require_same_grid(prediction: LabelMap, truth: LabelMap) -> None:
    """Check that two label maps lie on one grid.

    Raises:
        InputError: another shape, spacing or placement.
    """
    for what, one, other in (
        ("shape", prediction.values.shape, truth.values.shape),
        ("spacing in mm", prediction.spacing, truth.spacing),
        ("origin, direction or affine", prediction.placement, truth.placement),
    ):
        if len(one) != len(other) or not np.allclose(one, other, atol=TOLERANCE, rtol=0):
            raise InputError(
                f"{prediction.path}: its {what} {tuple(np.round(one, 4).tolist())} is not that of {truth.path} "
                f"{tuple(np.round(other, 4).tolist())}; predictions must be in the grid of the labels"
            )
