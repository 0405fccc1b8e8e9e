"""Segmentations that are not scored: what is absent, on another grid, or no label map."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from score_folders import BRATS, CLASSES, DICE, NAN, Folders, line, save

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.score import Predictions, ScoreSettings, score


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
