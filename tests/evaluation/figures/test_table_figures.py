"""Heat maps, changes, boxes and contributions: the numbers beside the pictures, and that there are pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from long_tables import MODALITIES, additive, drawn, one
from matplotlib.axes import Axes

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation import figures
from nnunetv2_mmkd.evaluation.figures.selection import select
from nnunetv2_mmkd.evaluation.result_table import ResultTable


def of_frame(figure: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """A figure of a frame and its modalities."""

    def draw(frame: pd.DataFrame, modalities: Sequence[str], path: Path, **options: Any) -> pd.DataFrame:
        return figure(ResultTable.from_frame(frame, modalities), path, **options)

    return draw


boxplots, change_against_full, heat_map, modality_contributions = map(
    of_frame, (figures.boxplots, figures.change_against_full, figures.heat_map, figures.modality_contributions)
)
FIGURES = (heat_map, change_against_full, boxplots, modality_contributions)
BRATS = MODALITIES[4]


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize(("count", "methods"), [(2, ("A",)), (3, ("A", "B", "Another method")), (5, ("A",))])
def test_any_number_of_modalities_and_methods(
    figure: Callable[..., pd.DataFrame], count: int, methods: tuple[str, ...], tmp_path: Path
) -> None:
    numbers = figure(additive(MODALITIES[count], methods), MODALITIES[count], tmp_path / "new" / "figure.png")
    drawn(tmp_path / "new" / "figure.png")
    written = pd.read_csv(tmp_path / "new" / "figure.csv")
    assert list(written.columns) == list(numbers.columns)
    assert len(written) == len(numbers) > 0
    assert set(written["method"]) == set(methods)


def test_heat_map_means(tmp_path: Path) -> None:
    modalities = ("t1", "t2")
    heat_map(additive(modalities, cases=3), modalities, tmp_path / "heat.png", title="A title")
    numbers = pd.read_csv(tmp_path / "heat.csv")
    assert one(numbers, "mean", subset="t1", region="WT") == pytest.approx(0.1)
    assert one(numbers, "mean", subset="t2", region="ET") == pytest.approx(0.115)
    assert one(numbers, "mean", subset="t1+t2", region="WT") == pytest.approx(0.22)
    assert one(numbers, "sd", subset="t1", region="WT") == pytest.approx(0.01)
    assert one(numbers, "mean", subset="average", region="WT") == pytest.approx((0.1 + 0.12 + 0.22) / 3)
    assert (numbers.loc[numbers["subset"] != "average", ["cases", "left_out"]] == (3, 0)).all(axis=None)


def test_rows_follow_the_papers(tmp_path: Path) -> None:
    numbers = heat_map(additive(BRATS, regions=("WT",)), BRATS, tmp_path / "heat.png")
    assert list(numbers["subset"][:5]) == ["flair", "t1", "t1ce", "t2", "t1+flair"]
    chosen = heat_map(additive(BRATS), BRATS, tmp_path / "heat.png", subsets=["FLAIR+T1c"], regions=["ET"])
    assert list(chosen["subset"]) == ["t1ce+flair", "average"]


def test_nan_and_infinity_are_left_out_and_never_zero(tmp_path: Path) -> None:
    modalities = ("t1", "t2")
    table = additive(modalities, regions=("WT",), cases=4, metric="hd95")
    table.loc[(table["subset"] == "t1") & (table["case"] == "case0"), "value"] = np.nan
    table.loc[(table["subset"] == "t1") & (table["case"] == "case1"), "value"] = np.inf
    table.loc[table["subset"] == "t2", "value"] = np.inf
    heat = heat_map(table, modalities, tmp_path / "heat.png", metric="hd95")
    assert one(heat, "mean", subset="t1") == pytest.approx(0.1 + 0.01 * (0.5 + 1.5) / 2)
    assert (one(heat, "cases", subset="t1"), one(heat, "left_out", subset="t1")) == (2, 2)
    assert np.isnan(one(heat, "mean", subset="t2"))
    assert np.isnan(one(heat, "mean", subset="average"))
    change = change_against_full(table, modalities, tmp_path / "change.png", metric="hd95")
    assert one(change, "change", subset="t1") == pytest.approx(-0.12)
    assert (one(change, "cases", subset="t1"), one(change, "left_out", subset="t1")) == (2, 2)
    assert np.isnan(one(change, "change", subset="t2"))
    boxes = boxplots(table, modalities, tmp_path / "box.png", metric="hd95")
    assert one(boxes, "minimum", subset="t1") == pytest.approx(0.105)
    assert np.isnan(one(boxes, "median", subset="t2"))
    for name in ("heat", "change", "box"):
        drawn(tmp_path / f"{name}.png")


def test_missing_subsets_are_empty(tmp_path: Path) -> None:
    table = additive(BRATS, ("A", "B"), regions=("WT",))
    table = table[~((table["method"] == "B") & table["subset"].isin(["t1", "t2+flair"]))]
    heat = heat_map(table, BRATS, tmp_path / "heat.png")
    assert len(heat) == 16 + 14
    assert np.isnan(one(heat, "mean", method="B", subset="average"))
    assert not np.isnan(one(heat, "mean", method="A", subset="average"))
    assert len(change_against_full(table, BRATS, tmp_path / "change.png")) == 15 + 13
    assert len(boxplots(table, BRATS, tmp_path / "box.png")) == 15 + 13
    values = modality_contributions(table, BRATS, tmp_path / "shap.png")
    assert values.loc[values["method"] == "B", "shapley"].isna().all()
    assert set(values.loc[values["method"] == "B", "lacking"]) == {"t1 t2+flair"}
    assert values.loc[values["method"] == "A", "shapley"].notna().all()


def test_change_is_paired(tmp_path: Path) -> None:
    modalities = ("t1", "t2")
    table = additive(modalities, regions=("WT",), cases=5)
    full = table["subset"] == "t1+t2"
    table.loc[full & (table["case"] == "case4"), "value"] = np.nan
    table = table[~((table["subset"] == "t1") & (table["case"] == "case0"))]
    change_against_full(table, modalities, tmp_path / "change.png")
    numbers = pd.read_csv(tmp_path / "change.csv")
    assert one(numbers, "change", subset="t1") == pytest.approx(-0.12)
    assert one(numbers, "sd", subset="t1") == pytest.approx(0, abs=1e-12)
    assert one(numbers, "cases", subset="t1") == 3
    assert one(numbers, "left_out", subset="t1") == 1
    assert one(numbers, "mean_full", subset="t1") == pytest.approx(0.22 + 0.01 * (-1 + 0 + 1) / 3)
    assert one(numbers, "change", subset="t2") == pytest.approx(-0.1)
    assert one(numbers, "cases", subset="t2") == 4


def test_change_of_chosen_subsets_still_knows_the_full_set(tmp_path: Path) -> None:
    numbers = change_against_full(additive(BRATS), BRATS, tmp_path / "change.png", subsets=["t1"], regions=["WT"])
    assert list(numbers["subset"]) == ["t1", "t1+t1ce+t2+flair"]
    table = additive(("t1", "t2"))
    with pytest.raises(InputError, match="predict the full set"):
        change_against_full(table[table["subset"] != "t1+t2"], ("t1", "t2"), tmp_path / "change.png")


def test_boxes(tmp_path: Path) -> None:
    table = additive(("t1", "t2"), regions=("WT",), cases=5)
    boxplots(table, ("t1", "t2"), tmp_path / "box.png")
    numbers = pd.read_csv(tmp_path / "box.csv")
    names = ["minimum", "quartile_1", "median", "quartile_3", "maximum", "mean"]
    found = [one(numbers, name, subset="t1") for name in names]
    assert found == pytest.approx([0.08, 0.09, 0.1, 0.11, 0.12, 0.1])
    assert one(numbers, "whisker_low", subset="t1") == pytest.approx(0.08)


def test_boxes_by_count_hold_each_case_once(tmp_path: Path) -> None:
    modalities = ("t1", "t2", "flair")
    table = additive(modalities, regions=("WT",), cases=5)
    table.loc[(table["subset"] == "t1") & (table["case"] == "case2"), "value"] = np.nan
    boxplots(table, modalities, tmp_path / "box.png", by="count")
    drawn(tmp_path / "box.png")
    numbers = pd.read_csv(tmp_path / "box.csv")
    assert list(numbers["modalities"]) == [1, 2, 3]
    assert list(numbers["cases"]) == [5, 5, 5]
    values = [0.12 - 0.02, 0.12 - 0.01, 0.13, 0.12 + 0.01, 0.12 + 0.02]
    assert one(numbers, "mean", modalities=1) == pytest.approx(np.mean(values))
    assert one(numbers, "median", modalities=2) == pytest.approx(0.24)
    assert one(numbers, "maximum", modalities=3) == pytest.approx(0.38)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_contributions_of_an_additive_table_are_the_worths(count: int, tmp_path: Path) -> None:
    modalities = MODALITIES[count]
    modality_contributions(additive(modalities, ("A", "B")), modalities, tmp_path / "shap.png")
    numbers = pd.read_csv(tmp_path / "shap.csv")
    for position, name in enumerate(modalities):
        for method in range(2):
            found = one(numbers, "shapley", method="AB"[method], region="ET", modality=name)
            assert found == pytest.approx(0.1 + 0.02 * position + 0.01 * method - 0.005)
    sums = numbers.groupby(["method", "region"])[["shapley", "total"]].agg({"shapley": "sum", "total": "first"})
    assert np.allclose(sums["shapley"], sums["total"])


def test_contributions_may_be_negative(tmp_path: Path) -> None:
    table = additive(("t1", "t2"), worth=lambda modality, method, region: (0.5, -0.2)[modality])
    numbers = modality_contributions(table, ("t1", "t2"), tmp_path / "shap.png")
    assert one(numbers, "shapley", modality="t2", region="WT") == pytest.approx(-0.2)
    drawn(tmp_path / "shap.png")


def test_contributions_need_all_subsets_and_a_score(tmp_path: Path) -> None:
    table = additive(("t1", "t2"))
    with pytest.raises(InputError, match="lacks t2"):
        modality_contributions(table[table["subset"] != "t2"], ("t1", "t2"), tmp_path / "shap.png")
    with pytest.raises(InputError, match="more is better"):
        modality_contributions(table.assign(metric="hd95"), ("t1", "t2"), tmp_path / "shap.png", metric="hd95")


@pytest.mark.parametrize("figure", FIGURES)
def test_bad_input(figure: Callable[..., pd.DataFrame], tmp_path: Path) -> None:
    table, modalities, path = additive(("t1", "t2")), ("t1", "t2"), tmp_path / "figure.png"
    with pytest.raises(InputError, match=r"ends in \.png"):
        figure(table, modalities, tmp_path / "figure.pdf")
    with pytest.raises(InputError, match="no metric 'hd95'"):
        figure(table, modalities, path, metric="hd95")
    with pytest.raises(InputError, match="no method 'Z'"):
        figure(table, modalities, path, methods=["Z"])
    with pytest.raises(InputError, match="no region 'TC'"):
        figure(table, modalities, path, regions=["TC"])
    with pytest.raises(InputError, match="no finite value"):
        figure(table.assign(value=np.nan), modalities, path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        figure(table, modalities, tmp_path / "file" / "figure.png")
    assert not path.exists()


def test_unknown_grouping(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'subset' or 'count'"):
        boxplots(additive(("t1", "t2")), ("t1", "t2"), tmp_path / "box.png", by="size")  # type: ignore[arg-type]


def test_only_what_was_run_is_drawn_in_the_order_of_the_bullets(tmp_path: Path) -> None:
    table = ResultTable.from_frame(additive(BRATS), BRATS)
    assert select(table, "dice").bullets == ("flair", "t1", "t1ce", "t2") == select(table, "dice").subsets[:4]
    partial = ResultTable.from_frame(additive(BRATS).query("subset in ('t1+t2', 'flair')"), BRATS)
    assert select(partial, "dice").subsets == ("flair", "t1+t2")
    numbers = figures.heat_map(partial, tmp_path / "heat.png")
    assert one(numbers, "mean", subset="average", region="WT") == pytest.approx((0.16 + 0.24) / 2)


@pytest.mark.parametrize(("cases", "dots"), [(4, True), (5, True), (21, False)])
def test_few_cases_are_points_and_fewer_have_no_box(
    cases: int, dots: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes, points = [], []
    bxp, plot = Axes.bxp, Axes.plot
    monkeypatch.setattr(Axes, "bxp", lambda ax, *args, **more: boxes.append(1) or bxp(ax, *args, **more))
    monkeypatch.setattr(Axes, "plot", lambda ax, *args, **more: points.append(len(args[0])) or plot(ax, *args, **more))
    boxplots(additive(BRATS, ("A", "B"), ("WT",), cases), BRATS, tmp_path / "box.png")
    assert len(boxes) == (0 if cases < 5 else 30)
    assert points.count(cases) == (30 if dots else 0)
