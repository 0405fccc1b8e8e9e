"""Nothing of an edition is absent by a slip of a name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.editions.discover import discover
from nnunetv2_mmkd.errors import InputError

BRATS, MYOPS = EDITIONS["brats2018"], EDITIONS["myops2020"]
CASE = "Brats18_A_1"


def brats(root: Path, *endings: str, case: str = CASE) -> Path:
    (root / case).mkdir(parents=True, exist_ok=True)
    for ending in endings:
        (root / case / f"{CASE}{ending}").write_bytes(b"")
    return root


def folder(path: Path) -> None:
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "make", "what"),
    [
        (f"{CASE}_t1ce.nii.gz.part", empty, "T1ce"),
        (f"{CASE}_t1ce copy.nii.gz", empty, "T1ce"),
        (f"{CASE}_T1CE (1).nii.gz", empty, "T1ce"),
        (f"{CASE}_t1ce.mgz", empty, "T1ce"),
        (f"{CASE}_t1gd", folder, "T1ce"),
        (f"{CASE} _t1ce.json", empty, "T1ce"),
        (f"._{CASE}_t1ce.nii.gz", empty, "T1ce"),
        (f"{CASE}_seg.nii.gz.part", empty, "segmentation"),
        (f"{CASE}_segmentation", folder, "segmentation"),
    ],
)
def test_in_a_case(tmp_path: Path, name: str, make: Callable[[Path], None], what: str) -> None:
    brats(tmp_path, "_t1.nii.gz", "_flair.nii.gz", "_t2.nii.gz")
    make(tmp_path / CASE / name)
    with pytest.raises(InputError, match=f"looks like the {what} of case {CASE}") as caught:
        discover(BRATS, [tmp_path])
    assert str(tmp_path / CASE / name) in str(caught.value)


def test_what_is_no_lookalike(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    brats(tmp_path, "_t1.nii.gz", "_flair.nii.gz", "_t2.nii.gz", "_t1.json", "_swi.nii.gz")
    for name in (".DS_Store", f"._{CASE}_t1.nii.gz", "notes.txt"):
        empty(tmp_path / CASE / name)
    (case,) = discover(BRATS, [tmp_path])
    assert [file is None for file in case.images] == [False, True, False, False] and case.label is None
    assert f"case {CASE}: no T1ce; not used: {CASE}_swi.nii.gz" in caplog.messages


@pytest.mark.parametrize("name", [f"{CASE} (1)", f"{CASE} copy", f"{CASE}.part", f"{CASE} ", f"{CASE}~"])
def test_copies_of_a_case(tmp_path: Path, name: str) -> None:
    brats(tmp_path, "_t1.nii.gz", case="Brats18_B_1")
    brats(tmp_path, "_t1.nii.gz", case=name)
    with pytest.raises(InputError, match=f"looks like the case {CASE}"):
        discover(BRATS, [tmp_path])


def test_cases_that_differ_in_letter_case(tmp_path: Path) -> None:
    brats(tmp_path / "one", "_t1.nii.gz")
    brats(tmp_path / "two", "_t1.nii.gz", case=CASE.lower())
    with pytest.raises(InputError, match="differ only in letter case or blanks"):
        discover(BRATS, [tmp_path])


@pytest.mark.parametrize("name", ["101_gd.nii.gz.part", "101_DE copy.nii.gz", "101_T2.mgz", "101_T2"])
def test_files_of_a_case(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    empty(tmp_path / "myops_training_101_C0.nii.gz")
    empty(tmp_path / "myops_training_101_C0.json")
    with caplog.at_level(logging.INFO):
        assert len(discover(MYOPS, [tmp_path])) == 1
    empty(tmp_path / f"myops_training_{name}")
    with pytest.raises(InputError, match="of case myops_training_101 that was not found"):
        discover(MYOPS, [tmp_path])
