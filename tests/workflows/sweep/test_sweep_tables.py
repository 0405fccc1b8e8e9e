"""The tables at the end of a sweep, from evaluations that are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.statistics import CaseComparison, compare
from nnunetv2_mmkd.evaluation.table_files import write_table
from nnunetv2_mmkd.workflows.sweep import tables
from nnunetv2_mmkd.workflows.sweep.definition import read_sweep
from nnunetv2_mmkd.workflows.sweep.tables import _corrected, write_tables
from nnunetv2_mmkd.workflows.sweep.tasks import Evaluation, evaluations_of, models_of

NAMES = ("t1", "t2")
SUBSETS = ("t1", "t2", "t1+t2")
FILE = """
dataset: 7
configuration: 2d
trainers: [A, B]
folds: [0]
seeds: [3, 5]
missing_rates: [complete, {tag: mr}]
compare: {pairs: [[A, B]], resamples: 100%s}
"""


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnunetv2_mmkd.evaluation.report.FIGURES", ())


def evaluated(folder: Path, more: str = "") -> list[Evaluation]:
    """Evaluations with made-up values: A is better than B by the seed's number in per cent, with ``mr`` worse."""
    (folder / "sweep.yaml").write_text(FILE % more)
    sweep = read_sweep(folder / "sweep.yaml")
    found = evaluations_of(sweep, models_of(sweep, folder), folder / "out")
    base = np.random.default_rng(0).random((5, len(SUBSETS))) / 2 + 0.25
    for task in found:
        model = task.model
        gain = (model.seed or 0) / 100 * (1 if model.method == "A" else 0) * (-1 if model.tag else 1)
        rows = [
            (model.label, f"c{case}", subset, "WT", "dice", base[case, place] + gain * (place + 1))
            for case in range(5)
            for place, subset in enumerate(SUBSETS)
        ]
        write_table(pd.DataFrame(rows, columns=["method", "case", "subset", "region", "metric", "value"]), task.results)
    return found


def written(folder: Path, tasks: list[Evaluation]) -> tuple[pd.DataFrame, list[str], list[str]]:
    lines, problems = write_tables(read_sweep(folder / "sweep.yaml"), tasks, NAMES, folder / "out")
    return pd.read_csv(folder / "out" / "compare.csv"), lines, problems


def test_numbers_by_hand(tmp_path: Path) -> None:
    compared, lines, problems = written(tmp_path, evaluated(tmp_path))
    assert problems == []
    assert list(zip(compared["first"], compared["second"], strict=True)) == [("A", "B"), ("A_mr", "B_mr")]
    # the mean of seeds 3 and 5 is 4; the mean of the factors 1, 2, 3 of the subsets is 2
    assert compared["difference"].tolist() == pytest.approx([0.08, -0.08])
    assert compared["seeds"].tolist() == ["3 5", "3 5"] and compared["seeds_better"].tolist() == [2, 0]
    first = compared.iloc[0]
    # all cases differ alike: nothing is left to chance but the seeds, 0.06 and 0.10
    assert (first["ci_low"], first["ci_high"]) == pytest.approx((0.08, 0.08))
    assert (first["ci_low_seeds"], first["ci_high_seeds"]) == pytest.approx((0.06, 0.10))
    summary = pd.read_csv(tmp_path / "out" / "seeds.csv").set_index("method")
    assert summary.loc["A", "mean"] - summary.loc["B", "mean"] == pytest.approx(0.08)
    assert summary.loc["A", "sd"] == pytest.approx(0.04 / np.sqrt(2)) and summary.loc["B", "sd"] == pytest.approx(0)
    averaged = pd.read_csv(tmp_path / "out" / "results.csv")
    expected = compare(ResultTable.from_frame(averaged), "A", "B", region="WT", resamples=100)
    assert isinstance(expected, CaseComparison) and first["p_value"] == pytest.approx(expected.p_value)
    assert first["p_holm"] == first["p_value"]  # the only one that is compared with B
    text = "\n".join(lines)
    assert "| A - B | Dice (points) | WT |" in text and "| +8.00 | [+8.00, +8.00] | [+6.00, +10.00] |" in text
    assert "| A_mr - B_mr |" in (tmp_path / "out" / "compare.md").read_text()
    assert (tmp_path / "out" / "tables" / "dice.md").is_file()
    assert len(pd.read_csv(tmp_path / "out" / "results_by_seed.csv")) == 2 * len(averaged)


def test_some_subsets(tmp_path: Path) -> None:
    compared, _, problems = written(tmp_path, evaluated(tmp_path, ", subsets: [T2+T1]"))
    assert problems == [] and compared["difference"].tolist() == pytest.approx([0.12, -0.12])
    assert set(compared["subsets"]) == {"t1+t2"}


def test_patients(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("case,patient\n" + "".join(f"c{case},p{case // 2}\n" for case in range(5)))
    compared, _, _ = written(tmp_path, evaluated(tmp_path, ", patients: p.csv"))
    assert set(compared["patients"]) == {3}


def test_a_model_is_lacking(tmp_path: Path) -> None:
    """Only seeds that both have are compared; what cannot be compared is said."""
    tasks = [task for task in evaluated(tmp_path) if task.model.label not in ("B_seed5", "A_mr_seed3", "A_mr_seed5")]
    compared, lines, problems = written(tmp_path, tasks)
    assert problems == ["A_mr - B_mr, dice: one of them was not evaluated"]
    (row,) = compared.to_dict("records")
    assert row["difference"] == pytest.approx(0.06) and str(row["seeds"]) == "3" and np.isnan(row["ci_low_seeds"])
    text = "\n".join(lines)
    assert "| [+6.00, +6.00] | – |" in text and "Not compared: A_mr - B_mr, dice: one of them was not evaluated" in text
    assert "values averaged over trainings: A 2, B 1, B_mr 2" in (tmp_path / "out" / "tables" / "dice.md").read_text()
    apart = [task for task in evaluated(tmp_path) if task.model.label in ("A_seed3", "B_seed5")]
    _, problems = write_tables(read_sweep(tmp_path / "sweep.yaml"), apart, NAMES, tmp_path / "other")
    assert problems[0] == "A - B, dice: they were not evaluated with the same seed"


def test_a_model_of_one_subset_is_compared_on_that(tmp_path: Path) -> None:
    """A specialist has no other; its means stand beside those of all subsets, and say so."""
    tasks = evaluated(tmp_path)
    for task in tasks:
        if task.model.trained == "A":
            rows = pd.read_csv(task.results)
            write_table(rows[rows["subset"] == "t1+t2"], task.results)
    compared, lines, problems = written(tmp_path, tasks)
    assert problems == [] and compared["narrowed"].tolist() == [True, False]
    assert compared["difference"].tolist() == pytest.approx([0.12, -0.08])  # the factor of t1+t2 is 3
    assert compared["subsets"].tolist()[0] == "t1+t2"
    text = "\n".join(lines)
    assert "| A - B, t1+t2 only | Dice" in text and "| A_mr - B_mr | Dice" in text
    assert "| A, t1+t2 only | Dice" in text and "| B | Dice" in text
    for task in tasks:
        if task.model.trained == "B":
            rows = pd.read_csv(task.results)
            write_table(rows[rows["subset"] == "t1"], task.results)
    _, _, problems = written(tmp_path, tasks)
    assert problems == ["A - B, dice: they were not evaluated on the same subset"]


def test_models_without_seeds(tmp_path: Path) -> None:
    tasks = evaluated(tmp_path)
    (tmp_path / "sweep.yaml").write_text((tmp_path / "sweep.yaml").read_text().replace("seeds: [3, 5]\n", ""))
    sweep = read_sweep(tmp_path / "sweep.yaml")
    alone = evaluations_of(sweep, models_of(sweep, tmp_path), tmp_path / "out")
    for task, source in zip(alone, [each for each in tasks if each.model.seed == 3], strict=True):
        write_table(pd.read_csv(source.results).assign(method=task.model.label), task.results)
    compared, lines, problems = written(tmp_path, alone)
    assert problems == [] and compared["difference"].tolist() == pytest.approx([0.06, -0.06])
    assert compared["seeds"].tolist() == [tables.NO_SEED] * 2
    assert "values averaged over 1 training of each method" in (tmp_path / "out" / "tables" / "dice.md").read_text()
    assert "| 1 |" in "\n".join(lines)


def test_holm_counts_the_methods_that_are_compared_with_the_same_one() -> None:
    given = [("A", "control", 0.01, "all"), ("B", "control", 0.04, "all"), ("C", "control", 0.03, "all")]
    given += [("A", "B", 0.2, "all"), ("Specialist", "control", 0.04, "t1")]  # of other subsets: by itself
    rows = [
        {"first": first, "second": second, "metric": metric, "region": "WT", "p_value": p, "subsets": subsets}
        for metric in ("dice", "hd95")
        for first, second, p, subsets in given
    ]
    corrected = [row["p_holm"] for row in _corrected(rows)]
    assert corrected == pytest.approx([0.03, 0.06, 0.06, 0.2, 0.04] * 2)
