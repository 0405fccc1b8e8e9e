"""``mmkd convert`` writes splits when asked for, or when an edition has several time points of a patient."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from brats_like import write_case

from nnunetv2_mmkd.cli.main import main

HOW = ["-np", "1", "--disable_progress_bar"]


def convert(source: Path, *options: str) -> int:
    return main(["convert", "brats2018", str(source), "-d", "501", *HOW, *options])


def test_splits(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, preprocessed = tmp_path / "source", tmp_path / "preprocessed"
    monkeypatch.setenv("nnUNet_preprocessed", str(preprocessed))
    cases = [f"Brats18_TCIA01_{number:03d}_1" for number in range(5)]
    for number, case in enumerate(cases):
        write_case(source, case, seed=number)
    file = preprocessed / "Dataset501_BraTS2018" / "splits_final.json"
    assert convert(source) == 0 and not file.exists()  # one case per patient: nnU-Net's own splits are right
    assert convert(source, "--splits", "patients") == 0
    folds = json.loads(file.read_text())
    assert sorted(case for fold in folds for case in fold["val"]) == cases
    assert all(not set(fold["train"]) & set(fold["val"]) for fold in folds)
