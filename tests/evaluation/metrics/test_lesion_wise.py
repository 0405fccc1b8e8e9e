"""Lesion-wise scores: the table of edge cases, a slow implementation of the definition, joins, bad input."""

from __future__ import annotations

import math
from dataclasses import replace

import cc3d
import numpy as np
import pytest
from scipy.ndimage import binary_dilation, generate_binary_structure

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.components import dilated, joined, separate
from nnunetv2_mmkd.evaluation.metrics.distance import hd95_area
from nnunetv2_mmkd.evaluation.metrics.lesion_tasks import LESION_TASKS, LesionRule, LesionTask
from nnunetv2_mmkd.evaluation.metrics.lesions import LesionScores, lesion_wise
from nnunetv2_mmkd.evaluation.metrics.mask_pair import MaskPair
from nnunetv2_mmkd.evaluation.metrics.overlap import dice

ONE = (1.0, 1.0, 1.0)
STEP = generate_binary_structure(3, 2)
Boxes = list[tuple[int, int]]


def lesion_wise_region(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], task: str, region: str
) -> LesionScores:
    """Scores of one region by its masks alone, without joins by other regions."""
    rules = LESION_TASKS[task]
    alone = {region: replace(rules.regions[region], joined_by=(), reported=True)}
    return lesion_wise({region: prediction}, {region: truth}, spacing, replace(rules, regions=alone))[region]


def _cubes(boxes: Boxes, length: int = 64) -> np.ndarray:
    """Cubes of a size, the first corner on the diagonal."""
    mask = np.zeros((length,) * 3, dtype=bool)
    for start, size in boxes:
        mask[(slice(start, start + size),) * 3] = True
    return mask


# truth, prediction, (Dice, HD95) of 2023 GLI, (Dice, HD95) of 2024 GLI, region ET
EDGE_CASES: dict[str, tuple[Boxes, Boxes, tuple[float, float], tuple[float, float]]] = {
    "both empty": ([], [], (1, 0), (1, 0)),
    "empty truth, 216 predicted": ([], [(10, 6)], (0, 374), (0, 337)),
    "216 missed": ([(10, 6)], [], (0, 374), (0, 337)),
    "27 missed": ([(10, 3)], [], (1, 0), (0, 337)),
    "perfect": ([(10, 6)], [(10, 6)], (1, 0), (1, 0)),
    "perfect and 8 elsewhere": ([(10, 6)], [(10, 6), (40, 2)], (0.5, 187), (1, 0)),
    "perfect and 216 elsewhere": ([(10, 6)], [(10, 6), (40, 6)], (0.5, 187), (0.5, 168.5)),
    "one of two": ([(10, 6), (40, 6)], [(10, 6)], (0.5, 187), (0.5, 168.5)),
}


@pytest.mark.parametrize("case", EDGE_CASES)
def test_edge_cases(case: str) -> None:
    truth, prediction, *expected = EDGE_CASES[case]
    for task, reference in zip(("brats2023-gli", "brats2024-gli"), expected, strict=True):
        scores = lesion_wise_region(_cubes(prediction), _cubes(truth), ONE, task, "ET")
        assert (scores.dice, scores.hd95) == reference, task


@pytest.mark.parametrize("task", ["brats2023-gli", "brats2024-gli"])
def test_two_lesions_with_a_gap_of_four_voxels_are_one(task: str) -> None:
    found, both = np.zeros((64, 64, 64), dtype=bool), np.zeros((64, 64, 64), dtype=bool)
    found[10:16, 10:16, 10:16] = True
    both[10:16, 10:16, 10:16] = both[20:26, 10:16, 10:16] = True
    scores = lesion_wise_region(found, both, ONE, task, "ET")
    assert scores.dice == pytest.approx(2 / 3)
    assert scores.hd95 == 10
    assert (scores.n_lesions, scores.n_missed) == (1, 0)


def test_scores_of_the_whole_region_alongside() -> None:
    """8 voxels elsewhere: 2023 counts them, 2024 removes them before everything."""
    truth, prediction = _cubes([(10, 6)]), _cubes([(10, 6), (40, 2)])
    scores = lesion_wise_region(prediction, truth, ONE, "brats2023-gli", "ET")
    assert scores.legacy_dice == pytest.approx(432 / 440)
    assert scores.legacy_hd95 == pytest.approx(42.755, abs=5e-4)
    assert scores.specificity == pytest.approx(1 - 8 / (64**3 - 216))
    assert (scores.n_found, scores.n_false_positives) == (1, 1)
    scores = lesion_wise_region(prediction, truth, ONE, "brats2024-gli", "ET")
    assert (scores.legacy_dice, scores.legacy_hd95, scores.specificity) == (1, 0, 1)
    assert scores.n_false_positives == 0
    missed = lesion_wise_region(_cubes([]), _cubes([(10, 3)]), ONE, "brats2023-gli", "ET")
    assert (missed.legacy_dice, missed.legacy_hd95, missed.n_lesions, missed.n_ignored) == (0, 374, 0, 1)


def test_a_lesion_that_is_too_small_to_count_still_excuses_its_prediction() -> None:
    """A prediction on a true lesion of 27 mm³ is no false positive; the lesion itself does not count."""
    scores = lesion_wise_region(_cubes([(10, 3)]), _cubes([(10, 3)]), ONE, "brats2023-gli", "WT")
    assert (scores.dice, scores.n_lesions, scores.n_false_positives) == (1, 0, 0)


@pytest.mark.parametrize(("size", "counts"), [(50, False), (51, True)])
def test_the_volume_must_be_exceeded(size: int, counts: bool) -> None:
    truth = np.zeros((80, 5, 5), dtype=bool)
    truth[2 : 2 + size, 2, 2] = True
    assert lesion_wise_region(~truth & False, truth, ONE, "brats2023-gli", "ET").n_lesions == counts
    doubled = lesion_wise_region(~truth & False, truth, (1, 1, 2), "brats2023-gli", "ET")
    assert doubled.n_lesions == 1  # mm³, not voxels


def test_men_rt() -> None:
    """False positives cost nothing, a missed lesion the diagonal in voxels."""
    empty, block, far = _cubes([], 40), _cubes([(5, 6)], 40), _cubes([(5, 6), (30, 6)], 40)
    spacing = (1.0, 2.0, 1.0)
    more = lesion_wise({"GTV": far}, {"GTV": block}, spacing, "brats2024-men-rt")["GTV"]
    assert (more.dice, more.hd95, more.n_false_positives) == (1, 0, 1)
    invented = lesion_wise({"GTV": block}, {"GTV": empty}, spacing, "brats2024-men-rt")["GTV"]
    assert (invented.dice, invented.hd95, invented.legacy_dice) == (1, 0, 0)
    assert invented.legacy_hd95 == pytest.approx(40 * math.sqrt(3))
    missed = lesion_wise({"GTV": empty}, {"GTV": block}, spacing, "brats2024-men-rt")["GTV"]
    assert (missed.dice, missed.hd95) == (0, pytest.approx(40 * math.sqrt(3)))


def _slow(
    masks: dict[str, tuple[np.ndarray, np.ndarray]], region: str, task: LesionTask
) -> tuple[float, float, int, int]:
    """The definition of the challenges, lesion by lesion on the whole image. 1 mm."""

    def lesions(mask: np.ndarray, rule: LesionRule, merge: bool) -> list[np.ndarray]:
        parts = cc3d.connected_components(mask, connectivity=26)
        parts = [parts == number for number in range(1, parts.max() + 1)]
        if not merge:
            return parts
        dilated = cc3d.connected_components(binary_dilation(mask, STEP, rule.dilation), connectivity=26)
        groups = [[part for part in parts if (dilated[part] == number).all()] for number in range(1, dilated.max() + 1)]
        return [np.logical_or.reduce(group) for group in groups]

    def of(name: str, truth: bool) -> list[np.ndarray]:
        rule = task.regions[name]
        parts = lesions(masks[name][truth], rule, truth or task.merge_predictions)
        if not truth and task.remove_small_predictions:
            parts = [part for part in parts if part.sum() > rule.min_volume]
        return parts

    def join(parts: list[np.ndarray], others: list[np.ndarray]) -> list[np.ndarray]:
        first = [
            next((i for i, other in enumerate(others) if (binary_dilation(part, STEP) & other).any()), None)
            for part in parts
        ]
        together = [
            np.logical_or.reduce([part for part, i in zip(parts, first, strict=True) if i == number])
            for number in sorted({i for i in first if i is not None})
        ]
        return together + [part for part, i in zip(parts, first, strict=True) if i is None]

    rule = task.regions[region]
    predicted, true = of(region, False), of(region, True)
    for other in rule.joined_by:
        predicted, true = join(predicted, of(other, False)), join(true, of(other, True))

    dices, hd95s, counted, met = 0.0, 0.0, 0, set()
    for lesion in true:
        near = binary_dilation(lesion, STEP, rule.dilation)
        hits = [i for i, part in enumerate(predicted) if (part & near).any()]
        met.update(hits)
        if lesion.sum() <= rule.min_volume:
            continue
        counted += 1
        if not hits:
            hd95s += task.penalty
            continue
        pair = MaskPair(np.logical_or.reduce([predicted[i] for i in hits]), lesion, ONE)
        dices, hd95s = dices + dice(pair), hd95s + hd95_area(pair)
    false = len(predicted) - len(met)
    hd95s += false * task.penalty
    total = counted + false
    return (dices / total, hd95s / total, counted, false) if total else (1.0, 0.0, 0, 0)


def _many_lesions(seed: int, regions: tuple[str, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Boxes in random places, half of them predicted with a shift, and predictions of nothing."""
    rng = np.random.default_rng(seed)
    shape = (48, 40, 44)
    masks = {}
    for region in regions:
        truth, prediction = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        for _ in range(9):
            low, size = rng.integers(-1, 40, 3), rng.integers(1, 6, 3)
            shift, kind = rng.integers(-2, 3, 3), rng.integers(4)
            if kind != 0:
                truth[tuple(slice(max(a, 0), max(a + n, 0)) for a, n in zip(low, size, strict=True))] = True
            if kind != 1:
                low = low + shift
                prediction[tuple(slice(max(a, 0), max(a + n, 0)) for a, n in zip(low, size, strict=True))] = True
        masks[region] = (prediction, truth)
    return masks


@pytest.mark.parametrize("name", ["brats2023-gli", "brats2023-met", "brats2024-gli", "brats2024-met", "brats2024-ped"])
@pytest.mark.parametrize("seed", range(2))
def test_many_lesions_against_the_slow_way(name: str, seed: int) -> None:
    task = LESION_TASKS[name]
    masks = _many_lesions(seed, tuple(task.regions))
    scores = lesion_wise(
        {region: pair[0] for region, pair in masks.items()},
        {region: pair[1] for region, pair in masks.items()},
        ONE,
        task,
    )
    assert tuple(scores) == task.reported
    for region, score in scores.items():
        wanted_dice, wanted_hd95, counted, false = _slow(masks, region, task)
        assert (score.n_lesions, score.n_false_positives) == (counted, false), region
        assert (score.dice, score.hd95) == (pytest.approx(wanted_dice), pytest.approx(wanted_hd95)), region
        assert score.n_found + score.n_missed == score.n_lesions == len(score.lesions)


def _gli_2024(**masks: np.ndarray) -> dict[str, np.ndarray]:
    shape = next(iter(masks.values())).shape
    return {name: masks.get(name, np.zeros(shape, dtype=bool)) for name in LESION_TASKS["brats2024-gli"].regions}


def test_2024_gli_joins_lesions_of_et_around_one_cavity() -> None:
    """Two ET lesions far apart that touch one resection cavity are one lesion; without the cavity they are two."""
    first, second, cavity = (np.zeros((60, 20, 20), dtype=bool) for _ in range(3))
    first[5:11, 5:11, 5:11] = True
    second[41:47, 5:11, 5:11] = True
    cavity[11:41, 5:11, 5:11] = True
    both = first | second
    apart = lesion_wise(_gli_2024(ET=first), _gli_2024(ET=both), ONE, "brats2024-gli")["ET"]
    assert (apart.n_lesions, apart.n_missed, apart.dice) == (2, 1, 0.5)
    one = lesion_wise(_gli_2024(ET=first, RC=cavity), _gli_2024(ET=both, RC=cavity), ONE, "brats2024-gli")["ET"]
    assert (one.n_lesions, one.n_missed, one.n_false_positives) == (1, 0, 0)
    assert one.dice == pytest.approx(2 / 3)
    assert one.hd95 == 36
    alone = lesion_wise_region(first, both, ONE, "brats2024-gli", "ET")
    assert alone.n_lesions == 2


GLI_JOINS = [(name, by) for name, rule in LESION_TASKS["brats2024-gli"].regions.items() for by in rule.joined_by]


@pytest.mark.parametrize(("region", "other"), GLI_JOINS)
def test_2024_gli_joins(region: str, other: str) -> None:
    ends, between = np.zeros((60, 12, 12), dtype=bool), np.zeros((60, 12, 12), dtype=bool)
    ends[5:11, 3:9, 3:9] = ends[41:47, 3:9, 3:9] = True
    between[11:41, 3:9, 3:9] = True
    case = _gli_2024(**{region: ends, other: between})
    assert lesion_wise(case, case, ONE, "brats2024-gli")[region].n_lesions == 1


def test_the_2024_joins() -> None:
    assert GLI_JOINS == [
        ("NETC", "ET"), ("NETC", "RC"), ("SNFH", "ET"), ("SNFH", "RC"), ("SNFH", "NETC"),
        ("ET", "NETC"), ("ET", "RC"), ("RC", "ET"), ("RC", "NETC"),
    ]  # fmt: skip


def test_joins_follow_each_other() -> None:
    """ET - NETC - ET - RC - ET: the first join makes two lesions of three, the second one of two."""
    row = {"ET": [(0, 4), (20, 24), (40, 44)], "NETC": [(4, 20)], "RC": [(24, 40)]}
    masks = {name: np.zeros((44, 4, 4), dtype=bool) for name in row}
    for name, parts in row.items():
        for start, stop in parts:
            masks[name][start:stop] = True
    case = _gli_2024(**masks)
    assert lesion_wise(case, case, ONE, "brats2024-gli")["ET"].n_lesions == 1


def test_a_lesion_that_touches_two_joins_the_first() -> None:
    lesions, others = np.zeros((12, 2, 1), dtype=bool), np.zeros((12, 2, 1), dtype=bool)
    lesions[0:3, 0] = lesions[4:7, 0] = lesions[8:10, 0] = True
    others[1:6, 1] = others[7:10, 1] = True  # touch the first two, and the last two
    result = joined(separate(lesions), separate(others))
    assert result.count == 2
    assert sorted(np.bincount(result.labels.ravel())[1:]) == [2, 6]


def test_which_comes_first_is_decided_by_the_dilated_lesions_in_the_whole_image() -> None:
    """Cavity r1 starts 2 voxels before r2 along the first axis, also where the dilation leaves the box around all."""
    shape = (30, 100, 12)
    et, rc = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    rc[10:13, 60:80, 5:8] = rc[12:15, 20:30, 5:8] = True  # r1, r2
    et[12:14, 30:60, 5:8] = True  # touches both: 180 voxels
    et[12:14, 80:83, 5:8] = True  # touches r1: 18
    et[12:14, 15:20, 5:8] = True  # touches r2: 30
    case = _gli_2024(ET=et, RC=rc)
    scores = lesion_wise(case, case, ONE, "brats2024-gli")["ET"]
    assert sorted(lesion.volume for lesion in scores.lesions) == [30, 198]


def test_2024_met_joins_lesions_of_et_around_one_necrosis() -> None:
    """NETC need not be given: it is TC without ET."""
    core, enhancing = np.zeros((60, 20, 20), dtype=bool), np.zeros((60, 20, 20), dtype=bool)
    core[5:47, 5:11, 5:11] = True
    enhancing[5:11, 5:11, 5:11] = enhancing[41:47, 5:11, 5:11] = True
    case = {"WT": core, "TC": core, "ET": enhancing}
    for task, lesions in (("brats2024-met", 1), ("brats2023-met", 2)):
        scores = lesion_wise(case, case, ONE, task)
        assert tuple(scores) == ("WT", "TC", "ET")
        assert (scores["ET"].n_lesions, scores["ET"].dice) == (lesions, 1)
    explicit = lesion_wise({**case, "NETC": core & False}, {**case, "NETC": core & False}, ONE, "brats2024-met")
    assert explicit["ET"].n_lesions == 2


def test_2024_predicted_components_merge() -> None:
    """Two predicted parts of 8 voxels, 4 apart: one lesion of 16, kept for ET (> 10), removed for WT (<= 20)."""
    truth = np.zeros((40, 20, 20), dtype=bool)
    prediction = truth.copy()
    prediction[5:7, 5:7, 5:7] = prediction[11:13, 5:7, 5:7] = True
    assert lesion_wise_region(prediction, truth, ONE, "brats2024-gli", "ET").n_false_positives == 1
    assert lesion_wise_region(prediction, truth, ONE, "brats2024-gli", "WT").n_false_positives == 0
    assert lesion_wise_region(prediction, truth, ONE, "brats2023-gli", "ET").n_false_positives == 2
    thick = lesion_wise_region(prediction, truth, (1.0, 1.0, 2.0), "brats2024-gli", "WT")
    assert thick.n_false_positives == 1  # 32 mm³


def test_nothing_anywhere() -> None:
    empty = np.zeros((9, 9, 9), dtype=bool)
    for name, task in LESION_TASKS.items():
        case = dict.fromkeys(task.regions, empty)
        for region, scores in lesion_wise(case, case, ONE, name).items():
            assert (scores.dice, scores.hd95, scores.legacy_dice, scores.legacy_hd95) == (1, 0, 1, 0), region
            assert (scores.sensitivity, scores.specificity, scores.lesions) == (1, 1, ())


@pytest.mark.parametrize("steps", [1, 3])
def test_dilation_against_scipy(steps: int) -> None:
    """18 neighbours, and the image border as scipy has it."""
    mask = np.random.default_rng(0).random((15, 9, 12)) < 0.01
    mask[0, 0, 0] = True
    assert np.array_equal(dilated(mask, steps), binary_dilation(mask, STEP, steps))
    assert dilated(np.ones((1, 1, 1), dtype=bool), 2).all()


def test_bad_input() -> None:
    block = _cubes([(2, 3)], 9)
    case = dict.fromkeys(("WT", "TC", "ET"), block)
    with pytest.raises(InputError, match="task 'brats1999' is unknown"):
        lesion_wise(case, case, ONE, "brats1999")
    with pytest.raises(InputError, match="needs a mask of region ET"):
        lesion_wise({"WT": block, "TC": block}, case, ONE, "brats2023-gli")
    with pytest.raises(InputError, match="needs a mask of region NETC"):
        lesion_wise(case, case, ONE, "brats2024-gli")
    with pytest.raises(InputError, match="different shapes"):
        lesion_wise({**case, "ET": block[:5]}, {**case, "ET": block[:5]}, ONE, "brats2023-gli")
    with pytest.raises(InputError, match="defined for volumes"):
        lesion_wise_region(block[0], block[0], (1.0, 1.0), "brats2023-gli", "ET")
    with pytest.raises(InputError, match="one per axis"):
        lesion_wise(case, case, (1.0, 1.0), "brats2023-gli")
    with pytest.raises(InputError, match="holds 2"):
        lesion_wise(case, {**case, "ET": 2 * block}, ONE, "brats2023-gli")
