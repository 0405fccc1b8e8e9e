"""``mmkd evaluate`` as the tests call it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tiny_nnunet import Home

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.evaluation.result_table import ResultTable

HOW = ["-device", "cpu", "-np", "1", "-nps", "0", "--disable_progress_bar", "--disable_tta", "-step_size", "1"]


def run(out: Path, *arguments: str) -> int:
    return main(["evaluate", "-o", str(out), *HOW, *arguments])


def results(out: Path) -> pd.DataFrame:
    return ResultTable.read(out / "results.csv").rows


def validation(home: Home, *folds: int) -> list[str]:
    splits = home.json(home.dataset(3, "regions"), "splits_final.json")
    return [case for fold in folds for case in splits[fold]["val"]]
