"""Distances: closed forms, brute force over all pairs of points, sizes of tolerance."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nnunetv2_mmkd.evaluation.metrics import surface
from nnunetv2_mmkd.evaluation.metrics.distance import hausdorff, hd95, hd95_area, nsd
from nnunetv2_mmkd.evaluation.metrics.elements import corners, element_areas
from nnunetv2_mmkd.evaluation.metrics.mask_pair import MaskPair
from nnunetv2_mmkd.evaluation.metrics.registry import measure

SURFACE_NAMES = ("hausdorff", "hd95", "hd95_area", "nsd")


def _blobs(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Some boxes and some single voxels, some at the border of the image."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.01
    for _ in range(3):
        low = [int(rng.integers(0, length)) for length in shape]
        mask[tuple(slice(start, start + int(rng.integers(1, 5))) for start in low)] = True
    return mask


def _border(mask: np.ndarray) -> np.ndarray:
    """Voxels with a face neighbour outside, one by one."""
    padded = np.pad(mask, 1)
    points = []
    for voxel in np.argwhere(padded):
        steps = [sign * np.eye(mask.ndim, dtype=int)[axis] for axis in range(mask.ndim) for sign in (1, -1)]
        if not all(padded[tuple(voxel + step)] for step in steps):
            points.append(voxel)
    return np.array(points)


def _cells(mask: np.ndarray, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Cells the surface runs through and their areas, one by one."""
    padded, order, points, areas = np.pad(mask, 1), corners(mask.ndim), [], []
    for cell in itertools.product(*(range(length + 1) for length in mask.shape)):
        inside = [padded[tuple(np.add(cell, corner))] for corner in order]
        if any(inside) and not all(inside):
            points.append(cell)
            areas.append(element_areas(spacing)[sum(1 << bit for bit, value in enumerate(inside) if value)])
    return np.array(points), np.array(areas)


def _brute_force(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> dict[str, float]:
    """The definitions over the table of all distances."""
    table = cdist(_border(prediction) * spacing, _border(truth) * spacing)
    pooled = np.concatenate([table.min(1), table.min(0)])
    (p, p_area), (g, g_area) = _cells(prediction, spacing), _cells(truth, spacing)
    table = cdist(p * spacing, g * spacing)
    percentiles = []
    near = 0.0
    for distance, area in ((table.min(1), p_area), (table.min(0), g_area)):
        percentiles.append(min(d for d in distance if area[distance <= d].sum() >= 0.95 * area.sum() * (1 - 1e-12)))
        near += area[distance <= tolerance + 1e-9].sum()
    return {
        "hausdorff": pooled.max(),
        "hd95": np.percentile(pooled, 95),
        "hd95_area": max(percentiles),
        "nsd": near / (p_area.sum() + g_area.sum()),
    }


@pytest.mark.parametrize("dense", [True, False], ids=["distance map", "search tree"])
@pytest.mark.parametrize(
    ("shape", "spacing"), [((9, 10, 11), (1.0, 0.7, 2.5)), ((9, 8, 9), (1.0,) * 3), ((20, 17), (0.3, 1.1))]
)
@pytest.mark.parametrize("seed", range(3))
def test_against_brute_force(
    seed: int, shape: tuple[int, ...], spacing: tuple[float, ...], dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surface, "DENSE", 0.0 if dense else 1.0)
    prediction, truth = _blobs(seed, shape), _blobs(seed + 100, shape)
    values = measure(prediction, truth, spacing, SURFACE_NAMES, parameters={"tolerance": 2 * spacing[0]})
    assert values == pytest.approx(_brute_force(prediction, truth, spacing, 2 * spacing[0]))


def _cube(start: int, size: int = 6, length: int = 40) -> np.ndarray:
    mask = np.zeros((length, 14, 14), dtype=bool)
    mask[start : start + size, 4 : 4 + size, 4 : 4 + size] = True
    return mask


def test_shifted_cubes() -> None:
    """A shift by 9 of 6 wide cubes: the far face is 9 away, the near face 9 - 5 = 4 (voxels) or 9 - 6 = 3 (surface)."""
    pair = MaskPair(_cube(15), _cube(6), (2.0, 1.0, 1.0))
    assert hausdorff(pair) == 18.0
    assert hd95(pair) == 18.0
    assert hd95_area(pair) == 18.0
    assert nsd(pair, 5.9) == 0.0
    assert nsd(pair, 6.0) > 0.1  # the plane of the near face
    assert nsd(pair, 18.0) == 1.0


def test_the_three_percentiles_differ() -> None:
    """A cube found exactly, and 8 voxels far away: 5 % of the pooled points, but 8 % of the predicted surface."""
    truth = np.zeros((50, 50, 50), dtype=bool)
    truth[10:16, 10:16, 10:16] = True
    prediction = truth.copy()
    prediction[40:42, 40:42, 40:42] = True
    pair = MaskPair(prediction, truth, (1.0, 1.0, 1.0))
    assert hd95(pair) == 0.0
    assert hd95_area(pair) == pytest.approx(math.sqrt(24**2 + 24**2 + 26**2))
    assert hausdorff(pair) == pytest.approx(26 * math.sqrt(3))


def test_percentile_by_area() -> None:
    """The smallest distance within which at least 95 % of the area lies."""
    distance = np.array([1.0] + [0.0] * 19)
    assert surface.area_percentile(distance, np.ones(20), 95) == 0.0  # 19 of 20 are enough
    assert surface.area_percentile(distance, np.array([1.001] + [1.0] * 19), 95) == 1.0
    assert surface.area_percentile(np.array([3.0, 1.0, 2.0]), np.array([1.0, 90.0, 9.0]), 95) == 2.0


def test_equal_masks() -> None:
    values = measure(_cube(6), _cube(6), (0.1, 0.2, 0.3), SURFACE_NAMES, parameters={"tolerance": 0.0})
    assert values == {"hausdorff": 0.0, "hd95": 0.0, "hd95_area": 0.0, "nsd": 1.0}


def test_a_tolerance_equal_to_the_distance_counts() -> None:
    """Distances come from whole voxels: 3 steps of 0.1 mm are within 0.1 * 3, whatever the position."""
    values = [nsd(MaskPair(_cube(s + 3), _cube(s), (0.1, 0.1, 0.1)), 0.1 * 3) for s in range(25)]
    assert values == [1.0] * 25


def test_symmetry_and_axes() -> None:
    prediction, truth, spacing = _blobs(1, (9, 10, 11)), _blobs(2, (9, 10, 11)), (1.0, 0.7, 2.5)
    forward = measure(prediction, truth, spacing, SURFACE_NAMES)
    assert measure(truth, prediction, spacing, SURFACE_NAMES) == pytest.approx(forward)
    assert measure(prediction.T, truth.T, spacing[::-1], SURFACE_NAMES) == pytest.approx(forward)
    assert measure(prediction, truth, [2 * mm for mm in spacing], ["hd95_area"])["hd95_area"] == pytest.approx(
        2 * forward["hd95_area"]
    )


def test_the_image_border_is_a_surface() -> None:
    """A mask that fills the image has a surface around it, as in medpy and surface-distance."""
    full = np.ones((5, 5), dtype=bool)
    inner = np.zeros((5, 5), dtype=bool)
    inner[1:4, 1:4] = True
    assert hausdorff(MaskPair(full, inner, (1.0, 1.0))) == pytest.approx(math.sqrt(2))
