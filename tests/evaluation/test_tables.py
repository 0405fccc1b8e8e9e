"""The papers' tables: rows, averages, improvements, printed numbers, marks, and the three ways to write them."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.published import load_published
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.subsets import all_subset_names, row_order
from nnunetv2_mmkd.evaluation.summary import subset_means
from nnunetv2_mmkd.evaluation.table_writers import as_csv, as_latex, as_markdown, as_text
from nnunetv2_mmkd.evaluation.tables import SubsetTable
from nnunetv2_mmkd.evaluation.tables import subset_table as table_of

NAN, INF = math.nan, math.inf
BRATS = ("t1", "t1ce", "t2", "flair")
TWO = ("lge", "t2")


def subset_table(frame: pd.DataFrame, metric: str, modalities: tuple[str, ...], **options: Any) -> SubsetTable:
    return table_of(ResultTable.from_frame(frame, modalities), metric, **options)


def long(values: Mapping[str, Mapping[str, Mapping[str, float]]], metric: str = "dice") -> pd.DataFrame:
    """``region -> method -> subset -> value`` of one case."""
    return pd.DataFrame(
        [
            (method, "c1", subset, region, metric, float(value))
            for region, methods in values.items()
            for method, subsets in methods.items()
            for subset, value in subsets.items()
        ],
        columns=["method", "case", "subset", "region", "metric", "value"],
    )


def all_of(modalities: tuple[str, ...], cases: int = 3, methods: tuple[str, ...] = ("a", "b")) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        [
            (method, f"c{case}", subset, region, "dice", float(generator.random()))
            for method in methods
            for case in range(cases)
            for subset in all_subset_names(modalities)
            for region in ("WT", "TC", "ET")
        ],
        columns=["method", "case", "subset", "region", "metric", "value"],
    )


SMALL = long(
    {
        "MYO": {"a": {"lge+t2": 0.9, "lge": 0.5, "t2": 0.6}, "b": {"lge": 0.7, "t2": 0.6, "lge+t2": 0.8}},
        "LV": {"a": {"lge+t2": 0.5, "lge": 0.25, "t2": 0.75}, "b": {"lge": 0.5, "t2": 0.5, "lge+t2": 0.5}},
    }
)


def column(table: SubsetTable, region: str, method: str) -> list[float]:
    place = table.columns.index((region, method))
    return [*table.means[:, place].tolist(), float(table.averages[place])]


def latex_widths(text: str) -> set[int]:
    """Columns that each row of a LaTeX table fills."""
    widths = set()
    for row in text.splitlines():
        if row.endswith(r"\\"):
            cells = re.split(r"(?<!\\)&", row)
            spans = [re.search(r"\\multicolumn{(\d+)}", cell) for cell in cells]
            widths.add(sum(int(span.group(1)) if span else 1 for span in spans))
    return widths


def test_rows_and_bullets_as_in_metakd() -> None:
    table = subset_table(all_of(BRATS), "dice", BRATS)
    assert table.modalities == ("flair", "t1", "t1ce", "t2")
    assert table.columns == tuple((region, method) for region in ("WT", "TC", "ET") for method in "ab")
    published = load_published("metakd_table1")
    assert list(table.subsets) == [name for name in published["subset"].unique() if name != "average"]
    lines = as_markdown(table).splitlines()
    assert lines[0].startswith("| FLAIR | T1 | T1ce | T2 | WT a | WT b |")
    assert lines[2].startswith("| ● | ○ | ○ | ○ |") and lines[5].startswith("| ○ | ○ | ○ | ● |")
    assert lines[6].startswith("| ● | ● | ○ | ○ |") and lines[16].startswith("| ● | ● | ● | ● |")
    assert lines[17].startswith("| Average |  |  |  |") and lines[18] == ""


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_modalities(count: int) -> None:
    modalities = tuple(f"m_{i}" for i in range(count))
    table = subset_table(all_of(modalities), "dice", modalities)
    assert list(table.subsets) == row_order(modalities) and table.modalities == modalities
    assert as_markdown(table).count("●") == count * 2 ** (count - 1)
    assert as_latex(table).count(r"$\bullet$") == count * 2 ** (count - 1)
    assert latex_widths(as_latex(table)) == {count + 6} and r"m\_0" in as_latex(table)


def test_means_and_averages() -> None:
    frame = all_of(BRATS)
    table = subset_table(frame, "dice", BRATS, regions=("TC",))
    means = subset_means(ResultTable.from_frame(frame), region="TC", metric="dice").reindex(table.subsets)
    assert np.allclose(table.means, 100 * means)
    assert np.allclose(table.averages, 100 * means.mean())
    assert table.notes == ("Dice, mean over 3 cases, in %", "average over all 15 subsets")


def test_hand_made_table() -> None:
    table = subset_table(SMALL, "dice", TWO)
    assert table.subsets == ("lge", "t2", "lge+t2") and table.unit == "%"
    assert column(table, "MYO", "a") == pytest.approx([50, 60, 90, 200 / 3])
    assert column(table, "LV", "b") == pytest.approx([50, 50, 50, 50])
    assert as_markdown(table).splitlines()[:6] == [
        "| LGE | T2 | MYO a | MYO b | LV a | LV b |",
        "| :-: | :-: | --: | --: | --: | --: |",
        "| ● | ○ | 50.00 | **70.00** | 25.00 | **50.00** |",
        "| ○ | ● | **60.00** | **60.00** | **75.00** | 50.00 |",
        "| ● | ● | **90.00** | 80.00 | **50.00** | **50.00** |",
        "| Average |  | 66.67 | **70.00** | **50.00** | **50.00** |",
    ]


def test_an_average_is_of_all_rows_or_none() -> None:
    frame = SMALL[~((SMALL["method"] == "a") & (SMALL["subset"] == "t2") & (SMALL["region"] == "MYO"))]
    table = subset_table(frame, "dice", TWO, improvement_of="b")
    assert column(table, "MYO", "a")[1:] == pytest.approx([NAN, 90, NAN], nan_ok=True)
    assert column(table, "LV", "a")[-1] == pytest.approx(50)
    gains = column(table, "MYO", "improvement")
    assert gains == pytest.approx([40, NAN, -100 / 9, NAN], nan_ok=True)
    assert "average over all 3 subsets; – in a column that lacks one of them" in table.notes
    fewer = subset_table(SMALL[SMALL["subset"] != "t2"], "dice", TWO)
    assert column(fewer, "MYO", "a") == pytest.approx([50, 90, 70])
    assert "average over 2 of 3 subsets" in fewer.notes


def test_a_method_without_a_region_has_a_column_of_dashes() -> None:
    frame = SMALL[~((SMALL["method"] == "a") & (SMALL["region"] == "LV"))]
    table = subset_table(frame, "dice", TWO, improvement_of="a")
    assert [method for region, method in table.columns if region == "LV"] == ["a", "b", "improvement"]
    assert np.isnan([*column(table, "LV", "a"), *column(table, "LV", "improvement")]).all()
    assert as_markdown(table).splitlines()[2].endswith("| – | **50.00** | – |")


def test_undefined_values_and_uneven_cases_are_said() -> None:
    more = SMALL[SMALL["method"] == "a"].assign(case="c2", value=NAN)
    table = subset_table(pd.concat([SMALL, more]), "dice", TWO, regions=("MYO",), notes=("empty regions: nan",))
    assert column(table, "MYO", "a") == pytest.approx([50, 60, 90, 200 / 3])
    assert table.notes[0] == "Dice, mean over 1 to 2 cases, not the same in all cells, in %"
    assert table.notes[2:] == ("3 undefined values are left out", "empty regions: nan")


@pytest.mark.parametrize("lower", [False, True])
def test_improvement_is_the_closed_form(lower: bool) -> None:
    frame = all_of(BRATS, methods=("a", "b", "c")).assign(metric="hd95" if lower else "dice")
    table = subset_table(frame, "hd95" if lower else "dice", BRATS, improvement_of="b")
    for region in ("WT", "TC", "ET"):
        a, b, c = (np.array(column(table, region, method)) for method in "abc")
        best = np.minimum(a, c) if lower else np.maximum(a, c)
        gains = column(table, region, "improvement")
        assert gains == pytest.approx(100 * (best - b if lower else b - best) / best)
    assert not any(table.best(table.means[0])[3::4])
    assert any(note.startswith("improvement: of b over the best other method") for note in table.notes)


def test_improvement_of_an_only_method_is_a_dash() -> None:
    table = subset_table(SMALL[SMALL["method"] == "a"], "dice", TWO, improvement_of="a")
    assert np.isnan(column(table, "LV", "improvement")).all()
    assert not any(table.best(table.means[0])) and "**" not in as_markdown(table)


def test_improvement_of_the_paper_from_its_own_cells() -> None:
    cells = load_published("metakd_table1")
    scores = cells[(cells["metric"] == "dice") & (cells["subset"] != "average")]
    frame = scores.assign(case="c", value=scores["value"] / 100)
    table = subset_table(frame, "dice", BRATS, improvement_of="MetaKD")
    printed = cells[(cells["metric"] == "improvement") & (cells["flag"] == "") & (cells["subset"] != "average")]
    assert len(printed) > 40
    for _, row in printed.iterrows():
        found = column(table, row["region"], "improvement")[table.subsets.index(row["subset"])]
        assert found == pytest.approx(row["value"], abs=0.011), (row["region"], row["subset"])


def test_published_columns_are_shown_alongside() -> None:
    frame = all_of(BRATS, methods=("a", "b"))
    table = subset_table(frame, "dice", BRATS, published=("metakd_table1",), improvement_of="a")
    methods = [method for region, method in table.columns if region == "ET"]
    names = ["U-HeMIS", "U-HVED", "RobustSeg", "mmFormer", "ShaSpec", "MetaKD"]
    assert methods[:3] == ["a", "b", "improvement"]
    assert sorted(methods[3:]) == sorted(f"{name}, BraTS2018 [printed]" for name in names)
    assert column(table, "ET", "U-HeMIS, BraTS2018 [printed]")[0] == 11.78
    cells = load_published("metakd_table1")
    cells = cells[(cells["method"] == "MetaKD") & (cells["region"] == "TC") & (cells["metric"] == "dice")]
    expected = cells.set_index("subset")["value"]
    found = column(table, "TC", "MetaKD, BraTS2018 [printed]")
    assert found[:-1] == [expected[name] for name in table.subsets]
    assert found[-1] == pytest.approx(expected["average"], abs=0.011)
    alone = subset_table(frame, "dice", BRATS, improvement_of="a")
    assert column(alone, "ET", "improvement") == column(table, "ET", "improvement")
    marked = {table.columns[i][1] for i, best in enumerate(table.best(table.means[0])) if best}
    assert marked <= {"a", "b"} and any("[printed]: numbers of the paper" in note for note in table.notes)
    other_order = ("flair", "t2", "t1ce", "t1")
    turned = subset_table(all_of(other_order), "dice", other_order, published=("metakd_table1",))
    assert column(turned, "TC", "MetaKD, BraTS2018 [printed]") == pytest.approx(found)


def test_printed_tables_with_the_same_columns_and_without_any() -> None:
    both = subset_table(all_of(BRATS), "dice", BRATS, published=("metakd_table1", "mckd_table1"))
    methods = [method for region, method in both.columns if region == "WT"]
    assert len(set(methods)) == len(methods)
    assert {f"mmFormer, BraTS2018, {name} [printed]" for name in ("metakd_table1", "mckd_table1")} <= set(methods)
    hd95 = subset_table(all_of(BRATS).assign(metric="hd95"), "hd95", BRATS, published=("metakd_table1",))
    assert len(hd95.columns) == 6
    assert "metakd_table1 prints no HD95 of WT, TC, ET that could stand beside" in hd95.notes


def marks(metric: str, *values: float) -> list[bool]:
    frame = long({"WT": {f"m{i}": {"lge": value} for i, value in enumerate(values)}}, metric)
    table = subset_table(frame, metric, ("lge",))
    return table.best(table.means[0])


def test_marks_of_the_best() -> None:
    assert marks("dice", 0.5, 0.7, 0.6) == [False, True, False]
    assert marks("hd95", 5, 7, 6) == [True, False, False]
    assert marks("lesion_hd95@brats2023-gli", 5, 7) == [True, False]
    assert marks("hd95_postprocessed", 5, 7) == [True, False]
    assert marks("dice", 0.7, 0.7, 0.6) == [True, True, False]
    assert marks("dice", 0.700001, 0.7, 0.6) == [True, True, False]
    assert marks("hd95", INF, 7, NAN) == [False, True, False]
    assert marks("hd95", INF, INF) == [False, False]
    assert marks("dice", NAN, NAN) == [False, False]
    assert marks("dice", NAN, 0.0) == [False, True]
    assert marks("dice", 0.5) == [False]


def test_nothing_and_infinity_are_written() -> None:
    frame = long({"WT": {"a": {"lge": NAN}, "b_1": {"lge": INF}, "c": {"lge": 3.14159}}}, "hd95")
    table = subset_table(frame, "hd95", ("lge",), improvement_of="c")
    assert as_markdown(table).splitlines()[2] == "| ● | – | inf | **3.14** | – |"
    latex = as_latex(table)
    assert r"$\bullet$ & -- & inf & \textbf{3.14} & -- \\" in latex and "–" not in latex
    rows = list(csv.reader(io.StringIO(as_csv(table))))
    assert rows[0] == ["lge", "subset", "WT a", "WT b_1", "WT c", "WT improvement"]
    assert rows[1] == ["1", "lge", "", "inf", "3.14159", ""]
    assert rows[2] == ["", "average", "", "inf", "3.14159", ""]


def test_csv_is_unrounded() -> None:
    table = subset_table(all_of(BRATS), "dice", BRATS)
    found = pd.read_csv(io.StringIO(as_csv(table)), float_precision="round_trip")
    assert list(found.columns[:5]) == ["flair", "t1", "t1ce", "t2", "subset"]
    assert list(found["subset"]) == [*table.subsets, "average"]
    for i, (region, method) in enumerate(table.columns):
        assert found[f"{region} {method}"].tolist() == [*table.means[:, i], table.averages[i]]
    for name in BRATS:
        assert found[name][:15].tolist() == [int(name in subset.split("+")) for subset in table.subsets]


def test_latex_structure_and_special_characters() -> None:
    frame = SMALL.assign(method=SMALL["method"].replace({"a": r"A_1 & 50% {\x}^~|"}))
    table = subset_table(frame, "dice", TWO, improvement_of="b", notes=("policy: legacy",))
    latex = as_latex(table)
    lines = latex.splitlines()
    assert lines[0] == r"\begin{tabular}{cc|rrr|rrr}" and r"\end{tabular}" in lines
    assert latex_widths(latex) == {8}
    assert lines[2] == r" &  & \multicolumn{3}{c}{MYO} & \multicolumn{3}{c}{LV} \\"
    escaped = r"A\_1 \& 50\% \{\textbackslash{}x\}\textasciicircum{}\textasciitilde{}|"
    assert lines[3] == rf"LGE & T2 & {escaped} & b & improvement & {escaped} & b & improvement \\"
    assert lines[-1] == "% policy: legacy" and all(
        line.startswith("%") for line in lines[lines.index(r"\end{tabular}") + 1 :]
    )
    head = as_markdown(table).splitlines()[0]
    assert len(re.split(r"(?<!\\)\|", head)) == 10


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"metric": "nsd"}, "no metric 'nsd' in the result table; there are dice"),
        ({}, {"regions": ("WT",)}, "no region 'WT' with dice in the result table; there are MYO, LV"),
        ({}, {"improvement_of": "c"}, "no method 'c' with dice; there are a, b"),
        ({}, {"published": ("metakd_table9",)}, "no published table 'metakd_table9'"),
        ({"method": "improvement"}, {}, "may not be called 'improvement'"),
        ({"method": "x [printed]"}, {}, "may not be called"),
        ({"subset": "flair"}, {}, "flair"),
    ],
)
def test_refused(change: dict[str, str], options: dict[str, object], message: str) -> None:
    frame = SMALL.drop_duplicates(["method", "region"]).assign(**change) if change else SMALL
    frame = frame.drop_duplicates(["method", "region", "subset"])
    arguments = {"metric": "dice", **options}
    with pytest.raises(InputError, match=message):
        subset_table(frame, modalities=TWO, **arguments)  # type: ignore[arg-type]


def test_subsets_get_their_usual_names() -> None:
    turned = SMALL.assign(subset=SMALL["subset"].replace("lge+t2", "T2+DE"))
    assert as_csv(subset_table(turned, "dice", TWO)) == as_csv(subset_table(SMALL, "dice", TWO))


def test_refused_together() -> None:
    with pytest.raises(InputError, match=r"a, case c1, lge\+t2, MYO, dice has two values"):
        subset_table(pd.concat([SMALL, SMALL]), "dice", TWO)
    with pytest.raises(InputError, match="printed table metakd_table1"):
        subset_table(SMALL.replace({"MYO": "WT"}), "dice", TWO, published=("metakd_table1",))


def test_a_printed_average_stands_alone_where_nothing_else_is_printed() -> None:
    myops = ("bSSFP", "LGE", "T2")
    frame = all_of(myops).assign(region=lambda each: each["region"].replace({"WT": "LV", "TC": "RV", "ET": "MYO"}))
    table = subset_table(frame, "dice", myops, published=("passion_table1",))
    assert column(table, "RV", "mmFormer+PASSION, MyoPS2020, IDT (s,m,l) = (0.3, 0.5, 0.7) [printed]") == pytest.approx(
        [*[NAN] * 7, 60.97], nan_ok=True
    )
    assert len(table.columns) == 3 * (2 + 25)
    assert any(note.startswith("where the paper prints nothing but an average") for note in table.notes)
    fewer = subset_table(frame[frame["subset"] != "lge"], "dice", myops, published=("passion_table1",))
    assert np.isnan(column(fewer, "LV", "mmFormer, MyoPS2020, PDT [printed]")).all()


@pytest.mark.parametrize("width", [80, 50, 10])
def test_a_table_for_a_terminal(width: int) -> None:
    rows = [
        (method, "c", subset, region, "dice", value)
        for method, value in (("Mine", 0.5), ("Another", 0.25))
        for subset in ("flair", "t1+t1ce+t2+flair")
        for region in ("WT", "TC", "ET")
    ]
    frame = pd.DataFrame(rows, columns=["method", "case", "subset", "region", "metric", "value"])
    text = as_text(subset_table(frame, "dice", BRATS), width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= max(width, 31)
    assert sum(line.startswith("FLAIR  T1  T1ce  T2") for line in lines) == {80: 1, 50: 3, 10: 6}[width]
    assert text.count("50.00*") == 9 and text.count("25.00 ") + text.count("25.00\n") == 9
