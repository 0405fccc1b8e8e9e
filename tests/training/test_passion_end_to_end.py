"""PASSION and PMR by the commands: trained, stopped, continued, validated, predicted with a modality less, exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from chain import live
from tiny_nnunet import Home, differences


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "modalities", "labels", "configuration"),
    [
        ("nnUNetTrainerPASSION_SharedStreams", 4, "regions", "3d_fullres"),
        ("nnUNetTrainerPASSION", 2, "classes", "2d"),
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
    latest, final, _ = live(home, ("nnUNetTrainerPASSION", trainer), dataset, configuration, tmp_path, monkeypatch)
    before, after = (checkpoint["mmkd"]["method"] for checkpoint in (latest, final))
    assert torch.equal(before["start"], after["start"]) and differences(before["beta"], after["beta"]) != []
    assert all(len(values) == 3 for key, values in final["logging"].items() if key.startswith("mmkd/"))


@pytest.mark.slow
def test_pmr_by_the_commands(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = home.dataset(4, "regions")
    latest, final, _ = live(home, ("nnUNetTrainerPMR",) * 2, dataset, "3d_fullres", tmp_path, monkeypatch)
    before, after = (checkpoint["mmkd"]["method"] for checkpoint in (latest, final))
    assert before["centres"].shape == (4, 4, 4) and differences(before["centres"], after["centres"]) != []
    assert {key.split(".")[0] for key in final["network_weights"]} == {"encoders", "fusions", "decoder"}
    curves = {key.removeprefix("mmkd/"): values for key, values in final["logging"].items() if "mmkd/" in key}
    assert all(len(values) == 3 for values in curves.values())
    ratios = [values for key, values in curves.items() if key.startswith("imbalance ratio/")]
    assert len(ratios) == 4 and [values[-1] for values in ratios] == after["ratio"].tolist()
    assert curves["loss/entropy"][0] < 0 and torch.tensor(curves["loss/entropy"][1:]).isnan().all()  # early
