"""Masks before they are measured: regions of a label map, checks of a pair, and the crop around both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnunetv2_mmkd.errors import InputError

Mask = NDArray[np.bool_]
Box = tuple[slice, ...]


def as_mask(array: ArrayLike, what: str = "mask") -> Mask:
    """The array as booleans, after a look at its values.

    Args:
        array: booleans, or numbers that are all 0 or 1.
        what: what the array is, for the message.

    Raises:
        InputError: a value is not finite, or is neither 0 nor 1 (a label map instead of a mask of one region).
    """
    values = np.asarray(array)
    if values.dtype == np.bool_:
        return values
    if values.dtype.kind not in "uif":
        raise InputError(f"{what}: expected booleans or numbers, got {values.dtype}; compare with the label first")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{what}: holds NaN or infinity; a mask holds 0 and 1 only, repair the file")
    mask: Mask = values == 1
    if not (mask | (values == 0)).all():
        other = values[~mask & (values != 0)].flat[0]
        raise InputError(f"{what}: holds {other}; expected 0 and 1 only, make a mask of one region first")
    return mask


def checked_pair(prediction: ArrayLike, target: ArrayLike) -> tuple[Mask, Mask]:
    """Both masks as booleans of one shape, 2d or 3d.

    Raises:
        InputError: bad values (:func:`as_mask`), different shapes, or neither 2d nor 3d.
    """
    predicted, true = as_mask(prediction, "prediction"), as_mask(target, "target")
    if predicted.shape != true.shape:
        raise InputError(
            f"prediction has shape {predicted.shape}, target {true.shape}: bring both to one grid before comparing"
        )
    if true.ndim not in (2, 3) or not true.size:
        raise InputError(f"masks of shape {true.shape}: expected two or three axes, none of length 0")
    return predicted, true


def checked_spacing(spacing: Sequence[float], ndim: int) -> tuple[float, ...]:
    """Spacing in mm as floats, one per axis of the array, in the array's order.

    Raises:
        InputError: wrong number of values, or one that is not a positive finite number.
    """
    values = tuple(float(value) for value in spacing)
    if len(values) != ndim:
        raise InputError(f"spacing {values} has {len(values)} values, the masks {ndim} axes: give one per axis")
    if not all(np.isfinite(value) and value > 0 for value in values):
        raise InputError(f"spacing {values}: expected positive finite numbers in mm")
    return values


def bounding_box(mask: Mask, margin: int = 0) -> Box:
    """Smallest box around what is set, widened by ``margin`` inside the image; the first voxel if nothing is set."""
    box = []
    for axis in range(mask.ndim):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not occupied.size:
            return (slice(0, 1),) * mask.ndim
        box.append(slice(max(int(occupied[0]) - margin, 0), min(int(occupied[-1]) + 1 + margin, mask.shape[axis])))
    return tuple(box)


def region_masks(segmentation: ArrayLike, regions: Mapping[str, tuple[int, ...]]) -> dict[str, Mask]:
    """A mask per region from a label map.

    Args:
        segmentation: whole numbers, any shape; floats pass if they are whole (files hold them).
        regions: region name -> label values it contains.

    >>> region_masks([0, 1, 2], {"core": (2,), "whole": (1, 2)})["whole"].tolist()
    [False, True, True]

    Raises:
        InputError: the array holds NaN, infinity or values between labels (a probability map, or resampled labels).
    """
    values = np.asarray(segmentation)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise InputError("segmentation: holds NaN or infinity; expected labels, repair the file")
        if (np.abs(values - np.rint(values)) > 1e-3).any():
            raise InputError("segmentation: holds values between labels; expected whole numbers, write labels")
        values = np.rint(values)
    elif values.dtype.kind not in "ui":
        raise InputError(f"segmentation: expected whole numbers, got {values.dtype}")
    return {name: np.isin(values, labels) for name, labels in regions.items()}
