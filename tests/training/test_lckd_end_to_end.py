"""LCKD by the commands: trained, stopped, continued, validated, predicted with a modality less, exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chain import live
from tiny_nnunet import Home, differences


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "modalities", "labels", "configuration"),
    [
        ("nnUNetTrainerLCKD", 4, "regions", "3d_fullres"),
        ("nnUNetTrainerLCKDSingleTeacher", 2, "classes", "2d"),
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
    latest, final, fold = live(home, ("nnUNetTrainerLCKD", trainer), dataset, configuration, tmp_path, monkeypatch)
    before, after = (checkpoint["mmkd"]["method"]["elections"] for checkpoint in (latest, final))
    assert [election["iteration"] for election in before] == [0, 1, 2, 3]
    assert [election["iteration"] for election in after] == list(range(6))
    assert differences(before, after[:4]) == []
    split = json.loads((fold / "mmkd_election_split.json").read_text())
    assert not set(split["training"]) & set(split["election"])
