"""The papers' own tables: order, averages, the paper's test, and what of the published numbers is left out."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.grid import Grid
from nnunetv2_mmkd.evaluation.published import load_published
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.subsets import all_subset_names
from nnunetv2_mmkd.evaluation.table_writers import as_csv, as_latex, as_markdown, as_text
from nnunetv2_mmkd.evaluation.template_table import template_table
from nnunetv2_mmkd.evaluation.templates import check_template, find_template, template_metrics, templates

BRATS, TUMOUR = ("t1", "t1ce", "t2", "flair"), ("WT", "TC", "ET")
MYOPS, HEART = ("bSSFP", "LGE", "T2"), ("LV", "RV", "MYO")


def results(modalities: tuple[str, ...], regions: tuple[str, ...], *methods: str) -> ResultTable:
    generator = np.random.default_rng(0)
    rows = [
        (method, case, subset, region, metric, float(generator.random()))
        for method in methods
        for case in "ab"
        for subset in all_subset_names(modalities)
        for region in regions
        for metric in ("dice", "hd95", "hausdorff")
    ]
    frame = pd.DataFrame(rows, columns=["method", "case", "subset", "region", "metric", "value"])
    return ResultTable.from_frame(frame, modalities)


OURS = results(BRATS, TUMOUR, "MetaKD_10epochs", "Mine")


def cells(grid: Grid) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(as_csv(grid)), keep_default_na=False, dtype=str).set_index(list(grid.key)[-1])


@pytest.mark.parametrize("name", templates())
def test_every_template_has_all_published_cells_that_add_up_and_ours(name: str) -> None:
    template = find_template(name)
    table = OURS if len(template.modalities) == 4 else results(MYOPS, HEART, "A", "B")
    check_template(name, table.modalities, table.regions, all_subset_names(table.modalities))
    grid = template_table(table, template)
    scores = template.scores
    shown = [value for row in grid.rows for value in row.values if not isinstance(value, str) and np.isfinite(value)]
    whole = scores[(scores["flag"] == "") & (scores["subset"] != "average")]["value"]
    assert len(whole) == 0 or set(whole) <= set(shown)
    assert set(scores["metric"]) <= {"dice", "hd95", "hd"} and set(template.metrics) <= set(table.metrics)
    texts = [writer(grid) for writer in (as_markdown, as_text, as_latex)]
    assert all("[printed]" in text and table.methods[1] in text.replace(r"\_", "_") for text in texts)
    widths = {
        sum(int(span.group(1)) if (span := re.search(r"multicolumn{(\d+)}", each)) else 1 for each in line.split(" & "))
        for line in texts[2].splitlines()
        if line.endswith(r"\\")
    }
    assert widths == {len(grid.left) + len(grid.heads[0])}
    assert len({len(row) for row in csv.reader(io.StringIO(as_csv(grid)))}) == 1


def test_table1_of_metakd_in_the_papers_order_with_its_averages_and_its_test() -> None:
    grid = template_table(OURS, find_template("metakd_table1"))
    assert grid.left == ("FLAIR", "T1", "T1ce", "T2")
    assert grid.groups() == [("ET", 10), ("TC", 10), ("WT", 10), ("Avg. over regions", 2)]
    assert grid.heads[1][:10] == (
        *(f"{name} [printed]" for name in ("U-HeMIS", "U-HVED", "RobustSeg", "mmFormer", "ShaSpec", "MetaKD", "Imprv")),
        *("MetaKD_10epochs", "Mine", "Imprv of MetaKD_10epochs"),
    )
    table, printed = cells(grid), load_published("metakd_table1")
    assert list(table.index[:-2]) == list(printed["subset"].unique()[:-1])
    assert (
        table.loc["p_value", "ET U-HVED [printed]"] == "2.2e-7"
        and table.loc["average", "WT MetaKD [printed]"] == "86.9"
    )
    means = OURS.rows[OURS.rows["metric"] == "dice"].groupby(["method", "region", "subset"])["value"].mean() * 100
    own, other = (means[name, "TC"].reindex(table.index[:-2]) for name in OURS.methods)
    assert float(table.loc["average", "TC Mine"]) == pytest.approx(other.mean())
    gain = 100 * (own.mean() - other.mean()) / other.mean()
    assert float(table.loc["average", "TC Imprv of MetaKD_10epochs"]) == pytest.approx(gain)
    pairs = [[*each, each.mean()] for each in (own, other)]  # the average is the 16th pair
    expected = stats.ttest_rel(*pairs, alternative="greater").pvalue
    assert table.loc["p_value", "TC Mine"] == f"{expected:.1e}" and table.loc["p_value", "TC MetaKD_10epochs"] == "–"
    (note,) = [each for each in grid.notes if each.startswith("p-value")]
    assert "the paper's own test, not one of ours" in note and "15 subsets' means and, as one more pair" in note
    # without the average where the paper has it so; the own method can be named
    table = cells(template_table(OURS, find_template("lckd_table1"), "Mine"))
    expected = stats.ttest_rel(other, own, alternative="greater").pvalue
    assert table.loc["p_value", "TC MetaKD_10epochs"] == f"{expected:.1e}"
    assert table.loc["p_value", "TC Mine"] == "–"


def test_ours_are_averaged_over_the_regions_where_the_paper_is_silent() -> None:
    """10, 20, 30 % in three regions, and 15 more with T2 alone: 20, 35, and 21 over the 15 subsets."""
    frame = OURS.rows.assign(value=OURS.rows["region"].map({"WT": 0.1, "TC": 0.2, "ET": 0.3}))
    frame.loc[frame["subset"] == "t2", "value"] += 0.15
    down, across, methods = (
        template_table(ResultTable.from_frame(frame, BRATS), find_template(name))
        for name in ("metakd_table1", "passion_table3", "mst_kdnet_table3")
    )
    column = cells(down)["Avg. over regions Mine"]
    assert column[["t1", "t2", "average"]].astype(float).tolist() == pytest.approx([20, 35, 21])
    assert column["p_value"] == "–" and not [head for head in cells(down) if "Avg." in head and "printed" in head]
    rows = {row.left[2]: row for row in across.rows if row.left[0] == "Avg. over regions"}
    assert list(rows) == OURS.methods
    values = dict(zip(across.columns, rows["Mine"].values, strict=True))
    assert [values[subset] for subset in ("t1", "t2", "average")] == pytest.approx([20, 35, 21])
    assert methods.heads[1] == ("WT", "TC", "ET", "Avg.") * 2
    assert methods.rows[-1].left == ("Mine",) and methods.rows[-1].values[:4] == pytest.approx((11, 21, 31, 21))
    for grid in (down, across, methods):
        assert "averages over the regions are of this run alone: the paper prints none" in grid.notes


@pytest.mark.parametrize(("name", "method"), [("metakd_table6", "MetaKD"), ("mckd_table3", "MCKD")])
def test_the_normalisations_are_compared_on_one_subset(name: str, method: str) -> None:
    rows = OURS.rows[OURS.rows["subset"] == "t1+t1ce+flair"]
    grid, only = (template_table(table, find_template(name)) for table in (OURS, ResultTable.from_frame(rows, BRATS)))
    assert as_csv(only) == as_csv(grid)  # all other subsets may be absent, and are not averaged
    assert grid.heads == (("Dice (%)",) * 4, ("ET", "TC", "WT", "Avg."))
    assert [(row.left, row.values[:3]) for row in grid.rows[:3]] == [
        (("weights normalised by ReLU", f"{method} [printed]"), (71.20, 81.99, 90.31)),
        (("weights normalised by sigmoid", f"{method} [printed]"), (73.99, 80.18, 87.74)),
        (("weights normalised by softmax", f"{method} [printed]"), (77.66, 85.36, 90.70)),
    ]
    means = 100 * rows[rows["metric"] == "dice"].groupby(["method", "region"])["value"].mean()
    for row in grid.rows[3:]:
        own = [means[row.left[1], region] for region in ("ET", "TC", "WT")]
        assert row.values == pytest.approx([*own, np.mean(own)])
    assert "tested with flair+t1+t1ce" in grid.notes[0] and "over 2 cases" in grid.notes[1]


@pytest.mark.parametrize("own", ["MetaKD", "MCKD", "LCKD"])
def test_a_papers_own_cells_give_its_table_and_p_values_back(own: str) -> None:
    name = f"{own.lower()}_table1"
    printed = load_published(name)
    scores = printed[(printed["metric"] == "dice") & (printed["subset"] != "average")]
    table = ResultTable.from_frame(scores.assign(case="c", value=scores["value"] / 100), BRATS)
    made = cells(template_table(table, find_template(name)))
    tests = printed[printed["metric"] == "p_value"]
    for row in tests[tests["value"].notna()].itertuples():
        assert float(made.loc["p_value", f"{row.region} {row.method}"]) == pytest.approx(row.value, rel=0.06)
        assert made.loc["p_value", f"{row.region} {row.method} [printed]"] == row.printed
    assert (made.loc["p_value", [f"{region} {own}" for region in TUMOUR]] == "–").all()
    for row in scores.itertuples():
        assert float(made.loc[row.subset, f"{row.region} {row.method}"]) == pytest.approx(row.value)


def test_the_myops_half_averages_over_regions_as_the_paper_does() -> None:
    ours = results(MYOPS, HEART, "PASSION", "mmFormer")
    grid = template_table(ours, find_template("passion_table1_myops"))
    assert grid.heads[0] == (*["Dice (%)"] * 4, *["Hausdorff distance (mm)"] * 4)
    assert grid.heads[1] == ("LV", "RV", "MYO", "Avg.") * 2
    first, last = grid.rows[0], grid.rows[-2:]
    assert first.left == ("PDT", "mmFormer [printed]") and first.values[:4] == (84.61, 58.08, 80.13, 74.27)
    assert [row.left for row in last] == [("this run", "PASSION"), ("this run", "mmFormer")]
    for row in last:
        rows = ours.rows[(ours.rows["method"] == row.left[1]) & (ours.rows["metric"] == "hausdorff")]
        assert row.values[7] == pytest.approx(rows["value"].mean()) == pytest.approx(np.mean(row.values[4:7]))  # type: ignore[arg-type]
    assert [row.best[7] for row in last].count(True) == 1  # less is better
    assert [row.best[7] for row in last] == [
        last[0].values[7] < last[1].values[7],
        last[1].values[7] < last[0].values[7],
    ]  # type: ignore[operator]


def test_what_does_not_add_up_is_left_out_and_said() -> None:
    grid = template_table(OURS, find_template("metakd_table5"))
    table = cells(grid)
    assert table.loc["average", "TC U-HeMIS [printed]"] == "" and table.loc["t1", "TC U-HeMIS [printed]"] != ""
    assert table.loc["t1+t2", "ET SFusion [printed]"] == "" == table.loc["average", "ET SFusion [printed]"]
    assert table.loc["t2", "TC MetaKD [printed]"] == "74.86"  # a copy, perhaps, but its column adds up
    assert any("U-HeMIS TC average dice (the 15 rows average 62.45" in note for note in grid.notes)
    assert any(note.startswith("in doubt: MetaKD TC t2 dice") for note in grid.notes)
    across = template_table(OURS, find_template("mst_kdnet_table2"))
    row = next(row for row in across.rows if row.left == ("WT", "MST-KDNet [printed]"))
    values = dict(zip(across.columns, row.values, strict=True))
    assert [name for name, value in values.items() if np.isnan(value)] == [  # type: ignore[arg-type]
        "flair", "t1+flair", "t1ce+flair", "average",
    ]  # fmt: skip
    assert ("WT", "RMBTS [printed]") not in [row.left for row in across.rows]  # lost in the scan


def test_a_subset_that_one_of_ours_lacks_leaves_its_average_and_test_empty() -> None:
    rows = OURS.rows[(OURS.rows["method"] != "Mine") | (OURS.rows["subset"] == "t1")]
    table = cells(template_table(ResultTable.from_frame(rows, BRATS), find_template("metakd_table1")))
    assert table.loc["t1", "ET Mine"] != "" and table.loc["t2", "ET Mine"] == "" == table.loc["average", "ET Mine"]
    assert table.loc["p_value", "ET Mine"] == "–"


@pytest.mark.parametrize(
    ("name", "modalities", "regions", "subsets", "message"),
    [
        ("metakd_table9", BRATS, TUMOUR, None, "no such table; .*metakd_table1"),
        ("metakd_table1", MYOPS, HEART, None, "flair, t1, t1ce, t2 and the regions ET, TC, WT; this data set has "
         r"bssfp, lge, t2 and LV, RV, MYO\..* fits: passion_table1_myops, passion_table2_myops"),
        ("metakd_table1", BRATS, ("whole",), None, "this data set has t1, t1ce, t2, flair and whole.*none does"),
        ("passion_table3", BRATS, TUMOUR, ["t1", "t1ce"], "needs all subsets, and t2 is not evaluated"),
        ("metakd_table6", BRATS, TUMOUR, ["t1"], r"needs the subset t1\+t1ce\+flair, which is not evaluated: choose"),
    ],
)  # fmt: skip
def test_refused(
    name: str, modalities: tuple[str, ...], regions: tuple[str, ...], subsets: list[str] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_template(name, modalities, regions, subsets or all_subset_names(modalities))


def test_metrics_that_a_template_needs_are_added() -> None:
    assert template_metrics(["passion_table1_brats"], ("nsd", "dice")) == ("nsd", "dice", "hausdorff")
    assert template_metrics([], ("nsd",)) == ("nsd",)
