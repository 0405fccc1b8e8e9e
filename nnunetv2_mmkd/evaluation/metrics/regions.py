"""Masks of regions from a label map, and the regions that papers on MyoPS 2020 report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.masks import Mask

Regions = Mapping[str, tuple[int, ...]]

MYOPS_REGIONS: Regions = MappingProxyType({"scar": (2221,), "edema_scar": (1220, 2221)})
"""What the MyoPS 2020 challenge scores, by the labels on disk."""

PASSION_REGIONS: Regions = MappingProxyType({"LV": (500,), "RV": (600,), "MYO": (200, 1220, 2221)})
"""What the PASSION line of papers reports on MyoPS, per subject: blood pools and the whole myocardium."""

MYOPS_LABELS: Mapping[int, int] = MappingProxyType({200: 1, 500: 2, 600: 3, 1220: 4, 2221: 5})
"""Label on disk -> label in nnU-Net: normal myocardium, LV pool, RV pool, edema, scar."""


def renumbered(regions: Regions, labels: Mapping[int, int]) -> dict[str, tuple[int, ...]]:
    """Regions in other label values, e.g. ``renumbered(MYOPS_REGIONS, MYOPS_LABELS)`` for nnU-Net's label maps.

    Raises:
        InputError: a region uses a value that ``labels`` does not map.
    """
    unknown = sorted({value for values in regions.values() for value in values} - set(labels))
    if unknown:
        raise InputError(f"regions use the labels {unknown}, which the map {dict(labels)} does not hold")
    return {name: tuple(labels[value] for value in values) for name, values in regions.items()}


def region_masks(segmentation: ArrayLike, regions: Regions) -> dict[str, Mask]:
    """A mask per region from a label map.

    Args:
        segmentation: whole numbers, any shape; floats pass if they are whole (files hold them).
        regions: region name -> label values it contains.

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


def subject(slices: Iterable[ArrayLike]) -> Mask:
    """One volume from the slices of a subject, first axis through the stack.

    PASSION's numbers are per subject: one Dice over the stack, not the mean of slices (where most slices without scar
    would count as 1 or drop out).

    Raises:
        InputError: no slice, or slices of different shapes.
    """
    stack: Sequence[np.ndarray] = [np.asarray(one) for one in slices]
    shapes = sorted({one.shape for one in stack})
    if len(shapes) != 1:
        raise InputError(f"slices of shapes {shapes}: expected at least one, all of one shape")
    return np.stack(stack)
