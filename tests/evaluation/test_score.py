"""From folders of segmentations to the long table: hand-made masks, cached rows, and what is refused."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import nnunetv2_mmkd.evaluation.score as module
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.empty import LEGACY_PENALTY
from nnunetv2_mmkd.evaluation.score import Predictions, ScoreSettings, score

NAN, INF = math.nan, math.inf
BRATS = {
    "channel_names": {"0": "T1", "1": "T2"},
    "file_ending": ".nii.gz",
    "labels": {"background": 0, "whole_tumor": [1, 2, 3], "tumor_core": [2, 3], "enhancing_tumor": [3]},
}
CLASSES = {
    "channel_names": {"0": "T1", "1": "T2"},
    "file_ending": ".nii.gz",
    "labels": {"background": 0, "LV": 1, "MYO": 2},
}
DICE = ScoreSettings(metrics=("dice",))


def line(*labels: int) -> np.ndarray:
    """A label map of 12 voxels in a row, in a small volume."""
    volume = np.zeros((12, 3, 3), np.uint8)
    volume[: len(labels), 1, 1] = labels
    return volume


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


class Folders:
    """Truth, predictions and cached rows below one folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.labels, self.cache = root, root / "labels", root / "cache"

    def truth(self, **cases: np.ndarray) -> None:
        for case, values in cases.items():
            save(self.labels / f"{case}.nii.gz", values)

    def prediction(self, subset: str, case: str, values: np.ndarray, method: str = "a", **options: Any) -> Path:
        return save(self.root / method / subset / f"{case}.nii.gz", values, **options)

    def predictions(self, expected: Mapping[str, Sequence[str]], method: str = "a") -> Predictions:
        return Predictions(method, self.root / method, expected)

    def score(
        self,
        expected: Mapping[str, Sequence[str]],
        dataset: Mapping[str, Any] = BRATS,
        settings: ScoreSettings = DICE,
        processes: int = 1,
    ) -> pd.DataFrame:
        return score(
            [self.predictions(expected)],
            self.labels,
            dataset,
            settings,
            self.cache,
            processes=processes,
            progress=False,
        ).rows


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the predictions that are measured, not taken from the cached rows."""
    found: list[str] = []
    real = module._measure

    def spy(prediction: Any, *args: Any) -> Any:
        found.append(prediction.path.parent.name)
        return real(prediction, *args)

    monkeypatch.setattr(module, "_measure", spy)
    return found


def rows(table: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(table.itertuples(index=False, name=None))


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


def test_absent_files_are_named_before_anything_is_scored(folders: Folders, measured: list[str]) -> None:
    folders.truth(c=line(1))
    folders.prediction("t1", "c", line(1))
    with pytest.raises(InputError, match=r"a: case c has no prediction with t1\+t2 \(.*t1\+t2/c\.nii\.gz\)"):
        folders.score({"c": ("t1", "t1+t2")})
    folders.prediction("t1", "d", line(1))
    with pytest.raises(InputError, match=r"case d has no label: .*labels/d\.nii\.gz"):
        folders.score({"c": ("t1",), "d": ("t1",)})
    for expected in ({}, {"c": ()}):
        with pytest.raises(InputError, match="no case to score"):
            folders.score(expected)
    assert measured == []


@pytest.mark.parametrize(
    ("shape", "affine", "what"),
    [
        ((12, 3, 4), np.eye(4), "shape"),
        ((12, 3, 3), np.diag([1, 1, 2, 1]), "voxel size"),
        ((12, 3, 3), np.eye(4) + np.outer([0, 5, 0, 0], [0, 0, 0, 1]), "up to 5 voxels away"),
    ],
)
def test_other_grid_is_named_before_anything_is_scored(
    folders: Folders, measured: list[str], shape: tuple[int, ...], affine: np.ndarray, what: str
) -> None:
    folders.truth(c=line(1), d=line(1))
    folders.prediction("t1", "c", line(1))
    folders.prediction("t1", "d", np.zeros(shape, np.uint8), affine=affine.astype(float))
    with pytest.raises(InputError, match=rf"case d: .*t1/d\.nii\.gz .*{what}.* d\.nii\.gz.*resample"):
        folders.score({"c": ("t1",), "d": ("t1",)})
    assert measured == []


@pytest.mark.parametrize("which", ["labels", "a/t1"])
def test_a_reoriented_file_scores_the_same(folders: Folders, which: str, caplog: pytest.LogCaptureFixture) -> None:
    folders.truth(c=line(1, 2, 3))
    folders.prediction("t1", "c", line(1, 2))
    expected = folders.score({"c": ("t1",)})
    file = folders.root / which / "c.nii.gz"
    nib.save(nib.load(file).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]])), file)
    found = folders.score({"c": ("t1",)})
    pd.testing.assert_frame_equal(found, expected)
    assert "case c: c.nii.gz is stored as" in caplog.text


@pytest.mark.parametrize("which", ["labels", "a/t1"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.where(line(1) == 1, np.nan, 0).astype("float32"), "voxels are NaN"),
        (line(1).astype("float32") * 0.4, "label value 0.4 is not a whole number; expected labels, not probabilities"),
        (line(4), "holds the label 4; this data set has 0, 1, 2, 3"),
        (None, "cannot be read"),
    ],
)
def test_bad_voxels_are_named(folders: Folders, which: str, values: np.ndarray | None, message: str) -> None:
    folders.truth(c=line(1, 2, 3))
    folders.prediction("t1", "c", line(1, 2, 3))
    bad = folders.root / which / "c.nii.gz"
    if values is None:
        bad.write_bytes(bad.read_bytes()[:-10])
    else:
        save(bad, values)
    with pytest.raises(InputError, match=rf"{which}/c\.nii\.gz: .*{message}"):
        folders.score({"c": ("t1",)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ("dicee",)}, "unknown metric 'dicee': choose from dice"),
        ({"metrics": ("lesion_dice",)}, "naming their task"),
        ({"metrics": ()}, "no metric"),
        ({"empty": "zero"}, "policy 'zero' is unknown"),
        ({"task": "brats1999"}, "task 'brats1999' is unknown"),
        ({"parameters": {"tolerance": -1.0}}, "tolerance -1.0"),
        ({"parameters": {"tolerance": NAN}}, "tolerance nan"),
        ({"parameters": {"width": 1.0}}, "parameter 'width'"),
        ({"et_threshold": -5}, "et_threshold -5"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ScoreSettings(**options)


def test_regions_that_the_data_set_lacks(folders: Folders, measured: list[str]) -> None:
    folders.truth(c=line(1))
    folders.prediction("t1", "c", line(1))
    expected = {"c": ("t1",)}
    with pytest.raises(InputError, match="BraTS 2024 PED need the region NETC; this data set has WT, TC, ET"):
        folders.score(expected, settings=ScoreSettings(task="brats2024-ped"))
    with pytest.raises(InputError, match="the region ET; this data set has LV, MYO"):
        folders.score(expected, CLASSES, ScoreSettings(et_threshold=10))
    with pytest.raises(InputError, match="no 'file_ending'"):
        folders.score(expected, {"labels": {"background": 0, "a": 1}})
    assert measured == []


def test_names_of_methods(folders: Folders) -> None:
    folders.truth(c=line(1))
    one = folders.predictions({"c": ("t1",)})
    for entries, message in (
        ([one, one], "two methods are called 'a'"),
        ([Predictions("../a", one.folder, one.expected)], "may hold no slash"),
    ):
        with pytest.raises(InputError, match=message):
            score(entries, folders.labels, BRATS, DICE, folders.cache, progress=False)
