"""Overlap: closed forms, nnU-Net's own numbers, empty regions, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.empty import LEGACY_PENALTY, EmptyPolicy
from nnunetv2_mmkd.evaluation.metrics.mask_pair import MaskPair
from nnunetv2_mmkd.evaluation.metrics.overlap import specificity
from nnunetv2_mmkd.evaluation.metrics.registry import measure

ONE = (1.0, 1.0, 1.0)
RATIOS = ("dice", "sensitivity", "specificity", "precision", "nsd")
DISTANCES = ("hausdorff", "hd95", "hd95_area")


def _mask(*corner_and_size: tuple[tuple[int, int, int], int]) -> np.ndarray:
    mask = np.zeros((12, 12, 12), dtype=bool)
    for corner, size in corner_and_size:
        mask[tuple(slice(start, start + size) for start in corner)] = True
    return mask


EMPTY, BLOCK = _mask(), _mask(((3, 3, 3), 4))


def test_ratios_of_shifted_cubes() -> None:
    values = measure(_mask(((4, 3, 3), 4)), BLOCK, ONE, ["dice", "sensitivity", "specificity", "precision"])
    assert values == pytest.approx(
        {"dice": 0.75, "sensitivity": 0.75, "precision": 0.75, "specificity": 1 - 16 / (12**3 - 64)}
    )
    values = measure(_mask(((3, 3, 3), 2)), BLOCK, ONE, ["dice", "sensitivity", "specificity", "precision"])
    assert values == pytest.approx({"dice": 16 / 72, "sensitivity": 1 / 8, "specificity": 1.0, "precision": 1.0})


@pytest.mark.parametrize("seed", range(4))
def test_ratios_against_nnunets_confusion(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prediction, truth = (rng.random((9, 8, 7)) < density for density in rng.random(2))
    tp, fp, fn, tn = (int(count) for count in compute_tp_fp_fn_tn(truth, prediction))
    values = measure(prediction, truth, ONE)
    assert values["dice"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert values["sensitivity"] == pytest.approx(tp / (tp + fn))
    assert values["specificity"] == pytest.approx(tn / (tn + fp))
    assert values["precision"] == pytest.approx(tp / (tp + fp))


def test_both_empty() -> None:
    legacy = measure(EMPTY, EMPTY, ONE, empty="legacy")
    assert {name: legacy[name] for name in RATIOS} == dict.fromkeys(RATIOS, 1.0)
    assert {name: legacy[name] for name in DISTANCES} == dict.fromkeys(DISTANCES, 0.0)
    undefined = measure(EMPTY, EMPTY, ONE, empty="nan")
    assert undefined.pop("specificity") == 1.0  # all voxels are true negatives: defined
    assert all(math.isnan(value) for value in undefined.values())


@pytest.mark.parametrize(("empty", "distance", "no_ratio"), [("legacy", 373.1286642, 0.0), ("nan", math.inf, math.nan)])
def test_one_empty(empty: str, distance: float, no_ratio: float) -> None:
    missed = measure(EMPTY, BLOCK, ONE, empty=empty)
    invented = measure(BLOCK, EMPTY, ONE, empty=empty)
    for values in (missed, invented):
        assert values["dice"] == 0
        assert values["nsd"] == 0
        assert [values[name] for name in DISTANCES] == pytest.approx([distance] * 3)
    assert missed["sensitivity"] == 0
    assert missed["specificity"] == 1
    assert missed["precision"] == pytest.approx(no_ratio, nan_ok=True)
    assert invented["sensitivity"] == pytest.approx(no_ratio, nan_ok=True)
    assert invented["specificity"] == pytest.approx(1 - 64 / 12**3)
    assert invented["precision"] == 0


def test_a_truth_that_fills_the_image_has_no_specificity() -> None:
    full = np.ones((3, 3, 3))
    assert measure(full, full, ONE, ["specificity"], "legacy") == {"specificity": 0.0}
    assert math.isnan(measure(full, full, ONE, ["specificity"], "nan")["specificity"])


def test_a_policy_of_ones_own() -> None:
    policy = EmptyPolicy("mine", both_ratio=0.5, one_ratio=0.25, both_distance=7.0, one_distance=9.0)
    assert measure(EMPTY, EMPTY, ONE, ["dice", "hd95"], policy) == {"dice": 0.5, "hd95": 7.0}
    assert measure(EMPTY, BLOCK, ONE, ["precision", "hd95"], policy) == {"precision": 0.25, "hd95": 9.0}
    assert pytest.approx(373.1287, abs=5e-5) == LEGACY_PENALTY


def test_specificity_of_a_crop_counts_the_outside() -> None:
    whole = MaskPair(_mask(((4, 3, 3), 4)), BLOCK, ONE)
    crop = MaskPair(whole.prediction, whole.target, ONE, voxels=12**3)
    assert specificity(crop) == specificity(whole)


def test_numbers_pass_as_masks() -> None:
    assert measure(BLOCK.astype(np.float32), BLOCK.astype(np.int16), ONE, ["dice"]) == {"dice": 1.0}


@pytest.mark.parametrize(
    ("prediction", "truth", "spacing", "message"),
    [
        (np.full((2, 2, 2), np.nan), np.ones((2, 2, 2)), ONE, "prediction: holds NaN"),
        (np.ones((2, 2, 2)), np.full((2, 2, 2), np.inf), ONE, "target: holds NaN or infinity"),
        (np.full((2, 2, 2), 2), np.ones((2, 2, 2)), ONE, "prediction: holds 2"),
        (np.full((2, 2, 2), 0.5), np.ones((2, 2, 2)), ONE, "holds 0.5"),
        (np.full((2, 2, 2), "a"), np.ones((2, 2, 2)), ONE, "expected booleans"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 3)), ONE, "one grid"),
        (np.ones(4), np.ones(4), (1.0,), "two or three axes"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1.0, 1.0), "one per axis"),
        (np.ones((2, 2)), np.ones((2, 2)), (1.0, 0.0), "positive"),
        (np.ones((2, 2)), np.ones((2, 2)), (1.0, math.nan), "positive"),
    ],
)
def test_bad_input(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure(prediction, truth, spacing)


def test_bad_options() -> None:
    with pytest.raises(InputError, match="policy 'zero' is unknown"):
        measure(BLOCK, BLOCK, ONE, empty="zero")
    with pytest.raises(InputError, match="tolerance"):
        measure(BLOCK, BLOCK, ONE, parameters={"tolerance": math.nan})
