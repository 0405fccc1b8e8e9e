"""The papers' tables as templates: a paper's own cells give its table back."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.paper_tables import PAPER_TABLES, check_template, paper_table
from nnunetv2_mmkd.evaluation.published import load_published
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.table_writers import as_csv, as_latex, as_markdown, as_text

BRATS = ("t1", "t1ce", "t2", "flair")
OWN = {"metakd": "MetaKD", "mckd": "MCKD", "lckd": "LCKD", "mst": "MST-KDNet"}


def own_cells(name: str) -> ResultTable:
    cells = load_published(name)
    cells = cells[(cells["metric"] == "dice") & (cells["subset"] != "average") & cells["value"].notna()]
    return ResultTable.from_frame(cells.assign(case="c", value=cells["value"] / 100), BRATS)


@pytest.mark.parametrize("name", PAPER_TABLES)
def test_a_papers_own_cells_give_its_table_back(name: str) -> None:
    printed, own = load_published(name), OWN[name.split("_")[0]]
    made = paper_table(own_cells(name), name, ours=own)
    assert list(made.subsets) == [each for each in printed["subset"].unique() if each != "average"]
    scores = printed[printed["metric"] == "dice"]
    assert list(dict.fromkeys(region for region, _ in made.columns)) == list(scores["region"].unique())
    cells = scores.set_index(["region", "method", "subset"])["value"]
    for number, (region, method) in enumerate(made.columns):
        if method != "improvement":
            of = method.split(", ")[0]
            expected = [cells.get((region, of, each), np.nan) for each in made.subsets]
            np.testing.assert_allclose(made.means[:, number], expected)
    tests = printed[printed["metric"] == "p_value"].set_index(["region", "method"])["value"]
    assert (made.p_values is not None) == bool(len(tests))
    for (region, method), value in tests.items():
        assert made.p_values is not None
        ours = made.p_values[made.columns.index((region, method))]
        assert ours == pytest.approx(value, rel=0.06)
        assert made.p_values[made.columns.index((region, f"{method}, BraTS2018 [printed]"))] == value
        assert np.isnan(made.p_values[made.columns.index((region, own))])


def test_the_test_is_written_and_marked() -> None:
    made = paper_table(own_cells("lckd_table1"), "lckd_table1", ours="LCKD")
    for writer in (as_text, as_markdown, as_latex):
        assert "p (paper's)" in writer(made) and "5.3e-06" in writer(made)
    assert "no evidence about new patients" in as_markdown(made)
    rows = list(csv.DictReader(io.StringIO(as_csv(made))))
    assert [row["subset"] for row in rows[-2:]] == ["average", "p_value"]
    assert float(rows[-1]["ET mmFormer, BraTS2018 [printed]"]) == 2.8e-5


def test_a_subset_too_few_has_no_test() -> None:
    table = own_cells("metakd_table1").select(subsets=["t1", "t2", "t1+t2"])
    made = paper_table(table, "metakd_table1")
    assert made.subsets == ("t1", "t2", "t1+t2") and made.modalities == BRATS_BULLETS
    assert made.p_values is not None
    assert np.isnan([p for p, (_, name) in zip(made.p_values, made.columns, strict=True) if "[" not in name]).all()


BRATS_BULLETS = ("flair", "t1", "t1ce", "t2")


@pytest.mark.parametrize(
    ("name", "modalities", "regions", "metrics", "message"),
    [
        ("metakd_table9", BRATS, ("WT", "TC", "ET"), ("dice",), "no such template"),
        ("metakd_table1", ("lge", "t2"), ("WT", "TC", "ET"), ("dice",), "expects the modalities flair, t1, t1ce, t2"),
        ("metakd_table1", BRATS, ("WT", "TC"), ("dice",), "expects the regions ET, TC, WT"),
        ("metakd_table1", BRATS, ("WT", "TC", "ET"), ("hd95",), "add it to --metrics"),
    ],
)
def test_refused(
    name: str, modalities: tuple[str, ...], regions: tuple[str, ...], metrics: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_template(name, modalities, regions, metrics)
