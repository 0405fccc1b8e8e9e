"""Challenges' lesion-wise rules: their parameters, and the scores of 2025, whose lesions are paired one to one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from test_lesion_wise import ONE, Boxes, _cubes, lesion_wise_region

from nnunetv2_mmkd.evaluation.metrics.lesion_tasks import LESION_TASKS, LesionRule
from nnunetv2_mmkd.evaluation.metrics.lesions import lesion_wise


def test_tasks() -> None:
    """The parameters that the organisers published, each by hand."""
    parameters = {
        name: {region: (rule.dilation, rule.min_volume) for region, rule in task.regions.items() if rule.reported}
        for name, task in LESION_TASKS.items()
    }
    for name, values in {
        "brats2023-gli": (3, 50),
        "brats2023-ssa": (3, 50),
        "brats2023-ped": (3, 50),
        "brats2023-men": (1, 50),
        "brats2023-met": (1, 2),
        "brats2024-met": (1, 2),
        "brats2024-ssa": (3, 50),
        "brats2024-goat": (3, 50),
        "fets2024": (3, 50),
        "brats2025-men": (1, 50),
        "brats2025-ssa": (3, 50),
    }.items():
        assert parameters.pop(name) == dict.fromkeys(("WT", "TC", "ET"), values), name
    gli = {"WT": (3, 20), "TC": (3, 20), "NETC": (5, 20), "SNFH": (3, 20), "ET": (3, 10), "RC": (5, 20)}
    ped = dict.fromkeys(("WT", "TC", "ET", "NETC", "CC", "ED"), (5, 10))
    assert parameters == {
        "brats2024-gli": gli, "brats2025-gli": gli, "brats2024-ped": ped, "brats2025-ped": ped,
        "brats2024-men-rt": {"GTV": (1, 50)}, "brats2025-goat": {"WT": (3, 20), "TC": (3, 20), "ET": (3, 10)},
        "brats2025-met": dict.fromkeys(("WT", "TC", "ET", "RC"), (0, 0)),
    }  # fmt: skip
    plain = ("brats2024-goat", "fets2024", "brats2025-men", "brats2025-met")
    assert {name for name, task in LESION_TASKS.items() if task.merge_predictions} == {
        name for name in LESION_TASKS if "2023" not in name and name not in plain
    }
    assert {name: task.nsd_tolerance for name, task in LESION_TASKS.items() if task.nsd_tolerance is not None} == {
        **{name: 1.0 for name in LESION_TASKS if "2025" in name}, "brats2025-met": "voxel",
    }  # fmt: skip
    assert {name: task.penalty for name, task in LESION_TASKS.items() if task.penalty != 374} == {
        **dict.fromkeys(("brats2024-gli", "brats2025-gli", "brats2025-goat"), 337),
        "brats2024-men-rt": None,
    }


def test_a_task_of_ones_own() -> None:
    task = replace(LESION_TASKS["brats2023-gli"], name="mine", regions={"liver": LesionRule(1, 0)}, penalty=50.0)
    assert lesion_wise({"liver": _cubes([])}, {"liver": _cubes([(9, 2)])}, ONE, task)["liver"].hd95 == 50


# truth, prediction, (Dice, HD95, NSD at 1 mm), (found, missed, false positives), of 2025 MET, region ET, 1 mm
PAIRS: dict[str, tuple[Boxes, Boxes, tuple[float, float, float], tuple[int, int, int]]] = {
    "both empty": ([], [], (1, 0, 1), (0, 0, 0)),
    "missed": ([(10, 3)], [], (0, 374, 0), (0, 1, 0)),
    "invented": ([], [(10, 3)], (0, 374, 0), (0, 0, 1)),
    "perfect, however small": ([(10, 1)], [(10, 1)], (1, 0, 1), (1, 0, 0)),
    "one of two": ([(10, 6), (40, 6)], [(10, 6)], (0.5, 187, 0.5), (1, 1, 0)),
    "perfect and 8 elsewhere": ([(10, 6)], [(10, 6), (40, 2)], (0.5, 187, 0.5), (1, 0, 1)),
    # the true lesion has one partner, the one with more overlap; the dilation of 2023 would take both
    "two parts of one": ([(10, 12)], [(10, 7), (18, 4)], (686 / (1728 + 343) / 2, None, None), (1, 0, 1)),
    # no partner without overlap, although they touch
    "side by side": ([(10, 4)], [(14, 4)], (0, 374, 0), (0, 1, 1)),
}


@pytest.mark.parametrize("case", PAIRS)
def test_lesions_paired_one_to_one(case: str) -> None:
    truth, prediction, expected, counts = PAIRS[case]
    scores = lesion_wise_region(_cubes(prediction), _cubes(truth), ONE, "brats2025-met", "ET")
    for value, reference in zip((scores.dice, scores.hd95, scores.nsd), expected, strict=True):
        assert reference is None or value == pytest.approx(reference)
    assert (scores.n_found, scores.n_missed, scores.n_false_positives) == counts


def test_pairs_are_chosen_together() -> None:
    """The first lesion overlaps both predictions; it leaves the second one to the lesion that has no other."""
    truth, prediction = np.zeros((40, 8, 8), bool), np.zeros((40, 8, 8), bool)
    truth[2:12, 2:6, 2:6] = truth[14:20, 2:6, 2:6] = True
    prediction[1:6, 2:6, 2:6] = prediction[7:17, 2:6, 2:6] = True
    scores = lesion_wise_region(prediction, truth, ONE, "brats2025-met", "ET")
    assert (scores.n_found, scores.n_missed, scores.n_false_positives) == (2, 0, 0)
    assert scores.dice == pytest.approx((2 * 4 / 15 + 2 * 3 / 16) / 2)


@pytest.mark.parametrize(("task", "before"), [("gli", "2024-gli"), ("men", "2023-men"), ("ped", "2024-ped")])
def test_2025_counts_as_before(task: str, before: str) -> None:
    truth, prediction = _cubes([(10, 6), (40, 6)]), _cubes([(11, 6), (50, 6)])
    now = lesion_wise_region(prediction, truth, ONE, f"brats2025-{task}", "ET")
    then = lesion_wise_region(prediction, truth, ONE, f"brats{before}", "ET")
    assert math.isnan(then.nsd) and 0 < now.nsd < 1
    assert (now.dice, now.hd95, now.n_false_positives) == (then.dice, then.hd95, then.n_false_positives)


@pytest.mark.parametrize(("spacing", "expected"), [(ONE, 1.0), ((0.5, 0.5, 0.5), 1.0), ((3.0, 3.0, 3.0), 1.0)])
def test_the_tolerance_is_a_voxel(spacing: tuple[float, ...], expected: float) -> None:
    """A shift by one voxel is within the tolerance whatever the spacing; under GLI's rules it is 1 mm."""
    truth, prediction = _cubes([(10, 6)], 32), np.roll(_cubes([(10, 6)], 32), 1, axis=0)
    assert lesion_wise_region(prediction, truth, spacing, "brats2025-met", "ET").nsd == expected
    gli = lesion_wise_region(prediction, truth, spacing, "brats2025-gli", "ET").nsd
    assert gli == 1 if spacing[0] <= 1 else gli < 1
