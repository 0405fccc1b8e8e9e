"""mmFormer, RFNet and M2FTrans by the commands: trained, stopped, continued, validated, predicted, exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chain import live
from tiny_nnunet import Home, differences


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "modalities", "labels", "configuration"),
    [
        ("nnUNetTrainermmFormer", 2, "classes", "2d"),
        ("nnUNetTrainerRFNet", 4, "regions", "3d_fullres"),
        ("nnUNetTrainerM2FTrans", 4, "regions", "3d_fullres"),
    ],
)
def test_train_stop_continue_validate_predict_export(
    home: Home,
    name: str,
    modalities: int,
    labels: str,
    configuration: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = home.dataset(modalities, labels)
    latest, final, fold = live(home, (name,) * 2, dataset, configuration, tmp_path, monkeypatch)
    before, after = (checkpoint["mmkd"]["method"] for checkpoint in (latest, final))
    assert differences(before["decoder"], after["decoder"]) != []
    assert {key.split(".")[0] for key in final["network_weights"]} == {"encoders", "fusions", "decoder"}
    curves = {key for key in final["logging"] if key.startswith("mmkd/loss/")}
    maps = {"mmkd/loss/region maps"} if name.endswith("RFNet") else set()
    assert curves == {"mmkd/loss/task", "mmkd/loss/uni-modal"} | maps
    assert all(len(values) == 3 for key, values in final["logging"].items() if key.startswith("mmkd/"))
    plans = json.loads((fold.parent / "plans.json").read_text())["mmkd"]
    assert plans["exclusive"] == (labels == "classes")
