"""The metric registry: names and parameters, what is measured, regions of a label map, post-processing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics import registry
from nnunetv2_mmkd.evaluation.metrics.distance import hd95
from nnunetv2_mmkd.evaluation.metrics.mask_pair import MaskPair
from nnunetv2_mmkd.evaluation.metrics.masks import region_masks
from nnunetv2_mmkd.evaluation.metrics.postprocessing import remove_small
from nnunetv2_mmkd.evaluation.metrics.registry import (
    LESION_METRICS,
    METRICS,
    measure,
    measure_lesions,
    metric_parameters,
)
from nnunetv2_mmkd.evaluation.metrics.spec import MetricSpec

ONE = (1.0, 1.0, 1.0)


def _cube(size: int, length: int = 20) -> np.ndarray:
    mask = np.zeros((length,) * 3, dtype=bool)
    mask[3 : 3 + size, 3 : 3 + size, 3 : 3 + size] = True
    return mask


def test_table_of_metrics() -> None:
    ratios, distances = {"dice", "sensitivity", "specificity", "precision", "nsd"}, {"hausdorff", "hd95", "hd95_area"}
    assert ratios | distances <= set(METRICS) and list(LESION_METRICS) == ["lesion_dice", "lesion_hd95", "lesion_nsd"]
    assert METRICS["hd95"] == MetricSpec("hd95", "HD95", "mm", higher_is_better=False, percent=False, function=hd95)
    tolerance = metric_parameters()["tolerance"]
    assert (tolerance.name, tolerance.default, tolerance.unit) == ("tolerance", 1.0, "mm")
    for name in (*ratios, *distances, *LESION_METRICS):
        metric = METRICS.get(name) or LESION_METRICS[name]
        ratio = name in ratios or name in ("lesion_dice", "lesion_nsd")
        assert (metric.percent, metric.higher_is_better, metric.unit == "") == (ratio,) * 3, name
    with pytest.raises(TypeError):
        METRICS["mine"] = METRICS["dice"]  # type: ignore[index]


def test_one_name_is_one_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(METRICS["nsd"].parameters[0], default=5.0)
    metrics = {**METRICS, "mine": replace(METRICS["dice"], name="mine", parameters=(other,))}
    monkeypatch.setattr(registry, "METRICS", metrics)
    with pytest.raises(ValueError, match="metric mine: its parameter 'tolerance' differs"):
        metric_parameters()


def test_measure_gives_what_is_asked_in_that_order() -> None:
    assert list(measure(_cube(4), _cube(5), ONE)) == list(METRICS)
    values = measure(_cube(4), _cube(5), ONE, ["nsd", "dice"], parameters={"tolerance": 3.0})
    assert list(values) == ["nsd", "dice"]
    assert values == pytest.approx({"nsd": 1.0, "dice": 128 / 189})
    assert all(type(value) is float for value in measure(_cube(4), _cube(5), ONE).values())


def test_surfaces_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    directed = MaskPair._directed
    monkeypatch.setattr(MaskPair, "_directed", lambda self, *pair: calls.append(1) or directed(self, *pair))
    measure(_cube(4), _cube(5), ONE, ["dice", "precision"])
    assert not calls
    measure(_cube(4), _cube(5), ONE)
    assert len(calls) == 2  # border voxels, surface elements


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="unknown metric 'dise'"):
        measure(_cube(4), _cube(4), ONE, ["dise"])
    with pytest.raises(InputError, match="by naming their task"):
        measure(_cube(4), _cube(4), ONE, ["lesion_dice"])
    with pytest.raises(InputError, match="no metric has a parameter 'width'; there are tolerance"):
        measure(_cube(4), _cube(4), ONE, ["nsd"], parameters={"width": 1.0})
    with pytest.raises(TypeError, match="lesion_dice is no metric of one pair"):
        LESION_METRICS["lesion_dice"].measure(MaskPair(_cube(4), _cube(4), ONE), {})


def test_measure_lesions() -> None:
    case = dict.fromkeys(("WT", "TC", "ET"), _cube(6))
    table = measure_lesions({**case, "ET": _cube(0)}, case, ONE, "brats2023-gli")
    assert table["ET"]["lesion_dice"] == 0
    assert table["ET"]["lesion_hd95"] == table["ET"]["legacy_hd95"] == 374
    assert table["ET"]["n_missed"] == 1
    assert table["WT"] == {
        "lesion_dice": 1.0,
        "lesion_hd95": 0.0,
        "legacy_dice": 1.0,
        "legacy_hd95": 0.0,
        "sensitivity": 1.0,
        "specificity": 1.0,
        "n_lesions": 1,
        "n_found": 1,
        "n_missed": 0,
        "n_false_positives": 0,
        "n_ignored": 0,
    }


def test_remove_small() -> None:
    mask = _cube(8)
    assert mask.sum() == 512
    assert remove_small(mask).sum() == 512
    assert remove_small(mask, 512).sum() == 512
    assert remove_small(mask, 513).sum() == 0
    assert mask.sum() == 512
    scattered = np.zeros((40, 40, 40), dtype=bool)
    scattered[::4, ::4, ::4] = True
    assert remove_small(scattered).sum() == 1000  # the whole region counts, not its components


def test_a_removed_prediction_is_an_empty_one() -> None:
    prediction, truth = _cube(5), _cube(0)
    assert measure(prediction, truth, ONE, ["dice"]) == {"dice": 0.0}
    assert measure(remove_small(prediction), truth, ONE, ["dice"]) == {"dice": 1.0}
    assert measure(remove_small(prediction, 125), truth, ONE, ["dice"]) == {"dice": 0.0}


def test_regions_of_a_label_map() -> None:
    labels = np.array([[0, 200, 500, 600, 1220, 2221]])
    regions = {"scar": (2221,), "edema_scar": (1220, 2221), "LV": (500,), "MYO": (200, 1220, 2221)}
    for array in (labels, labels.astype(np.float64)):
        masks = region_masks(array, regions)
        assert {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()} == {
            "scar": [5],
            "edema_scar": [4, 5],
            "LV": [2],
            "MYO": [1, 4, 5],
        }


def test_a_stack_of_slices_is_scored_as_one_volume() -> None:
    """Slices with Dice 1 and 0.5; as a volume 2 * 9 / 20."""
    truth, prediction = np.zeros((2, 8, 8), dtype=bool), np.zeros((2, 8, 8), dtype=bool)
    truth[0, :2, :4] = prediction[0, :2, :4] = True
    truth[1, 0, 0:2] = prediction[1, 0, 1:3] = True
    assert measure(prediction, truth, (15.0, 0.75, 0.75), ["dice"]) == {"dice": pytest.approx(18 / 20)}


@pytest.mark.parametrize("value", [np.nan, 0.5])
def test_a_segmentation_of_no_labels(value: float) -> None:
    with pytest.raises(InputError, match="segmentation: holds"):
        region_masks(np.array([0.0, value]), {"scar": (1,)})
