"""Models of the first version (commit 9fdd881) are predicted with, and go on under ``--c``.

``first_version`` has trainings of its trainers by nnU-Net, stopped after two of three epochs, on the data set of
:mod:`tiny_nnunet` with three modalities and classes, 2d, and what that version made of them: the losses of all three
epochs, and mean logits of the model that was stopped.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import run_training
from tiny_nnunet import Home

FOLDER = Path(__file__).parent / "first_version"
each_model = pytest.mark.parametrize("model", sorted(FOLDER.iterdir()), ids=lambda model: model.name.split("_")[0])
CPU = torch.device("cpu")


def expected(model: Path) -> dict[str, Any]:
    return json.loads((model / "expected.json").read_text())


@each_model
def test_predict(home: Home, model: Path) -> None:
    predictor = nnUNetPredictor(tile_step_size=1, use_mirroring=False, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,), "checkpoint_latest.pth")
    image = torch.linspace(-1, 1, 3 * 16 * 16).reshape(3, 1, 16, 16).sin()
    for key in ("logits", "logits_without_t1ce"):
        found = predictor.predict_sliding_window_return_logits(image)
        assert found.float().mean((1, 2, 3)).tolist() == pytest.approx(expected(model)[key], abs=1e-3), key
        image[1] = 0
    assert expected(model)["logits"] != pytest.approx(expected(model)["logits_without_t1ce"], abs=2e-3)


@each_model
def test_resume(home: Home, model: Path, tmp_path: Path, no_figures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    name, dataset = model.name, home.dataset(shape=(20, 22, 18))
    fold = tmp_path / "results" / dataset / f"{name}__nnUNetPlans__2d" / "fold_0"
    shutil.copytree(model / "fold_0", fold)
    before = torch.load(fold / "checkpoint_latest.pth", weights_only=False)
    run_training(dataset, "2d", 0, name, continue_training=True, device=CPU)
    after = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert (before["mmkd"]["iteration"], after["mmkd"]["iteration"]) == (4, 6)
    for part in (lambda checkpoint: checkpoint, lambda checkpoint: checkpoint["mmkd"]):
        assert part(before).keys() == part(after).keys()
    assert before["logging"].keys() == after["logging"].keys()
    assert before["mmkd"]["method"].keys() == after["mmkd"]["method"].keys()
    assert after["network_weights"].keys() == before["network_weights"].keys()
    losses = expected(model)["train_losses"]
    assert after["logging"]["train_losses"] == pytest.approx(losses, rel=1e-4)
    for split in model.glob("fold_0/*_split.json"):
        assert (fold / split.name).read_text() == split.read_text()
    config = json.loads((fold / "mmkd_config.json").read_text())
    assert {"subset_law", "optimizer_law", "realised_missing_rates"} < config.keys()
