"""Random fields and scanner effects."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_mmkd.phantom import fields


def test_smooth_field_is_smooth_standardised_and_the_same_at_every_resolution() -> None:
    fine = fields.smooth_field((48, 48, 48), 4, np.random.default_rng(3))
    coarse = fields.smooth_field((24, 24, 24), 4, np.random.default_rng(3))
    assert fine.mean() == pytest.approx(0, abs=1e-12)
    assert fine.std() == pytest.approx(1)
    assert np.abs(np.diff(fine, axis=0)).max() < 0.8  # white noise would jump by several deviations
    pooled = fine.reshape(24, 2, 24, 2, 24, 2).mean(axis=(1, 3, 5))
    assert np.corrcoef(pooled.ravel(), coarse.ravel())[0, 1] > 0.999


def test_bias_field_stays_within_its_strength() -> None:
    field = fields.bias_field((20, 24, 28), 0.2, np.random.default_rng(0))
    assert field.shape == (20, 24, 28)
    assert np.abs(field - 1).max() == pytest.approx(0.2)


def test_rician_noise_has_the_known_moments() -> None:
    sigma, rng = 0.5, np.random.default_rng(0)
    floor = fields.rician(np.zeros(200_000), sigma, rng)
    assert floor.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)  # Rayleigh
    level = fields.rician(np.full(200_000, -3.0), sigma, rng)
    assert (level**2).mean() == pytest.approx(9 + 2 * sigma**2, rel=0.01)  # E[M^2] = S^2 + 2 sigma^2
    assert np.array_equal(fields.rician(np.array([-2.0, 1.0]), 0.0, rng), [2.0, 1.0])


def test_point_spread_does_not_leak_over_the_border() -> None:
    mask = np.zeros((12, 12, 12), dtype=bool)
    mask[3:9, 3:9, 3:9] = True
    blurred = fields.blur_inside(np.where(mask, 5.0, 1e6), mask, 0.7)
    assert blurred[mask] == pytest.approx(5.0)
    assert not blurred[~mask].any()
