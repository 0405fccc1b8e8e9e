"""``compare_files``: what is read, what is said, what is written."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.compare_report import CompareSettings, compare_files
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.statistics import CaseComparison, compare
from nnunetv2_mmkd.evaluation.table_files import write_table

SUBSETS = ("t1", "t2", "t1+t2")
QUICK = CompareSettings(resamples=200)
BY_SUBSET = CompareSettings(unit="subsets")


def table(cases: int = 6, methods: tuple[str, ...] = ("a", "b"), metric: str = "dice") -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        [
            (method, f"c{case}", subset, region, metric, 0.8 * generator.random() + 0.2 * (method == "a"))
            for method in methods
            for case in range(cases)
            for subset in SUBSETS
            for region in ("WT", "TC")
        ],
        columns=["method", "case", "subset", "region", "metric", "value"],
    )


def saved(folder: Path, frame: pd.DataFrame, name: str = "results.csv") -> Path:
    write_table(frame, folder / name)
    return folder / name


def test_lines_and_cells_by_hand(tmp_path: Path) -> None:
    values = {"a": (0.9, 0.7, 0.8), "b": (0.5, 0.6, 0.4)}
    frame = pd.DataFrame(
        [(m, f"c{i}", "t1", "WT", "dice", v) for m, of in values.items() for i, v in enumerate(of)],
        columns=["method", "case", "subset", "region", "metric", "value"],
    )
    output = tmp_path / "new" / "out.csv"
    lines = compare_files([saved(tmp_path, frame)], "a", "b", QUICK, output=output)
    assert lines[0] == "a - b: Dice, points; [95 % interval, bootstrap over patients]"
    assert lines[1].startswith("WT: 80.00 - 50.00 = +30.00 [+") and "Wilcoxon p = 0.25" in lines[1]
    assert lines[1].endswith("3 cases of 3 patients, 1 subsets")
    (row,) = pd.read_csv(output).to_dict("records")
    assert (row["region"], row["metric"], row["unit"], row["subsets"]) == ("WT", "dice", "cases", "t1")
    assert row["difference"] == pytest.approx(0.3) and row["p_value"] == pytest.approx(0.25)
    assert (row["cases"], row["undefined"], row["missing"], row["dropped"], row["seed"]) == (3, 0, 0, 0, 0)
    assert 0.0999 < row["ci_low"] < 0.3 < row["ci_high"] < 0.4001


def test_it_is_the_comparison_of_the_regions(tmp_path: Path) -> None:
    frame = table()
    output = tmp_path / "out.csv"
    lines = compare_files([saved(tmp_path, frame)], "b", "a", QUICK, output=output)
    assert [line.split(":")[0] for line in lines[1:]] == ["WT", "TC"]
    for region, row in zip(("WT", "TC"), pd.read_csv(output).to_dict("records"), strict=True):
        expected = compare(ResultTable.from_frame(frame), "b", "a", region=region, resamples=200)
        assert isinstance(expected, CaseComparison) and row["subsets"] == "t1 t2 t1+t2"
        for key in ("mean_first", "mean_second", "difference", "ci_low", "ci_high", "p_value"):
            assert row[key] == pytest.approx(getattr(expected, key))
    one = compare_files([tmp_path / "results.csv"], "b", "a", CompareSettings(regions=("TC",), resamples=200))
    assert one == [lines[0], lines[2]]


def test_settings_of_the_bootstrap_arrive(tmp_path: Path) -> None:
    file, output = saved(tmp_path, table()), tmp_path / "out.csv"
    compare_files([file], "a", "b", CompareSettings(confidence=0.5, resamples=30, seed=7), output=output)
    expected = compare(ResultTable.from_frame(table()), "a", "b", region="WT", confidence=0.5, resamples=30, seed=7)
    assert isinstance(expected, CaseComparison)
    row = pd.read_csv(output).iloc[0]
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((expected.ci_low, expected.ci_high))
    assert (row["confidence"], row["resamples"], row["seed"]) == (0.5, 30, 7)


def test_several_files_are_put_together(tmp_path: Path) -> None:
    frame = table()
    whole = compare_files([saved(tmp_path, frame)], "a", "b", QUICK)
    parts = [saved(tmp_path, frame[frame["method"] == name], f"{name}.csv") for name in "ab"]
    assert compare_files(parts, "a", "b", QUICK) == whole
    with pytest.raises(InputError, match=r"a, case c0, t1, WT, dice has two values in .*results\.csv.*a\.csv: give"):
        compare_files([tmp_path / "results.csv", parts[0]], "a", "b", QUICK)
    twice = saved(tmp_path, pd.concat([frame, frame.iloc[[3]]]), "twice.csv")
    with pytest.raises(InputError, match="has two values"):
        compare_files([twice], "a", "b", QUICK)


def test_other_methods_and_metrics_do_not_disturb(tmp_path: Path) -> None:
    frame = table()
    whole = compare_files([saved(tmp_path, frame)], "a", "b", QUICK)
    third = table(2, ("c",))
    third = third[third["region"] == "WT"].assign(region="ET")
    infinite = table(metric="hd95").assign(value=math.inf)
    file = saved(tmp_path, pd.concat([third, frame, infinite]), "more.csv")
    assert compare_files([file], "a", "b", QUICK) == whole
    with pytest.raises(InputError, match=r"a, case c0, t1, WT, hd95 is infinite.*36 such values.*--empty legacy"):
        compare_files([file], "a", "b", CompareSettings(metric="hd95"))


def test_patients_are_drawn_whole(tmp_path: Path) -> None:
    file = saved(tmp_path, table())
    patients = tmp_path / "patients.csv"
    patients.write_text("patient,case,age\n" + "".join(f"00{i // 2},c{i},40\n" for i in range(6)))
    output = tmp_path / "out.csv"
    lines = compare_files([file], "a", "b", QUICK, patients, output)
    assert "6 cases of 3 patients" in lines[1]
    expected = compare(
        ResultTable.from_frame(table()),
        "a",
        "b",
        region="WT",
        resamples=200,
        patients={f"c{i}": str(i // 2) for i in range(6)},
    )
    assert isinstance(expected, CaseComparison)
    row = pd.read_csv(output).iloc[0]
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((expected.ci_low, expected.ci_high))
    for text, message in (
        ("case,who\nc0,1\n", r"patients\.csv: has no column 'patient'"),
        ("case,patient\nc0,1\nc0,2\n", r"patients\.csv, line 3: case c0 has two patients"),
        ("case,patient\nc0,\n", r"patients\.csv, line 2: no patient"),
        ("case,patient\nc0,1\n", "no patient is given for the cases c1"),
    ):
        patients.write_text(text)
        with pytest.raises(InputError, match=message):
            compare_files([file], "a", "b", QUICK, patients)


@pytest.mark.parametrize("metric", ["dice", "hd95"])
@pytest.mark.parametrize("average_row", [False, True])
def test_subsets_as_the_unit(tmp_path: Path, metric: str, average_row: bool) -> None:
    frame = table(metric=metric)
    output = tmp_path / "out.csv"
    settings = CompareSettings(metric, ("WT",), "subsets", average_row)
    lines = compare_files([saved(tmp_path, frame)], "a", "b", settings, output=output)
    means = frame[frame["region"] == "WT"].pivot_table(index="subset", columns="method", values="value")
    first, second = (np.append(means[name], [means[name].mean()] * average_row) for name in "ab")
    lower = metric == "hd95"
    expected = stats.ttest_rel(first, second, alternative="less" if lower else "greater")
    (row,) = pd.read_csv(output).to_dict("records")
    assert row["t"] == pytest.approx(expected.statistic) and row["p_value"] == pytest.approx(expected.pvalue)
    assert (row["pairs"], row["alternative"]) == (3 + average_row, "less" if lower else "greater")
    assert lines[0] == ("a - b: HD95, mm, less is better" if lower else "a - b: Dice, points")
    assert lines[1].endswith(f"{3 + average_row} pairs" + " (average row included)" * average_row)
    shown = float(lines[1].split(",")[0].split(":")[1])
    assert shown == pytest.approx((1 if lower else 100) * row["difference"], abs=0.006)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    frame = table()
    frame.loc[(frame["case"] == "c1") & (frame["subset"] == "t1") & (frame["method"] == "a"), "value"] = math.nan
    lonely = frame[~((frame["case"] == "c2") & (frame["method"] == "b"))]
    file = saved(tmp_path, lonely)
    with pytest.raises(InputError, match="b lacks case c2, subset t1"):
        compare_files([file], "a", "b", QUICK)
    lines = compare_files([file], "a", "b", CompareSettings(common_only=True, resamples=200))
    assert lines[1].endswith("5 cases of 5 patients, 3 subsets; 1 undefined left out; 3 of one method only left out")


@pytest.mark.parametrize(
    ("first", "settings", "message"),
    [
        ("z", QUICK, r"no method 'z' with dice in .*results\.csv; there are a, b"),
        ("b", QUICK, "give two"),
        ("a", CompareSettings(metric="nsd"), r"no metric 'nsd' in .*results\.csv; there are dice"),
        ("a", CompareSettings(regions=("ET",)), "no region 'ET'"),
        ("a", CompareSettings(confidence=95), "confidence 95"),
    ],
)
def test_refused(tmp_path: Path, first: str, settings: CompareSettings, message: str) -> None:
    output = tmp_path / "out.csv"
    with pytest.raises(InputError, match=message):
        compare_files([saved(tmp_path, table())], first, "b", settings, output=output)
    assert not output.exists()


def test_settings_that_do_not_go_together() -> None:
    with pytest.raises(InputError, match="add --unit subsets"):
        CompareSettings(average_row=True)


def test_refused_files(tmp_path: Path) -> None:
    file = saved(tmp_path, table())
    with pytest.raises(InputError, match=r"none\.csv: cannot be read"):
        compare_files([file, tmp_path / "none.csv"], "a", "b", QUICK)
    with pytest.raises(InputError, match="knows no patients"):
        compare_files([file], "a", "b", BY_SUBSET, file)
    with pytest.raises(InputError, match="cannot write"):
        compare_files([file], "a", "b", QUICK, output=file / "out.csv")
    (tmp_path / "empty.csv").write_text("method,case,subset,region,metric,value\n")
    with pytest.raises(InputError, match="there are no results"):
        compare_files([tmp_path / "empty.csv"], "a", "b", QUICK)
