"""nnU-Net's folders with plans of a data set, and its training command replaced by a record of its calls."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from nnunetv2.run import run_training
from small_plans import plans_for

from nnunetv2_mmkd.paths import EXT_TRAINER

CONFIGURATIONS: dict[str, dict[str, str]] = {
    "2d": {},
    "3d_fullres": {},
    "planned": {"data_identifier": "planned"},
    "heir": {"inherits_from": "planned"},
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's folders, with plans for data set 7."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "own"))
    folder = tmp_path / "preprocessed" / "Dataset007_X"
    folder.mkdir()
    (folder / "dataset.json").write_text("{}")
    plans = plans_for(4)
    plans["configurations"] = {**CONFIGURATIONS, **plans["configurations"]}
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    for name in ("ready", "gt_segmentations"):
        (folder / name).mkdir()
    (folder / "dataset_fingerprint.json").write_text("{}")
    for case in ("a", "b"):
        for ending in (".b2nd", "_seg.b2nd", ".pkl"):
            (folder / "ready" / (case + ending)).write_text("something")
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], str]]:
    """What nnU-Net's command would have seen, instead of training."""
    seen: list[tuple[list[str], str]] = []
    monkeypatch.setattr(
        run_training, "run_training_entry", lambda: seen.append((list(sys.argv), os.environ[EXT_TRAINER]))
    )
    return seen
