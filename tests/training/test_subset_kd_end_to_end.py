"""SubsetKD by the commands: trained, stopped, continued, validated, predicted with a modality less, exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain import _predict, live
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import run_training
from tiny_nnunet import Home, differences

from nnunetv2_mmkd.methods.subset_kd import SubsetKDConfig
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSubsetKD import (
    nnUNetTrainerSubsetKD,
    nnUNetTrainerSubsetKD_MultiStream,
)

FILE = "nnUNetTrainerSubsetKD"


@pytest.fixture(autouse=True)
def half_of_the_training_is_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default trainings of so few steps average over one, and average and student are the same."""
    for trainer in (nnUNetTrainerSubsetKD, nnUNetTrainerSubsetKD_MultiStream):
        monkeypatch.setattr(trainer, "config", SubsetKDConfig(window=0.5))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "modalities", "labels", "configuration"),
    [
        (FILE, 4, "regions", "3d_fullres"),
        (FILE, 2, "classes", "2d"),
        (f"{FILE}_MultiStream", 2, "regions", "3d_fullres"),
        (f"{FILE}_MultiStream", 4, "classes", "2d"),
    ],
)
def test_train_stop_continue_validate_predict_export(
    home: Home,
    trainer: str,
    modalities: int,
    labels: str,
    configuration: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = home.dataset(modalities, labels)
    latest, final, fold = live(home, (FILE, trainer), dataset, configuration, tmp_path, monkeypatch)
    before, after = (checkpoint["mmkd"] for checkpoint in (latest, final))
    assert (before["method"]["updates"], after["method"]["updates"]) == (4, 6)
    assert differences(before["method"]["ema"], after["method"]["ema"]) != []
    for checkpoint in (latest, final):  # the average is deployed, the trained weights lie beside
        own = checkpoint["mmkd"]
        assert differences(checkpoint["network_weights"], own["method"]["ema"]) == []
        assert differences(checkpoint["network_weights"], own["network"]) != []
    assert all(len(values) == 3 for key, values in final["logging"].items() if key.startswith("mmkd/"))

    elsewhere = tmp_path / "elsewhere" / dataset / fold.parent.name
    imported = torch.load(elsewhere / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert differences(imported["network_weights"], after["method"]["ema"]) == []
    average = np.load(tmp_path / "after" / "case_3.npz")["probabilities"]
    imported["network_weights"] = imported["mmkd"]["network"]
    torch.save(imported, elsewhere / "fold_0" / "checkpoint_final.pth")
    assert not np.array_equal(average, _predict(home, dataset, elsewhere, tmp_path / "student"))


@pytest.mark.slow
def test_the_final_validation_alone_is_of_the_average(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--val`` on a finished training: what is validated equals what a prediction with the model gives."""
    dataset = home.dataset(2, "classes")
    name = f"{FILE}_1epochs_2iters"
    seen: list[dict[str, Any]] = []
    adopt = nnUNetPredictor.manual_initialization

    def look(self: Any, network: Any, *args: Any) -> None:
        seen.append({key: value.clone() for key, value in network.state_dict().items()})
        adopt(self, network, *args)

    monkeypatch.setattr(nnUNetPredictor, "manual_initialization", look)
    run_training(dataset, "2d", 0, name, device=torch.device("cpu"))
    run_training(dataset, "2d", 0, name, only_run_validation=True, device=torch.device("cpu"))
    model = tmp_path / "results" / dataset / f"{name}__nnUNetPlans__2d" / "fold_0"
    final = torch.load(model / "checkpoint_final.pth", weights_only=False)
    assert len(seen) == 2
    assert all(differences(each, final["mmkd"]["method"]["ema"]) == [] for each in seen)
