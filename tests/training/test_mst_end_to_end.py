"""MST-KDNet by the commands: trained, stopped, continued, validated, predicted with a modality less, exported."""

from __future__ import annotations

from pathlib import Path

import pytest
from chain import live
from tiny_nnunet import Home, differences


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modalities", "labels", "configuration"), [(4, "regions", "3d_fullres"), (2, "classes", "2d")]
)
def test_train_stop_continue_validate_predict_export(
    home: Home, modalities: int, labels: str, configuration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = home.dataset(modalities, labels)
    latest, final, _ = live(home, ("nnUNetTrainerMSTKDNet",) * 2, dataset, configuration, tmp_path, monkeypatch)
    before, after = (checkpoint["mmkd"]["method"] for checkpoint in (latest, final))
    assert differences(before["teacher"], after["teacher"]) != []
    assert [float(each["discriminator_optimizer"]["state"][0]["step"]) for each in (before, after)] == [4, 6]
    assert before["teacher"].keys() == final["network_weights"].keys()  # only the student is deployed
    assert differences(after["teacher"], final["network_weights"]) != []
    assert all(len(values) == 3 for key, values in final["logging"].items() if key.startswith("mmkd/"))
