"""LCKD by the commands: trained, stopped, continued, validated, predicted with a modality less, exported."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.model_sharing.model_import import install_model_from_zip_file
from nnunetv2.run.run_training import run_training
from tiny_nnunet import Home, differences

from nnunetv2_mmkd.cli.main import main

CPU = torch.device("cpu")

STOPS = """
import os

from nnunetv2_mmkd.trainer_variants.nnUNetTrainerLCKD import nnUNetTrainerLCKD, nnUNetTrainerLCKDSingleTeacher
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class Stopping:
    def on_epoch_start(self):
        if str(self.current_epoch) == os.environ.get("TEST_STOPS_BEFORE"):
            raise KeyboardInterrupt
        super().on_epoch_start()


class nnUNetTrainerStopsSeveral(Stopping, nnUNetTrainerLCKD):
    pass


class nnUNetTrainerStopsSingle(Stopping, nnUNetTrainerLCKDSingleTeacher):
    pass


__getattr__ = suffix_resolver(globals())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "modalities", "labels", "configuration"),
    [("Several", 4, "regions", "3d_fullres"), ("Single", 2, "classes", "2d")],
)
def test_train_stop_continue_validate_predict_export(
    home: Home,
    kind: str,
    modalities: int,
    labels: str,
    configuration: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "stops.py").write_text(STOPS)
    monkeypatch.setenv("nnUNet_extTrainer", f"{os.environ['nnUNet_extTrainer']}{os.pathsep}{tmp_path / 'mine'}")
    dataset, name = home.dataset(modalities, labels), f"nnUNetTrainerStops{kind}_3epochs_2iters"
    model = tmp_path / "results" / dataset / f"{name}__nnUNetPlans__{configuration}"
    fold = model / "fold_0"

    monkeypatch.setenv("TEST_STOPS_BEFORE", "2")
    with pytest.raises(KeyboardInterrupt):
        run_training(dataset, configuration, 0, name, device=CPU)
    latest = torch.load(fold / "checkpoint_latest.pth", weights_only=False)
    split = (fold / "mmkd_election_split.json").read_text()
    assert [e["iteration"] for e in latest["mmkd"]["method"]["elections"]] == [0, 1, 2, 3]
    monkeypatch.delenv("TEST_STOPS_BEFORE")
    run_training(dataset, configuration, 0, name, continue_training=True, device=CPU)
    final = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    elections = final["mmkd"]["method"]["elections"]
    assert [e["iteration"] for e in elections] == list(range(6))
    assert differences(latest["mmkd"]["method"]["elections"], elections[:4]) == []
    assert (fold / "mmkd_election_split.json").read_text() == split
    assert "foreground_mean" in json.loads((fold / "validation" / "summary.json").read_text())
    assert (fold / "mmkd_progress.png").is_file() and (fold / "progress.png").is_file()

    def predict(folder: Path, out: str) -> np.ndarray:
        where = ["-i", str(home.raw / dataset / "imagesTr"), "-o", str(tmp_path / out), "-m", str(folder), "-f", "0"]
        how = ["-device", "cpu", "-npp", "0", "-nps", "0", "--disable_tta", "--disable_progress_bar"]
        assert main(["predict", *where, *how, "--missing", "T1c", "--save_probabilities"]) == 0
        report = json.loads((tmp_path / out / "mmkd_report.json").read_text())
        assert all("t1ce" not in entry["used"] for entry in report["cases"].values())
        assert sitk.ReadImage(str(tmp_path / out / "case_3.nii.gz")).GetSize()
        return np.load(tmp_path / out / "case_3.npz")["probabilities"]

    before = predict(model, "before")
    archive, elsewhere = tmp_path / "model.zip", tmp_path / "elsewhere"
    export_pretrained_model(dataset, str(archive), (configuration,), name, folds=(0,))
    elsewhere.mkdir()
    monkeypatch.setenv("nnUNet_results", str(elsewhere))
    install_model_from_zip_file(str(archive))
    assert np.array_equal(before, predict(elsewhere / dataset / model.name, "after"))
