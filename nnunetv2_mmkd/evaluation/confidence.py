"""How sure a segmentation of one case is, region by region, as numbers. No truth is needed.

Notation, for one region on one grid: S the voxels that the segmentation has in it, p the probability of the region, the
mean over folds, mirrorings and windows, h its entropy. How well the numbers foretell the Dice against the truth was
measured on held-out cases: documentation/how-to/confidence.md.

Reference: Mehta et al., QU-BraTS, Machine Learning for Biomedical Imaging 2022, arXiv:2112.10074, for maps of entropy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from nnunetv2_mmkd.evaluation.metrics.mask_pair import MaskPair
from nnunetv2_mmkd.evaluation.metrics.overlap import dice

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class RegionConfidence:
    """How sure the segmentation of one region is.

    Attributes:
        probability: :func:`mean_probability`; None where the segmentation has nothing of the region.
        without: modality -> Dice of S with the segmentation that is made without it, 1: the same, 0: nothing in common;
            None where both are empty. Empty where nothing can be left out.
    """

    probability: float | None
    without: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def agreement(self) -> float | None:
        """Mean of ``without``: what stays of S without a modality; None: nothing was left out, or nothing is there."""
        known = [value for value in self.without.values() if value is not None]
        return sum(known) / len(known) if known else None

    @property
    def leans_on(self) -> str | None:
        """The modality without which least of S would stay; None as above."""
        known = {name: value for name, value in self.without.items() if value is not None}
        return min(known, key=lambda name: known[name]) if known else None

    def as_json(self) -> dict[str, Any]:
        """The same as JSON knows it."""
        return {
            "agreement": _rounded(self.agreement),
            "probability": _rounded(self.probability),
            "without": {name: _rounded(value) for name, value in self.without.items()},
            "leans_on": self.leans_on,
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def entropy(probability: NDArray[np.floating]) -> NDArray[np.float32]:
    """Entropy of a yes or no in bits, h = -p log2 p - (1 - p) log2(1 - p): 0 sure, 1 unsure; of any shape.

    >>> entropy(np.array([0.0, 0.5, 1.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    p = np.clip(probability.astype(np.float32), 0, 1)
    result: NDArray[np.float32] = (entr(p) + entr(1 - p)) / np.float32(math.log(2))
    return result


def mean_probability(probability: NDArray[np.floating], segmented: Mask) -> float | None:
    """How sure the network is of what it segments, sum_S p / |S|.

    >>> mean_probability(np.array([1.0, 0.5, 0.5, 0.0]), np.array([True, True, False, False]))
    0.75

    Args:
        probability: p.
        segmented: S, of the same shape.

    Returns:
        0..1; None if S is empty.
    """
    return float(probability[segmented].mean(dtype=np.float64)) if segmented.any() else None


def overlap(first: Mask, second: Mask) -> float | None:
    """Dice of two segmentations of a region; None if both are empty."""
    value = dice(MaskPair(first, second, (1.0,) * first.ndim, "nan"))
    return None if math.isnan(value) else value
