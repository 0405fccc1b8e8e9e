"""The paired bootstrap over seeds and test subjects."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_mmkd.classification.bootstrap import paired_bootstrap
from nnunetv2_mmkd.errors import InputError


def test_a_constant_difference_has_no_width() -> None:
    found = paired_bootstrap(np.full((4, 30), 0.25), resamples=200)
    assert (found.difference, found.low, found.high, found.better) == (0.25, 0.25, 0.25, 4)


def test_both_kinds_of_chance_are_counted() -> None:
    """Variance of the mean: between seeds over S, and within them over S N."""
    random = np.random.default_rng(0)
    values = random.normal(0, 1, (12, 1)) + random.normal(0, 3, (12, 25))
    found = paired_bootstrap(values, resamples=4000)
    within = values.var(axis=1).mean() / values.size
    expected = 2 * 1.96 * np.sqrt(values.mean(1).var() / 12 + within)
    assert found.high - found.low == pytest.approx(expected, rel=0.08)
    assert found.low < found.difference < found.high


def test_undefined_differences_are_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        paired_bootstrap(np.array([[0.0, np.nan]]))
