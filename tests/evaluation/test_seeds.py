"""Values averaged over seeds, and the interval that counts seeds and patients."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.seeds import average_over_seeds, compare_seeds, summarise_seeds
from nnunetv2_mmkd.evaluation.statistics import CaseComparison, compare

checked = ResultTable.from_frame


def table(values: np.ndarray, method: str = "a", subsets: tuple[str, ...] = ("t1",)) -> pd.DataFrame:
    """A table of values ``[seeds, cases]``, the same for each subset."""
    rows = [
        (method, f"c{case}", subset, "WT", "dice", value, str(seed))
        for seed, row in enumerate(values)
        for case, value in enumerate(row)
        for subset in subsets
    ]
    return pd.DataFrame(rows, columns=["method", "case", "subset", "region", "metric", "value", "seed"])


def pair(differences: np.ndarray) -> pd.DataFrame:
    """Two methods whose differences ``[seeds, cases]`` are given."""
    base = np.random.default_rng(0).random(differences.shape)
    return pd.concat([table(base + differences), table(base, "b")], ignore_index=True)


def test_average_by_hand() -> None:
    frame = table(np.array([[0.2, 0.4], [0.6, math.nan]]))
    pooled = average_over_seeds(checked(frame))
    assert list(pooled.rows.columns) == ["method", "case", "subset", "region", "metric", "value"]
    assert pooled.rows["value"].tolist() == pytest.approx([0.4, 0.4])
    (row,) = summarise_seeds(checked(frame))
    assert row.values == pytest.approx((0.3, 0.6)) and row.mean == pytest.approx(0.45) and row.seeds == 2
    assert row.sd == pytest.approx(0.3 / math.sqrt(2))
    (alone,) = summarise_seeds(checked(table(np.array([[0.2, 0.4]]))))
    assert alone.mean == pytest.approx(0.3) and math.isnan(alone.sd)


def test_a_seeds_value_is_the_mean_of_its_cases_means() -> None:
    """Of a case with fewer subsets, too: as in ``compare``."""
    rows = [("c0", "t1", 0.0), ("c0", "t2", 1.0), ("c1", "t1", 0.2)]
    frame = pd.DataFrame([("a", *row, "WT", "dice") for row in rows])
    frame.columns = ["method", "case", "subset", "value", "region", "metric"]
    (row,) = summarise_seeds(checked(frame.assign(seed="0")))
    assert row.mean == pytest.approx(0.35)


def test_the_difference_is_that_of_compare() -> None:
    frame = pair(np.random.default_rng(1).normal(0.1, 0.2, (3, 7)))
    drawn = compare_seeds(checked(frame), "a", "b", region="WT", metric="dice", resamples=100)
    plain = compare(average_over_seeds(checked(frame)), "a", "b", region="WT", metric="dice", resamples=100)
    assert isinstance(plain, CaseComparison)
    assert drawn.difference == pytest.approx(plain.difference) and drawn.seeds == ("0", "1", "2")


def test_seeds_that_agree_add_nothing_and_seeds_that_do_not_widen() -> None:
    cases = np.random.default_rng(2).normal(0.0, 1.0, 40)
    same = pair(np.tile(cases, (4, 1)))
    drawn = compare_seeds(checked(same), "a", "b", region="WT", metric="dice", resamples=4000)
    plain = compare(average_over_seeds(checked(same)), "a", "b", region="WT", metric="dice", resamples=4000)
    assert isinstance(plain, CaseComparison)
    assert (drawn.ci_low, drawn.ci_high) == pytest.approx((plain.ci_low, plain.ci_high), abs=0.03)
    apart = pair(cases + np.array([[-2.0], [-1.0], [1.0], [2.0]]))
    wide = compare_seeds(checked(apart), "a", "b", region="WT", metric="dice", resamples=4000)
    assert wide.difference == pytest.approx(drawn.difference)
    # the variance of the mean of 4 draws from these 4 seeds is 2.5 / 4, that of the mean of 40 cases is added
    expected = 2 * 1.96 * math.sqrt(2.5 / 4 + cases.var() / 40)
    assert wide.ci_high - wide.ci_low == pytest.approx(expected, rel=0.1)
    assert wide.better == 2


def test_one_seed_has_no_such_interval() -> None:
    drawn = compare_seeds(checked(pair(np.full((1, 5), 0.1))), "a", "b", region="WT", metric="dice")
    assert drawn.difference == pytest.approx(0.1) and math.isnan(drawn.ci_low) and math.isnan(drawn.ci_high)


def test_patients_are_drawn_whole() -> None:
    differences = np.tile(np.repeat([-1.0, 1.0], 20), (2, 1))
    frame, how = pair(differences), {"region": "WT", "metric": "dice", "resamples": 2000}
    cases = compare_seeds(checked(frame), "a", "b", **how)  # type: ignore[arg-type]
    two = {f"c{case}": "left" if case < 20 else "right" for case in range(40)}
    people = compare_seeds(checked(frame), "a", "b", patients=two, **how)  # type: ignore[arg-type]
    assert (people.ci_low, people.ci_high) == (-1.0, 1.0) and cases.ci_high < 0.5


def test_only_common_seeds_count_and_undefined_pairs_do_not() -> None:
    frame = pair(np.full((3, 4), 0.1))
    frame = frame[~((frame["method"] == "b") & (frame["seed"] == "2"))]
    frame.loc[(frame["case"] == "c1") & (frame["seed"] == "0") & (frame["method"] == "a"), "value"] = math.nan
    drawn = compare_seeds(checked(frame), "a", "b", region="WT", metric="dice", resamples=50)
    assert drawn.seeds == ("0", "1") and drawn.difference == pytest.approx(0.1) and drawn.better == 2
    assert (drawn.ci_low, drawn.ci_high) == pytest.approx((0.1, 0.1))


def test_refused() -> None:
    frame = pair(np.full((1, 2), 0.1))
    apart = frame.assign(seed=frame["method"])
    with pytest.raises(InputError, match="no values of dice, WT with the same seed"):
        compare_seeds(checked(apart), "a", "b", region="WT", metric="dice")
    frame.loc[0, "value"] = math.inf
    with pytest.raises(InputError, match="dice is infinite"):
        compare_seeds(checked(frame), "a", "b", region="WT", metric="dice")
