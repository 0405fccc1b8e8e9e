"""Methods ranked by their lesion-wise scores."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.ranking import ranking, ranking_metrics
from nnunetv2_mmkd.evaluation.report import write_report
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.score import ScoreSettings

DICE, HD95, NSD = (f"lesion_{name}@brats2025-gli" for name in ("dice", "hd95", "nsd"))


def table(values: dict[str, dict[str, list[float]]]) -> ResultTable:
    """Method -> metric -> value of each case."""
    rows = [
        {"method": method, "case": f"c{case}", "subset": "t1", "region": "WT", "metric": metric, "value": value}
        for method, metrics in values.items()
        for metric, cases in metrics.items()
        for case, value in enumerate(cases)
    ]
    return ResultTable.from_frame(pd.DataFrame(rows), ("t1",))


def test_ranks_by_hand() -> None:
    """Dice: a, then b and c alike; HD95: c, b, a. The second case, which c lacks, is left out."""
    found = ranking(
        table(
            {
                "a": {DICE: [0.9, 0.1], HD95: [9, 1], "dice": [0, 0]},
                "b": {DICE: [0.5, 0.2], HD95: [5, 1], "dice": [1, 1]},
                "c": {DICE: [0.5, float("nan")], HD95: [1, float("nan")], "dice": [1, 1]},
            }
        )
    )
    assert found is not None
    assert found.to_dict("list") == {
        "method": ["c", "a", "b"], "mean_rank": [1.75, 2.0, 2.25], "best": [1, 1, 0], "comparisons": [2, 2, 2],
    }  # fmt: skip


def test_nsd_in_place_of_hd95() -> None:
    values = {"a": {DICE: [0.9], HD95: [9], NSD: [0.9]}, "b": {DICE: [0.5], HD95: [1], NSD: [0.5]}}
    assert ranking_metrics(table(values)) == [DICE, NSD]
    found = ranking(table(values))
    assert found is not None and found["mean_rank"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "values",
    [{"a": {DICE: [0.9]}}, {"a": {"dice": [1]}, "b": {"dice": [0]}}, {"a": {DICE: [1]}, "b": {DICE: [float("nan")]}}],
)
def test_nothing_to_rank(values: dict[str, dict[str, list[float]]]) -> None:
    assert ranking(table(values)) is None


def test_in_the_report(tmp_path: Path) -> None:
    write_report(table({"good": {DICE: [0.9, 0.8]}, "bad": {DICE: [0.5, 0.4]}}), tmp_path)
    text = (tmp_path / "tables" / "ranking.txt").read_text()
    assert "Lesion-wise Dice, BraTS 2025 GLI" in text and text.index("good") < text.index("bad")
    assert (
        (tmp_path / "tables" / "ranking.csv").read_text().startswith("method,mean_rank,best,comparisons\ngood,1.0,2,2")
    )


@pytest.mark.parametrize(
    ("edition", "asked", "task"),
    [
        ("brats2025-met", None, "brats2025-met"),
        ("brats2025-met", "none", None),
        ("brats2025-met", "brats2023-met", "brats2023-met"),
        ("brats2025-gli-pre", None, None),
        ("brats2024-gli", None, None),
        ("", None, None),
    ],
)
def test_the_task_of_the_edition(edition: str, asked: str | None, task: str | None) -> None:
    assert ScoreSettings(task=asked).for_data_set({"edition": edition}).task == task
    with pytest.raises(InputError, match="unknown"):
        ScoreSettings(task="brats2030")
