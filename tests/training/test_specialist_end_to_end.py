"""Specialists by the commands: trained, stopped, continued, validated, predicted, exported, imported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from chain import live
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from tiny_nnunet import Home, differences


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "modalities", "labels", "configuration"),
    [("t1_t2w", 4, "regions", "3d_fullres"), ("t1", 2, "classes", "2d")],
)
def test_train_stop_continue_validate_predict_export(
    home: Home,
    names: str,
    modalities: int,
    labels: str,
    configuration: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = home.dataset(modalities, labels)
    trainer = ("nnUNetTrainerSpecialist", f"nnUNetTrainerSpecialist_{names}")
    latest, final, fold = live(home, trainer, dataset, configuration, tmp_path, monkeypatch)
    assert differences(latest["network_weights"], final["network_weights"]) != []
    subset = ["t1", "t2"] if modalities == 4 else ["t1"]
    assert json.loads((fold.parent / "plans.json").read_text())["mmkd"]["subset"] == subset
    first = next(weights for name, weights in final["network_weights"].items() if weights.ndim > 1)
    assert first.shape[1] == len(subset)
    assert all(len(values) == 3 for key, values in final["logging"].items() if key.startswith("mmkd/"))
    installed = tmp_path / "elsewhere" / dataset / fold.parent.name
    files = [str(home.raw / dataset / "imagesTr" / f"case_3_{channel:04d}.nii.gz") for channel in range(modalities)]
    before, after = (by_the_stock_predictor(folder, files) for folder in (fold.parent, installed))
    assert np.array_equal(before, after)


def by_the_stock_predictor(model: Path, files: list[str]) -> np.ndarray:
    """Probabilities, by what ``nnUNetv2_predict`` runs."""
    predictor = nnUNetPredictor(tile_step_size=1, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    return predictor.predict_from_files_sequential([files], None, save_probabilities=True)[0][1]
