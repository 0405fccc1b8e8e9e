"""Labels are matched by name: values of one data set in terms of another's, or a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.label_names import check_same_labels, label_meanings, translation

OWN = {"background": 0, "edema": 1, "necrosis_non_enhancing": 2, "enhancing": 3}
REGIONS = {"whole_tumor": [1, 2, 3], "tumor_core": [2, 3], "enhancing_tumor": [3]}
WANTED = label_meanings({**OWN, **REGIONS})


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (OWN, {0: 0, 1: 1, 2: 2, 3: 3}),
        ({"background": 0, **REGIONS}, {0: 0, 1: 1, 2: 2, 3: 3}),
        ({"background": 0, "NCR": 1, "ED": 2, "ET": 3, "ignore": 4}, {0: 0, 1: 2, 2: 1, 3: 3}),
        ({"background": 0, "WT": [1, 2, 4], "TC": [1, 4], "ET": 4}, {0: 0, 1: 2, 2: 1, 4: 3}),
        ({"background": 0, "WT": [1, 2, 3], "ET": 3}, {0: 0, 1: 1, 2: 2, 3: 3}),
    ],
)
def test_translation(labels: dict[str, Any], expected: dict[int, int]) -> None:
    assert translation(label_meanings(labels), WANTED, "file") == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0, "lesion": 1}, "file: the label 'lesion' is unknown; expected edema"),
        ({"background": 0, "WT": [1], "ET": [2]}, "label 2 lies in et; expected labels have no value for that"),
        ({"background": 0, "WT": [4]}, "label 4 lies in wt; expected labels have several values"),
    ],
)
def test_no_translation(labels: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        translation(label_meanings(labels), WANTED, "file")


def test_the_same_labels() -> None:
    same = label_meanings({"background": 0, "WT": [3, 2, 1], "ET": 3, "else": 1})
    check_same_labels(same, WANTED, "one", "other")
    check_same_labels(label_meanings({"tumour": 1}), label_meanings({"lesion": 1}), "one", "other")
    with pytest.raises(InputError, match=r"^one: the label 'edema' has the values 2, in other it has 1"):
        check_same_labels(label_meanings({"ED": 2, "NCR": 1}), WANTED, "one", "other")
    with pytest.raises(InputError, match="one names the labels a, b, other c: they cannot be compared"):
        check_same_labels(label_meanings({"a": 1, "b": 2}), label_meanings({"c": 1}), "one", "other")


def test_names_that_are_two_things_stay_apart() -> None:
    labels = {"necrosis": 1, "edema": 2, "NET": 3, "ET": 4}
    assert label_meanings(labels) == {"necrosis": {1}, "edema": {2}, "net": {3}, "et": {4}}


@pytest.mark.parametrize("name", EDITIONS)
def test_every_edition_understands_itself(name: str) -> None:
    spec = EDITIONS[name]
    for style in ("classes", *(["regions"] if spec.regions else [])):
        labels = spec.dataset_labels(style)[0]
        values = translation(label_meanings(labels), spec.label_meanings(), name)
        assert values == {value: value for value in set(spec.label_map.values())}
