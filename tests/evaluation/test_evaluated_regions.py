"""What a data set is evaluated on."""

from __future__ import annotations

import pytest

from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.lesion_tasks import lesion_task
from nnunetv2_mmkd.evaluation.regions import evaluated_regions, label_values

CLASSES = {"background": 0, "edema": 1, "necrosis_non_enhancing": 2, "enhancing": 3}
REGIONS = {"background": 0, "whole_tumor": [1, 2, 3], "tumor_core": [2, 3], "enhancing_tumor": [3]}
BRATS = {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)}


@pytest.mark.parametrize("labels", [CLASSES, REGIONS])
@pytest.mark.parametrize("edition", ["brats2018", "BraTS2018"])
def test_edition_decides_whatever_the_labels_are(labels: dict[str, object], edition: str) -> None:
    found = evaluated_regions({"edition": edition, "labels": labels})
    assert found == BRATS and list(found) == ["WT", "TC", "ET"]


def test_without_an_edition_what_is_declared() -> None:
    assert evaluated_regions({"labels": REGIONS}) == BRATS
    assert evaluated_regions({"labels": {"background": 0, "LV": 2, "MYO": 1, "ignore": 3}}) == {"LV": (2,), "MYO": (1,)}
    assert evaluated_regions({"edition": "mine", "labels": {"background": 0, "x": 1}}) == {"x": (1,)}


def test_label_values() -> None:
    assert label_values({"labels": REGIONS}) == ({0, 1, 2, 3}, None)
    assert label_values({"labels": {"background": 0, "a": 1, "ignore": 2}}) == ({0, 1, 2}, 2)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"labels": {"background": 0, "ignore": 1}}, "no label but the background"),
        ({}, "has no 'labels'"),
        ({"edition": "brats2018", "labels": {"background": 0, "tumour": 1}}, "BraTS 2018 has the label 2"),
    ],
)
def test_refused(dataset: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluated_regions(dataset)


@pytest.mark.parametrize("task", ["brats2023-gli", "brats2024-gli", "brats2024-ped", "brats2024-met", "fets2024"])
def test_an_edition_has_the_regions_of_its_task(task: str) -> None:
    labels = {"background": 0, "a": 1, "b": 2, "c": 3, "d": 4}
    assert set(evaluated_regions({"labels": labels, "edition": task})) >= set(lesion_task(task).reported)


def test_myops_is_scored_as_its_papers_do() -> None:
    labels = {"background": 0, "myocardium": 1, "lv": 2, "rv": 3, "edema": 4, "scar": 5}
    found = evaluated_regions({"labels": labels, "edition": "myops2020"})
    assert found == {"scar": (5,), "edema_scar": (4, 5), "LV": (2,), "RV": (3,), "MYO": (1, 4, 5)}
    on_disk = {"scar": (2221,), "edema_scar": (1220, 2221), "LV": (500,), "RV": (600,), "MYO": (200, 1220, 2221)}
    numbers = EDITIONS["myops2020"].label_map
    assert found == {name: tuple(numbers[value] for value in values) for name, values in on_disk.items()}
    with pytest.raises(InputError, match="label 2"):
        evaluated_regions({"labels": {"background": 0, "myocardium": 1}, "edition": "myops2020"})
