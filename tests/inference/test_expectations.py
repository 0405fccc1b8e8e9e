"""What a prediction says about its cases."""

from __future__ import annotations

import math

import pytest

from nnunetv2_mmkd.evaluation.card import Expected
from nnunetv2_mmkd.inference.cases import Case, case_of_files
from nnunetv2_mmkd.inference.expectations import as_json, case_line, never_there, summary

NAMES = ("t1", "t1ce", "t2")


def case(name: str, *channels: int) -> Case:
    return case_of_files(name, NAMES, [f"{name}_{i:04d}" if i in channels else None for i in range(3)])


def test_a_line_for_each_case() -> None:
    assert case_line(case("a", 0, 1, 2)) == "a: t1, t1ce, t2; missing: nothing"
    excluded = case("b", 0, 1).without({"t1": "excluded by the user"})
    assert case_line(excluded) == "b: t1ce; missing: t1 (excluded by the user), t2 (no file)"


def test_a_channel_that_no_case_has() -> None:
    assert never_there([case("a", 0), case("b", 0, 1)]) == ["t2"]
    assert never_there([case("a", 0), case("b", 0, 1).without({"t2": "excluded by the user"})]) == ["t2"]
    assert never_there([case("a", 0, 1, 2).without({"t2": "excluded by the user"})]) == []
    assert never_there([]) == []


@pytest.mark.parametrize(
    ("promised", "said"),
    [
        (None, "2 cases without t1ce."),
        (
            {"WT": Expected(0.9, 0.05, 6), "ET": Expected(0.214, 0.17, 6)},
            "2 cases without t1ce. Without t1ce this model reached WT Dice 0.90 ± 0.05, ET Dice 0.21 ± 0.17 in "
            "validation, 6 cases.",
        ),
        (
            {"WT": Expected(0.9, 0.05, 6), "ET": Expected(0.2, math.nan, 1)},
            "2 cases without t1ce. Without t1ce this model reached WT Dice 0.90 ± 0.05 (6 cases), ET Dice 0.20 "
            "(1 case) in validation.",
        ),
    ],
)
def test_summary_with_what_to_expect(promised: dict[str, Expected] | None, said: str) -> None:
    cases = [case("a", 0, 2), case("b", 0, 1, 2), case("c", 0, 2)]
    expected = {} if promised is None else {name: as_json(promised) for name in ("a", "c")}
    assert list(summary(cases, expected)) == [said, "1 case with all modalities."]
