"""Paired bootstrap over repetitions of an experiment and over their test subjects.

Legend: S repetitions (seeds, each with a split of its own), N test subjects of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.bootstrap import percentile_interval, repetitions_drawn

CONFIDENCE = 0.95
"""Level of the interval."""


@dataclass(frozen=True)
class Interval:
    """A mean difference and its percentile interval.

    Attributes:
        difference: mean over repetitions and subjects.
        low, high: percentile bootstrap interval.
        confidence: its level.
        repetitions: S.
        better: in how many repetitions the difference is above 0.
    """

    difference: float
    low: float
    high: float
    confidence: float
    repetitions: int
    better: int


def paired_bootstrap(differences: NDArray[np.float64], *, resamples: int = 10_000) -> Interval:
    """Interval of a mean difference that counts chance in training, in splits and in test subjects.

    Repetitions are drawn with replacement, and in each one that is drawn its test subjects.

    Args:
        differences: ``[S, N]``, first method minus second on the same subjects of the same repetition.
        resamples: of the bootstrap.

    Raises:
        InputError: no differences, or some that are not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise InputError(f"differences of shape {values.shape}; expected finite ones of repetitions and subjects")
    low, high = percentile_interval(
        repetitions_drawn(values), confidence=CONFIDENCE, resamples=resamples, seed=0, chunk=200
    )
    better = int((values.mean(1) > 0).sum())
    return Interval(float(values.mean()), low, high, CONFIDENCE, len(values), better)
