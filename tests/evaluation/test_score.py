"""From folders of segmentations to the long table: hand-made masks, and cached rows."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from score_folders import BRATS, CLASSES, DICE, INF, Folders, line, rows, save

import nnunetv2_mmkd.evaluation.score as module
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.empty import LEGACY_PENALTY
from nnunetv2_mmkd.evaluation.score import Predictions, ScoreSettings, score


def test_the_long_table_by_hand(folders: Folders) -> None:
    folders.truth(c1=line(1, 1, 2, 3), c2=line(0, 1))
    folders.prediction("t1", "c1", line(1, 1, 2, 2))
    folders.prediction("t1+t2", "c1", line(1, 1, 2, 3))
    folders.prediction("t1", "c2", line(0, 0, 0, 1, 1, 1))
    table = folders.score({"c1": ("t1", "t1+t2"), "c2": ("t1",)}, settings=ScoreSettings(("dice", "hausdorff")))
    expected = [
        ("t1", "WT", 1.0, 0.0), ("t1", "TC", 1.0, 0.0), ("t1", "ET", 0.0, LEGACY_PENALTY),
        ("t1+t2", "WT", 1.0, 0.0), ("t1+t2", "TC", 1.0, 0.0), ("t1+t2", "ET", 1.0, 0.0),
    ]  # fmt: skip
    first = [("a", "c1", s, r, m, v) for s, r, d, h in expected for m, v in (("dice", d), ("hausdorff", h))]
    last = [("WT", 0.0, 4.0), ("TC", 1.0, 0.0), ("ET", 1.0, 0.0)]
    second = [("a", "c2", "t1", r, m, v) for r, d, h in last for m, v in (("dice", d), ("hausdorff", h))]
    assert rows(table) == first + second
    assert list(table.columns) == ["method", "case", "subset", "region", "metric", "value"]
    assert table["value"].dtype == np.float64


def test_partial_overlap_and_spacing(folders: Folders) -> None:
    affine = np.diag([2.0, 1.0, 1.0, 1.0])
    save(folders.labels / "c.nii.gz", line(1, 1, 2, 2), affine)
    folders.prediction("t1", "c", line(0, 1, 1, 2, 2, 2), affine=affine)
    table = folders.score({"c": ("t1",)}, CLASSES, ScoreSettings(("dice", "hausdorff", "sensitivity", "precision")))
    found = {(region, metric): value for *_, region, metric, value in rows(table)}
    assert found["LV", "dice"] == 0.5 and found["LV", "hausdorff"] == 2.0
    assert found["MYO", "dice"] == pytest.approx(2 / 5) and found["MYO", "hausdorff"] == 4.0
    assert found["MYO", "sensitivity"] == 0.5 and found["MYO", "precision"] == pytest.approx(1 / 3)


def test_edition_converted_as_classes_is_evaluated_on_its_regions(folders: Folders) -> None:
    folders.truth(c=line(1, 2, 3))
    folders.prediction("t1", "c", line(1, 1, 3))
    labels = {"background": 0, "edema": 1, "necrosis_non_enhancing": 2, "enhancing": 3}
    table = folders.score({"c": ("t1",)}, {**BRATS, "edition": "brats2018", "labels": labels})
    assert [row[3:] for row in rows(table)] == [
        ("WT", "dice", 1.0),
        ("TC", "dice", pytest.approx(2 / 3)),
        ("ET", "dice", 1.0),
    ]


def test_ignored_voxels_do_not_count(folders: Folders) -> None:
    dataset = {**CLASSES, "labels": {**CLASSES["labels"], "ignore": 3}}  # type: ignore[dict-item]
    folders.truth(c=line(1, 1, 3, 3, 3))
    prediction = folders.prediction("t1", "c", line(1, 1, 1, 1, 2))
    table = folders.score({"c": ("t1",)}, dataset)
    assert [row[3:] for row in rows(table)] == [("LV", "dice", 1.0), ("MYO", "dice", 1.0)]
    save(prediction, line(1, 1, 3))
    with pytest.raises(InputError, match="holds the label 3; this data set has 0, 1, 2"):
        folders.score({"c": ("t1",)}, dataset)


@pytest.mark.parametrize("again", [False, True])
def test_undefined_stays_nan(folders: Folders, again: bool) -> None:
    folders.truth(c=line(1))
    folders.prediction("t1", "c", line(0, 2))
    settings = ScoreSettings(("dice", "hausdorff"), empty="nan")
    for _ in range(1 + again):
        table = folders.score({"c": ("t1",)}, settings=settings)
    values = {(region, metric): value for *_, region, metric, value in rows(table)}
    assert values["TC", "dice"] == 0.0 and values["TC", "hausdorff"] == INF
    assert math.isnan(values["ET", "dice"]) and math.isnan(values["ET", "hausdorff"])


def test_lesion_wise_columns_are_added(folders: Folders) -> None:
    truth = np.zeros((30, 12, 12), np.uint8)
    truth[2:8, 2:8, 2:8] = 3
    truth[20:26, 2:8, 2:8] = 3
    half = truth.copy()
    half[20:26] = 0
    folders.truth(c=truth)
    folders.prediction("t1", "c", half)
    plain = folders.score({"c": ("t1",)})
    table = folders.score({"c": ("t1",)}, settings=ScoreSettings(("dice",), task="brats2023-gli"))
    found = {(region, metric): value for *_, region, metric, value in rows(table)}
    for region in ("WT", "TC", "ET"):
        assert found[region, "dice"] == pytest.approx(2 / 3)
        assert found[region, "lesion_dice@brats2023-gli"] == pytest.approx(0.5)
        assert found[region, "lesion_hd95@brats2023-gli"] == pytest.approx(374 / 2)
    assert rows(table[table["metric"] == "dice"]) == rows(plain)
    only = folders.score({"c": ("t1",)}, settings=ScoreSettings((), task="brats2023-gli"))
    assert "dice" not in set(only["metric"]) and len(only) == len(table) - 3


def test_postprocessed_rows_are_added(folders: Folders) -> None:
    folders.truth(c=line(1, 1))
    folders.prediction("t1", "c", line(1, 3, 3))
    plain = folders.score({"c": ("t1",)})
    table = folders.score({"c": ("t1",)}, settings=ScoreSettings(("dice",), et_threshold=3))
    extra = table[table["metric"] != "dice"]
    assert rows(extra) == [("a", "c", "t1", "ET", "dice_postprocessed", 1.0)]
    assert rows(table[table["metric"] == "dice"]) == rows(plain) and rows(plain)[2][-1] == 0.0
    kept = folders.score({"c": ("t1",)}, settings=ScoreSettings(("dice",), et_threshold=2))
    assert rows(kept)[-1][4:] == ("dice_postprocessed", 0.0)


@pytest.mark.parametrize("dataset", [BRATS, CLASSES])
def test_rows_are_cached(folders: Folders, measured: list[str], dataset: Mapping[str, Any]) -> None:
    folders.truth(c=line(1, 1, 2), d=line(2))
    for case in "cd":
        for subset in ("t1", "t2", "t1+t2"):
            folders.prediction(subset, case, line(1, 2, len(subset) % 3))
    expected = {"c": ("t1", "t2", "t1+t2"), "d": ("t2",)}
    first = folders.score(expected, dataset)
    assert measured == ["t1", "t2", "t1+t2", "t2"]
    pd.testing.assert_frame_equal(folders.score(expected, dataset), first, check_exact=True)
    fewer = folders.score({"c": ("t1+t2", "t1")}, dataset)
    assert list(fewer["subset"].unique()) == ["t1+t2", "t1"]
    assert len(measured) == 4
    more = folders.score({"c": ("t2",), "d": ("t1", "t2")}, dataset)
    assert measured[4:] == ["t1"] and list(more["subset"].unique()) == ["t2", "t1"]


def test_rows_of_changed_files_are_made_anew(folders: Folders, measured: list[str]) -> None:
    folders.truth(c=line(1, 1))
    one, two = (folders.prediction(subset, "c", line(1)) for subset in ("t1", "t2"))
    expected = {"c": ("t1", "t2")}
    folders.score(expected)
    measured.clear()
    save(one, line(1, 1))
    assert [row[-1] for row in rows(folders.score(expected)) if row[3] == "WT"] == [1.0, pytest.approx(2 / 3)]
    assert measured == ["t1"]
    # An older file in the place of a newer one is another file too.
    save(two, line(1, 1))
    os.utime(two, (1e9, 1e9))
    assert [row[-1] for row in rows(folders.score(expected)) if row[3] == "WT"] == [1.0, 1.0]
    assert measured == ["t1", "t2"]
    folders.truth(c=line(1, 1, 1, 1))
    assert [row[-1] for row in rows(folders.score(expected)) if row[3] == "WT"] == [pytest.approx(2 / 3)] * 2
    assert measured == ["t1", "t2", "t1", "t2"]


def test_rows_of_other_settings_regions_or_folders_are_not_used(folders: Folders, measured: list[str]) -> None:
    folders.truth(c=line(1, 3))
    folders.prediction("t1", "c", line(1))
    folders.prediction("t1", "c", line(1, 3), method="b")
    os.utime(folders.root / "b" / "t1" / "c.nii.gz", (1e9, 1e9))
    expected = {"c": ("t1",)}
    folders.score(expected)
    assert folders.score(expected, settings=ScoreSettings(("dice",), empty="nan"))["value"].tolist()[1] == 0.0
    swapped = {**BRATS, "labels": {"background": 0, "edema": 1, "ET": 3}}
    assert folders.score(expected, swapped)["region"].tolist() == ["edema", "ET"]
    other = [Predictions("a", folders.root / "b", expected)]
    table = score(other, folders.labels, BRATS, DICE, folders.cache, progress=False).rows
    assert table["value"].tolist() == [1.0, 1.0, 1.0] and len(measured) == 4


@pytest.mark.parametrize("what", ["path", "time", "size"])
def test_one_difference_makes_another_file(folders: Folders, what: str) -> None:
    plain = {**CLASSES, "file_ending": ".nii"}
    save(folders.labels / "c.nii", line(1))
    first, second = (save(folders.root / method / "t1" / "c.nii", line(0)) for method in "ab")
    os.utime(first, (1e9, 1e9))
    assert folders.score({"c": ("t1",)}, plain)["value"].tolist() == [0.0, 1.0]
    changed = second if what == "path" else first
    save(changed, line(1).astype("uint16" if what == "size" else "uint8"))
    os.utime(changed, (1e9, 1e9 + (what == "time")))
    entry = Predictions("a", changed.parents[1], {"c": ("t1",)})
    table = score([entry], folders.labels, plain, DICE, folders.cache, progress=False).rows
    assert table["value"].tolist() == [1.0, 1.0]


def test_damaged_cached_rows_are_made_anew(folders: Folders, measured: list[str]) -> None:
    folders.truth(c=line(1))
    folders.prediction("t1", "c", line(1))
    first = folders.score({"c": ("t1",)})
    (kept,) = folders.cache.rglob("*.csv")
    for text in ("", "method,case\n", kept.read_text()[:-20]):
        kept.write_text(text)
        assert rows(folders.score({"c": ("t1",)})) == rows(first)
    assert len(measured) == 4


def test_two_processes_give_the_same_table(folders: Folders) -> None:
    cases = {f"c{i}": line(*[1 + (i + j) % 3 for j in range(6)]) for i in range(4)}
    folders.truth(**cases)
    for i, case in enumerate(cases):
        for subset in ("t1", "t2"):
            folders.prediction(subset, case, line(*[(i * j + len(subset)) % 4 for j in range(7)]))
    expected = dict.fromkeys(reversed(cases), ("t2", "t1"))
    settings = ScoreSettings(("dice", "hd95"), empty="nan")
    together = folders.score(expected, settings=settings, processes=2)
    folders.cache = folders.root / "again"
    pd.testing.assert_frame_equal(folders.score(expected, settings=settings), together, check_exact=True)
    assert list(together["case"].unique()) == ["c3", "c2", "c1", "c0"]
    truth = save(folders.labels / "c1.nii.gz", line(7))
    with pytest.raises(InputError, match=f"{truth}: holds the label 7"):
        folders.score(expected, settings=settings, processes=2)


def test_a_killed_process_is_named(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    folders.truth(c=line(1), d=line(1))
    for case in "cd":
        folders.prediction("t1", case, line(1))

    class Pool:
        def __init__(self, *args: object, **kwargs: object) -> None:
            pass

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *args: object) -> None:
            pass

        def map(self, *args: object) -> object:
            raise module.BrokenProcessPool("gone")

    monkeypatch.setattr(module, "ProcessPoolExecutor", Pool)
    with pytest.raises(InputError, match=r"2 processes .* lack of memory: use fewer"):
        folders.score({"c": ("t1",), "d": ("t1",)}, processes=2)
