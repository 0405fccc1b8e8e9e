"""Subset names, and the row order of result tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.subsets import all_subset_names, parse_subset, row_order, subset_name

BRATS = ("t1", "t1ce", "t2", "flair")


def test_name_is_canonical_and_in_channel_order() -> None:
    assert subset_name(["FLAIR", "T1c"], BRATS) == "t1ce+flair"
    assert subset_name(["t1gd", "flair"], ("flair", "t1", "t1ce", "t2")) == "flair+t1ce"


def test_parse_takes_aliases_in_any_order() -> None:
    assert parse_subset(" Fl + T1Gd", BRATS) == ("t1ce", "flair")


@pytest.mark.parametrize("text", ["", "+", "t1+", "t1+ct"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(InputError):
        parse_subset(text, BRATS)


def test_empty_subset_has_no_name() -> None:
    with pytest.raises(InputError, match="empty subset"):
        subset_name([], BRATS)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_all_subsets_of_any_number(count: int) -> None:
    modalities = [f"m{i}" for i in range(count)]
    names = all_subset_names(modalities)
    assert len(set(names)) == 2**count - 1
    assert names[:count] == modalities and names[-1] == "+".join(modalities)
    assert row_order(modalities) == names


def test_brats_has_the_row_order_of_metakd() -> None:
    rows = row_order(BRATS)
    assert rows[:6] == ["flair", "t1", "t1ce", "t2", "t1+flair", "t1ce+flair"]
    assert rows[-1] == "t1+t1ce+t2+flair" and sorted(rows) == sorted(all_subset_names(BRATS))
    assert row_order(("FLAIR", "T1c", "T1", "T2"))[4] == "flair+t1"


def test_own_template(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("row,LGE,t2\n1,1,1\n2,0,1\n3,1,0\n")
    assert row_order(("lge", "t2"), path) == ["lge+t2", "t2", "lge"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row,lge\n1,1\n", "the columns are"),
        ("row,lge,t2\n1,1,x\n", "line 2: t2"),
        ("row,lge,t2\n1,1,1\n2,0,1\n", "each of the 3"),
    ],
)
def test_template_errors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        row_order(("lge", "t2"), path)


def test_template_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        row_order(("lge", "t2"), tmp_path / "none.csv")
