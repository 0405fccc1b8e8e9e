"""The report of a result table: which files it has, and what does not stop it."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from nnunetv2_mmkd.evaluation import report
from nnunetv2_mmkd.evaluation.figures import FIGURES
from nnunetv2_mmkd.evaluation.report import complete_methods, median_case, overlay_subsets, write_report
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.subsets import all_subset_names

NAMES = ("t1", "t2", "flair")
SUBSETS = all_subset_names(NAMES)


def results(subsets: dict[str, list[str]], metrics: tuple[str, ...] = ("dice",)) -> pd.DataFrame:
    rows = [
        (method, f"c{case}", subset, "WT", metric, (0.1 + 0.1 * case + 0.05 * len(subset)) / 3)
        for method, names in subsets.items()
        for case in range(3)
        for subset in names
        for metric in metrics
    ]
    return pd.DataFrame(rows, columns=["method", "case", "subset", "region", "metric", "value"])


def written(frame: pd.DataFrame, folder: Path) -> set[str]:
    write_report(ResultTable.from_frame(frame, NAMES), folder)
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_files_of_a_complete_method(tmp_path: Path) -> None:
    names = [figure.name for figure in FIGURES]
    assert set(names) >= {"heat_map", "boxplots", "boxplots_by_count", "change", "contributions"}
    frame = results({"a": SUBSETS}, ("dice", "n_found@task"))
    assert written(frame, tmp_path) == {
        "results.csv",
        "summary.csv",
        "shapley.csv",
        *(f"tables/dice.{ending}" for ending in ("md", "tex", "csv", "txt")),
        *(f"figures/dice_{name}.{ending}" for name in names for ending in ("png", "csv")),
    }
    assert set(pd.read_csv(tmp_path / "summary.csv")["metric"]) == {"dice", "n_found@task"}


@pytest.mark.parametrize(
    ("subsets", "figures"),
    [
        (["t1", "t2"], {"heat_map", "boxplots"}),
        (["t1", "t1+t2+flair"], {"heat_map", "boxplots", "change"}),
        (["t1", "t2", "flair", "t1+t2"], {"heat_map", "boxplots", "boxplots_by_count"}),
    ],
)
def test_only_figures_that_apply(tmp_path: Path, subsets: list[str], figures: set[str]) -> None:
    files = written(results({"a": subsets}), tmp_path)
    drawn = {name[len("figures/dice_") : -len(".png")] for name in files if name.endswith(".png")}
    assert drawn & {"heat_map", "boxplots", "boxplots_by_count", "change", "contributions"} == figures
    assert "shapley.csv" not in files


def test_infinite_distances_do_not_stop_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``--empty nan`` the distance to nothing is infinite; the Dice has its Shapley values all the same."""
    monkeypatch.setattr(report, "FIGURES", ())
    frame = results({"a": SUBSETS}, ("dice", "hd95"))
    frame.loc[(frame["metric"] == "hd95") & (frame["subset"] == "t1"), "value"] = math.inf
    assert "shapley.csv" in written(frame, tmp_path)
    assert set(pd.read_csv(tmp_path / "shapley.csv")["metric"]) == {"dice"}
    assert "| inf |" in (tmp_path / "tables" / "hd95.md").read_text()


def test_complete_methods() -> None:
    table = ResultTable.from_frame(results({"a": SUBSETS, "b": SUBSETS[1:], "c": SUBSETS}), NAMES)
    assert complete_methods(table) == ["a", "c"]
    undefined = table.rows.assign(value=table.rows["value"].where(table.rows["subset"] != "t1"))
    assert complete_methods(ResultTable.from_frame(undefined, NAMES)) == []


def test_median_case_and_columns_of_an_overlay() -> None:
    table = ResultTable.from_frame(results({"a": SUBSETS}, ("hd95", "dice")), NAMES)
    assert median_case(table) == median_case(table.select(metric="hd95")) == "c1"
    assert overlay_subsets(SUBSETS, NAMES)[0] == "t1+t2+flair"
    assert set(overlay_subsets(SUBSETS, NAMES)) == {"t1+t2+flair", "t1+t2", "t1+flair", "t2+flair"}
    assert overlay_subsets(["t1", "t2"], NAMES) == ["t1", "t2"]
