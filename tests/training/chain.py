"""The whole life of a trainer by nnU-Net's commands, for the end-to-end tests of each method."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.model_sharing.model_import import install_model_from_zip_file
from nnunetv2.run.run_training import run_training
from tiny_nnunet import Home

from nnunetv2_mmkd.cli.main import main

CPU = torch.device("cpu")

STOPS = """
import os

from nnunetv2_mmkd.trainer_variants.{base} import {base_class}
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class nnUNetTrainerStops({base_class}):
    def on_epoch_start(self):
        if str(self.current_epoch) == os.environ.get("TEST_STOPS_BEFORE"):
            raise KeyboardInterrupt
        super().on_epoch_start()


__getattr__ = suffix_resolver(globals())
"""


def live(
    home: Home,
    trainer: tuple[str, str],
    dataset: str,
    configuration: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Train, stop, continue, validate, predict without T1ce, export, import, predict the same.

    Args:
        home: of the data set.
        trainer: the trainer's file and class.
        dataset: name.
        configuration: of the plans.
        tmp_path: for what is written; ``nnUNet_results`` lies in it.
        monkeypatch: for the environment.

    Returns:
        the checkpoint at the stop, the final one, and the folder of the fold.
    """
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "stops.py").write_text(STOPS.format(base=trainer[0], base_class=trainer[1]))
    monkeypatch.setenv("nnUNet_extTrainer", f"{os.environ['nnUNet_extTrainer']}{os.pathsep}{tmp_path / 'mine'}")
    name = "nnUNetTrainerStops_3epochs_2iters"
    model = tmp_path / "results" / dataset / f"{name}__nnUNetPlans__{configuration}"
    fold = model / "fold_0"

    monkeypatch.setenv("TEST_STOPS_BEFORE", "2")
    with pytest.raises(KeyboardInterrupt):
        run_training(dataset, configuration, 0, name, device=CPU)
    latest = torch.load(fold / "checkpoint_latest.pth", weights_only=False)
    monkeypatch.delenv("TEST_STOPS_BEFORE")
    run_training(dataset, configuration, 0, name, continue_training=True, device=CPU)
    final = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert (latest["mmkd"]["iteration"], final["mmkd"]["iteration"]) == (4, 6)
    assert "foreground_mean" in json.loads((fold / "validation" / "summary.json").read_text())
    assert (fold / "mmkd_progress.png").is_file() and (fold / "progress.png").is_file()

    before = _predict(home, dataset, model, tmp_path / "before")
    archive, elsewhere = tmp_path / "model.zip", tmp_path / "elsewhere"
    export_pretrained_model(dataset, str(archive), (configuration,), name, folds=(0,))
    elsewhere.mkdir()
    monkeypatch.setenv("nnUNet_results", str(elsewhere))
    install_model_from_zip_file(str(archive))
    assert np.array_equal(before, _predict(home, dataset, elsewhere / dataset / model.name, tmp_path / "after"))
    return latest, final, fold


def _predict(home: Home, dataset: str, model: Path, out: Path) -> np.ndarray:
    """Probabilities of a case without T1ce."""
    where = ["-i", str(home.raw / dataset / "imagesTr"), "-o", str(out), "-m", str(model), "-f", "0"]
    how = ["-device", "cpu", "-npp", "0", "-nps", "0", "--disable_tta", "--disable_progress_bar"]
    assert main(["predict", *where, *how, "--missing", "T1c", "--save_probabilities"]) == 0
    report = json.loads((out / "mmkd_report.json").read_text())
    assert all("t1ce" not in entry["used"] for entry in report["cases"].values())
    assert sitk.ReadImage(str(out / "case_3.nii.gz")).GetSize()
    return np.load(out / "case_3.npz")["probabilities"]
