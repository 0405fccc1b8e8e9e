"""Closed forms, the NaN policy, and the statistics printed in the papers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.published import load_published
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.statistics import CaseComparison, MissingPair, SubsetComparison, holm, subset_t_test
from nnunetv2_mmkd.evaluation.statistics import compare as compare_table
from nnunetv2_mmkd.evaluation.subsets import AVERAGE
from nnunetv2_mmkd.evaluation.summary import improvement, subset_means, summarise

NAN = float("nan")


def long_table(values: Mapping[str, Mapping[str, Mapping[str, float]]]) -> pd.DataFrame:
    """``method -> case -> subset -> Dice of WT``."""
    return pd.DataFrame(
        [
            {"method": method, "case": case, "subset": subset, "region": "WT", "metric": "dice", "value": value}
            for method, cases in values.items()
            for case, subsets in cases.items()
            for subset, value in subsets.items()
        ]
    )


def random_table(cases: int, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return long_table(
        {
            method: {
                f"c{i:02d}": {subset: float(generator.random()) + shift for subset in ("t1", "t2", "t1+t2")}
                for i in range(cases)
            }
            for method, shift in (("a", 0.2), ("b", 0.0))
        }
    )


SMALL = long_table(
    {
        "a": {"c1": {"t1": 0.9, "t2": 0.7}, "c2": {"t1": 0.5, "t2": NAN}},
        "b": {"c1": {"t1": 0.5, "t2": 0.5}, "c2": {"t1": 0.3, "t2": 0.9}},
    }
)


def compare(table: pd.DataFrame, first: str, second: str, **options: Any) -> CaseComparison | SubsetComparison:
    return compare_table(ResultTable.from_frame(table), first, second, **options)


def summary(table: pd.DataFrame) -> dict[tuple[str, str], Any]:
    found = summarise(ResultTable.from_frame(table))
    return {(row.method, row.subset): row for row in found.itertuples()}  # type: ignore[misc]


def by_cases(table: pd.DataFrame, first: str, second: str, **options: Any) -> CaseComparison:
    result = compare(table, first, second, **options)
    assert isinstance(result, CaseComparison)
    return result


def test_summary_leaves_nan_out_and_counts_it() -> None:
    rows = summary(SMALL)
    assert rows["a", "t1"].mean == pytest.approx(0.7) and rows["a", "t1"].sd == pytest.approx(0.2 * np.sqrt(2))
    assert (rows["a", "t2"].mean, rows["a", "t2"].cases, rows["a", "t2"].undefined) == (pytest.approx(0.7), 1, 1)
    assert np.isnan(rows["a", "t2"].sd)


def test_subset_means() -> None:
    means = subset_means(ResultTable.from_frame(SMALL), region="WT", metric="dice")
    assert list(means.index) == ["t1", "t2"] and list(means.columns) == ["a", "b"]
    assert means.loc["t2"].tolist() == pytest.approx([0.7, 0.7])


def test_cases_are_paired_without_the_undefined() -> None:
    result = by_cases(SMALL, "a", "b", region="WT")
    assert result.difference == pytest.approx((0.3 + 0.2) / 2)
    assert (result.cases, result.undefined, result.dropped, result.incomplete) == (2, 1, (), ("c2",))
    assert result.mean_first == pytest.approx(0.65) and result.mean_second == pytest.approx(0.4)
    assert result.ci_low == pytest.approx(0.2) and result.ci_high == pytest.approx(0.3)


def test_case_without_any_value_is_dropped_and_named() -> None:
    table = SMALL.assign(value=SMALL["value"].where(SMALL["case"] != "c2"))
    result = by_cases(table, "a", "b", region="WT")
    assert (result.cases, result.dropped, result.undefined) == (1, ("c2",), 2)
    with pytest.raises(InputError, match="no case has a value of both"):
        compare(table.assign(value=NAN), "a", "b", region="WT")


def test_wilcoxon_of_all_positive_differences() -> None:
    cases = {f"c{i}": {"t1": 0.5 + 0.01 * i} for i in range(1, 7)}
    table = long_table({"a": cases, "b": {case: {"t1": 0.5} for case in cases}})
    assert by_cases(table, "a", "b", region="WT").p_value == pytest.approx(2 / 2**6)
    assert by_cases(table, "a", "b", region="WT", alternative="greater").p_value == pytest.approx(1 / 2**6)


def test_wilcoxon_without_any_difference_is_one() -> None:
    """The test itself is undefined where all differences are 0; one that is not 0 suffices for it."""
    cases = {f"c{i}": {"t1": 0.5 + 0.01 * i} for i in range(1, 7)}
    same = {"a": cases, "b": cases}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert by_cases(long_table(same), "a", "b", region="WT").p_value == 1.0
        some = {**same, "a": {**cases, "c1": {"t1": 0.9}, "c2": {"t1": 0.8}, "c3": {"t1": 0.7}}}
        expected = stats.wilcoxon([0.39, 0.28, 0.17, 0.0, 0.0, 0.0], alternative="greater").pvalue
        found = by_cases(long_table(some), "a", "b", region="WT", alternative="greater").p_value
    assert found == pytest.approx(expected) and found < 0.2


def test_bootstrap_is_reproducible_and_near_the_normal_interval() -> None:
    table = random_table(60)
    result = by_cases(table, "a", "b", region="WT", seed=1)
    assert result == by_cases(table, "a", "b", region="WT", seed=1)
    assert result.ci_low != by_cases(table, "a", "b", region="WT", seed=2).ci_low
    means = table.groupby(["case", "method"])["value"].mean().unstack()
    error = (means["a"] - means["b"]).std() / np.sqrt(60)
    assert result.ci_high - result.ci_low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_repeated_visits_of_a_patient_do_not_narrow_the_interval() -> None:
    one = random_table(20)
    copies = pd.concat([one.assign(case=one["case"] + f"_{visit}") for visit in range(5)])
    patients = {case: case.split("_")[0] for case in copies["case"]}
    alone = by_cases(one, "a", "b", region="WT", seed=3)
    clustered = by_cases(copies, "a", "b", region="WT", seed=3, patients=patients)
    naive = by_cases(copies, "a", "b", region="WT", seed=3)
    assert (clustered.cases, clustered.patients) == (100, 20)
    assert clustered.p_value == pytest.approx(alone.p_value)
    assert (clustered.ci_low, clustered.ci_high) == pytest.approx((alone.ci_low, alone.ci_high))
    assert naive.ci_high - naive.ci_low < 0.6 * (alone.ci_high - alone.ci_low)
    with pytest.raises(InputError, match="no patient is given for the cases c00_0"):
        compare(copies, "a", "b", region="WT", patients={})


def test_missing_pairs_are_named() -> None:
    table = SMALL[~((SMALL["method"] == "b") & (SMALL["case"] == "c1") & (SMALL["subset"] == "t2"))]
    with pytest.raises(InputError, match="b lacks case c1, subset t2"):
        compare(table, "a", "b", region="WT")
    result = by_cases(table, "a", "b", region="WT", common_only=True)
    assert result.missing == (MissingPair("b", "c1", "t2"),)
    assert result.difference == pytest.approx((0.4 + 0.2) / 2)


def test_no_overlap_is_an_error_even_when_common_only() -> None:
    table = SMALL[(SMALL["method"] == "a") == (SMALL["case"] == "c1")]
    with pytest.raises(InputError, match="no case and subset in common"):
        compare(table, "a", "b", region="WT", common_only=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"region": "ET"}, "no region 'ET'"),
        ({"metric": "hd95"}, "no metric 'hd95'"),
        ({"second": "c"}, "no method 'c'"),
        ({"second": "a"}, "give two"),
        ({"unit": "voxels"}, "unit 'voxels'"),
        ({"confidence": 95}, "confidence 95"),
        ({"resamples": 0}, "resamples 0"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(**{"table": SMALL, "first": "a", "second": "b", "region": "WT", **change})  # type: ignore[arg-type]


def test_infinite_values_have_no_mean() -> None:
    with pytest.raises(InputError, match="a, case c1, t1, WT, dice is infinite"):
        compare(SMALL.replace(0.9, np.inf), "a", "b", region="WT")


def test_an_infinite_distance_has_an_infinite_mean() -> None:
    rows = summary(SMALL.replace(0.9, np.inf))
    endless = [row for row in rows.values() if np.isinf(row.mean)]
    assert endless and all(np.isnan(row.sd) for row in endless)


def test_subset_t_test_is_scipys() -> None:
    first, second = {"x": 0.5, "y": 0.7, "z": 0.8}, {"x": 0.4, "y": 0.65, "z": 0.5}
    for alternative in ("greater", "less", "two-sided"):
        result = subset_t_test(first, second, alternative=alternative)  # type: ignore[arg-type]
        expected = stats.ttest_rel(list(first.values()), list(second.values()), alternative=alternative)
        assert (result.t, result.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert subset_t_test(first, second, average_row=True).pairs == 4
    assert subset_t_test(first, {**second, "y": NAN}).undefined == ("y",)
    assert np.isnan(subset_t_test(first, first).p_value)
    with pytest.raises(InputError, match="'second' has no value for the subsets z"):
        subset_t_test(first, {"x": 0.4, "y": 0.65})
    with pytest.raises(InputError, match="needs 2"):
        subset_t_test({"x": 0.5}, {"x": 0.4})


def test_subsets_as_the_unit_from_a_result_table() -> None:
    table = random_table(8)
    result = compare(table, "a", "b", region="WT", unit="subsets")
    assert isinstance(result, SubsetComparison)
    means = subset_means(ResultTable.from_frame(table), region="WT", metric="dice")
    assert result.p_value == pytest.approx(stats.ttest_rel(means["a"], means["b"], alternative="greater").pvalue)
    assert (result.first, result.pairs, result.missing) == ("a", 3, ())
    with_row = compare(table, "a", "b", region="WT", unit="subsets", average_row=True)
    assert isinstance(with_row, SubsetComparison)
    assert with_row.pairs == 4 and with_row.p_value < result.p_value
    less = compare(table.drop(index=table.index[0]), "a", "b", region="WT", unit="subsets", common_only=True)
    assert less.missing == (MissingPair("a", "c00", "t1"),)


def published_means(name: str, region: str, metric: str = "dice") -> pd.DataFrame:
    frame = load_published(name)
    rows = frame[(frame["region"] == region) & (frame["metric"] == metric) & (frame["subset"] != AVERAGE)]
    order, methods = rows["subset"].unique(), rows["method"].unique()
    return rows.pivot(index="subset", columns="method", values="value").reindex(index=order, columns=methods)


@pytest.mark.parametrize(
    ("name", "ours", "average_row"),
    [
        ("metakd_table1", "MetaKD", True),
        ("mckd_table1", "MCKD", True),
        ("lckd_table1", "LCKD", False),
        ("metakd_table4", "MetaKD", False),
        ("metakd_table5", "MetaKD", False),
    ],
)
def test_printed_p_values_reproduce(name: str, ours: str, average_row: bool) -> None:
    frame = load_published(name)
    printed = frame[frame["metric"] == "p_value"]
    assert len(printed) >= 12
    for _, row in printed.iterrows():
        means = published_means(name, row["region"])
        scores, others = means[ours].to_dict(), means[row["method"]].to_dict()
        result = subset_t_test(scores, others, average_row=average_row)
        # Two digits are printed, and the cells are rounded themselves.
        assert result.p_value == pytest.approx(row["value"], rel=0.06), (row["region"], row["method"])
        otherwise = subset_t_test(scores, others, average_row=not average_row)
        assert otherwise.p_value != pytest.approx(row["value"], rel=0.3)


@pytest.mark.parametrize(
    ("name", "ours"), [("metakd_table1", "MetaKD"), ("mckd_table1", "MCKD"), ("metakd_table4", "MetaKD")]
)
@pytest.mark.parametrize("region", ["ET", "TC", "WT"])
def test_printed_improvements_reproduce_unless_flagged(name: str, ours: str, region: str) -> None:
    frame = load_published(name)
    printed = frame[(frame["metric"] == "improvement") & (frame["region"] == region)].set_index("subset")
    means = published_means(name, region)
    # as in the paper, the average row compares averages: it is not the average of the column
    rows = pd.concat([means, means.mean().to_frame(AVERAGE).T])
    column = {subset: improvement(row[ours], row.drop(ours)) for subset, row in rows.iterrows()}
    assert list(column) == list(printed.index)
    for subset, value in column.items():
        if "improvement" in printed.loc[subset, "flag"]:
            assert abs(value - printed.loc[subset, "value"]) > 0.1
        else:
            assert value == pytest.approx(printed.loc[subset, "value"], rel=5e-4, abs=0.031), subset


def test_improvement() -> None:
    assert improvement(47.37, [43.52, 39.33, NAN]) == pytest.approx(8.846, abs=1e-3)
    assert improvement(4.0, [5.0, 8.0], lower_is_better=True) == pytest.approx(20.0)
    assert np.isnan(improvement(1.0, [])) and np.isnan(improvement(1.0, [0.0]))


@pytest.mark.parametrize(
    ("given", "corrected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([NAN, 0.02, 0.02], [NAN, 0.04, 0.04]),
        ([], []),
    ],
)
def test_holm_by_hand(given: list[float], corrected: list[float]) -> None:
    assert holm(given) == pytest.approx(corrected, nan_ok=True)
