"""Shapley values of games with a closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.shapley import shapley_by_region, shapley_values
from nnunetv2_mmkd.evaluation.subsets import all_subset_names

BRATS = ("t1", "t1ce", "t2", "flair")


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_additive_game_gives_the_worths(count: int) -> None:
    worth = {f"m{i}": 0.1 * (i + 1) for i in range(count)}
    scores = {name: sum(worth[part] for part in name.split("+")) for name in all_subset_names(list(worth))}
    assert shapley_values(scores, list(worth)) == pytest.approx(worth)


def test_symmetric_game_shares_equally() -> None:
    scores = {name: float(np.sqrt(len(name.split("+")))) for name in all_subset_names(BRATS)}
    assert shapley_values(scores, BRATS) == pytest.approx(dict.fromkeys(BRATS, 0.5))


def test_unanimity_game_shares_among_the_needed() -> None:
    scores = {name: float({"t1ce", "flair"} <= set(name.split("+"))) for name in all_subset_names(BRATS)}
    assert shapley_values(scores, BRATS) == pytest.approx({"t1": 0, "t1ce": 0.5, "t2": 0, "flair": 0.5})


def test_two_modalities_by_hand() -> None:
    values = shapley_values({"T1c": 0.5, "flair": 0.2, "flair+t1gd": 0.6}, ("t1ce", "flair"))
    assert values == pytest.approx({"t1ce": 0.45, "flair": 0.15})


def test_values_sum_to_the_full_score() -> None:
    generator = np.random.default_rng(0)
    scores = {name: float(generator.random()) for name in all_subset_names(BRATS)}
    assert sum(shapley_values(scores, BRATS).values()) == pytest.approx(scores["t1+t1ce+t2+flair"])


def test_errors() -> None:
    scores = {"t1": 0.1, "t2": 0.2, "t1+t2": 0.3}
    with pytest.raises(InputError, match="missing: t2"):
        shapley_values({"t1": 0.1, "t1+t2": 0.3}, ("t1", "t2"))
    with pytest.raises(InputError, match="two scores"):
        shapley_values({**scores, "t2+t1": 0.3}, ("t1", "t2"))
    with pytest.raises(InputError, match="finite"):
        shapley_values({**scores, "t2": float("nan")}, ("t1", "t2"))
    with pytest.raises(InputError, match="unknown modality"):
        shapley_values({**scores, "ct": 0.2}, ("t1", "t2"))


def test_by_region_averages_over_cases_and_leaves_nan_out() -> None:
    scores = {"t1": (0.2, 0.4), "t2": (0.1, float("nan")), "t1+t2": (0.5, 0.7)}
    table = pd.DataFrame(
        [
            {"method": "a", "case": f"c{case}", "subset": subset, "region": "WT", "metric": "dice", "value": value}
            for subset, values in scores.items()
            for case, value in enumerate(values)
        ]
    )

    def checked(frame: pd.DataFrame) -> ResultTable:
        return ResultTable.from_frame(frame, ("t1", "t2"))

    (result,) = shapley_by_region(checked(table))
    assert (result.method, result.region, result.total) == ("a", "WT", pytest.approx(0.6))
    assert result.values == pytest.approx({"t1": 0.4, "t2": 0.2})
    with pytest.raises(InputError, match=r"method 'a', region 'WT'.*missing: t1\+t2"):
        shapley_by_region(checked(table[table["subset"] != "t1+t2"]))
    with pytest.raises(InputError, match="no metric 'nsd'"):
        shapley_by_region(checked(table), metric="nsd")
