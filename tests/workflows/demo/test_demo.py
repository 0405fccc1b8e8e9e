"""The demo: one tiny run of the whole chain, and what it says about its numbers."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.image import imread
from tiny_nnunet import inline_pools

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.workflows.demo.report import last_words
from nnunetv2_mmkd.workflows.demo.run import FULL, NAMES, WITHOUT_T1CE

VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer", "OMP_NUM_THREADS")

BARS = {"", "phantom", "preprocessing", "training", "predicting with all subsets", "page", "scoring"}


def test_the_chain(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Everything that the last words name exists; nothing but the demo's own words and bars is on the screen."""
    for name in VARIABLES:
        monkeypatch.setenv(name, os.environ.get(name, ""))  # so that they are put back
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    monkeypatch.setenv("nnUNet_def_n_proc", "1")
    monkeypatch.setattr("nnunetv2_mmkd.inference.run.usable_cores", lambda: 1)
    inline_pools(monkeypatch)
    out = tmp_path / "demo"
    length = ["-tr", "nnUNetTrainerMetaKD", "--epochs", "1", "--iterations", "3"]
    assert main(["demo", "--out", str(out), "-n", "5", "--size", "32", *length]) == 0

    screen = capfd.readouterr()
    shown = (screen.out + screen.err).replace("\r", "\n").splitlines()
    assert {line.partition(":")[0] for line in shown} <= BARS
    said = "\n".join(caplog.messages).splitlines()
    assert [line[:5] for line in said if line.startswith("[")] == [f"[{number}/6]" for number in range(1, 7)]
    bar = [line for line in shown if line.startswith("training:")]
    assert any("meta-update of the modality weights" in line for line in bar) and "3/3" in bar[-1]
    assert any("epoch 1/1: validation" in line for line in bar)
    places = [Path(line.rpartition("  ")[2].strip()) for line in said if str(out) in line and line.startswith("  ")]
    assert len(places) == 6 and all(place.exists() for place in places)

    assert "Epoch 0" in (out / "demo.log").read_text()
    dice = pd.read_csv(out / "dice.csv")
    assert list(dice.columns) == ["prediction", "case", "region", "dice"]
    assert list(dice["prediction"].unique()) == list(NAMES.values()) and len(dice) == 36
    assert imread(out / "demo.png").shape[1] > 1000
    assert main(["demo", "--out", str(tmp_path), "-n", "5"]) == 1  # it holds something else


def words(full: tuple[float, float, float], without: tuple[float, float, float]) -> str:
    rows = [
        ("MetaKD", f"case{case}", subset, region, "dice", value + 0.01 * case)
        for subset, values in ((FULL, full), (WITHOUT_T1CE, without), ("flair", without))
        for region, value in zip(("WT", "TC", "ET"), values, strict=True)
        for case in (-1, 1)
    ]
    frame = pd.DataFrame(rows, columns=["method", "case", "subset", "region", "metric", "value"])
    table = ResultTable.from_frame(frame, ("t1", "t1ce", "t2", "flair"))
    return "\n".join(last_words(table, NAMES, FULL, WITHOUT_T1CE, 15))


def test_the_numbers_in_plain_words() -> None:
    said = words((0.91, 0.88, 0.78), (0.90, 0.80, 0.40))
    assert "trained once on 15 phantoms, segmented 2 phantoms" in said
    assert "  without T1ce        90.0    80.0    40.0" in said
    assert "the same model still finds WT (-1.0), and loses TC (-8.0) and ET (-38.0), which only T1ce" in said
    assert "still finds WT (as before), and loses" in words((0.91, 0.88, 0.78), (0.9098, 0.80, 0.40))
    assert "did not learn to find ET and TC: train it longer" in words((0.91, 0.1, 0.1), (0.90, 0.1, 0.1))
