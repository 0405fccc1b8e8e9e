"""PASSION by the commands: trained, stopped, continued, validated, predicted with a modality less, exported."""

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
