"""ACN and SMU-Net on real nnU-Net: kinds of plans and data sets, prediction by the stock predictor, names."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
from tiny_nnunet import PLAIN, RESIDUAL, Home, differences, start, steps

from nnunetv2_mmkd.errors import InputError

ROWS = [
    ("ACN_t1_t2", 3, "regions_ignore", "2d", PLAIN),
    ("ACN_t1ce", 5, "classes", "3d_fullres", RESIDUAL),
    ("SMUNet_t1_t2", 3, "classes_ignore", "3d_fullres", PLAIN),
    ("SMUNet_pd_t1", 5, "regions", "2d", RESIDUAL),
]


@pytest.mark.parametrize(
    ("name", "modalities", "labels", "configuration", "identifier"), ROWS, ids=[row[0] for row in ROWS]
)
def test_trains_and_predicts(
    home: Home, name: str, modalities: int, labels: str, configuration: str, identifier: str
) -> None:
    dataset = home.dataset(modalities, labels)
    trainer = start(home.trainer(find(f"nnUNetTrainer{name}"), dataset, configuration, identifier=identifier))
    before = copy.deepcopy((trainer.network.state_dict(), trainer.method.state_dict()))
    parts: dict[str, torch.Tensor] = {}
    step = trainer.method.step
    trainer.method.step = lambda *args: parts.update((result := step(*args))["parts"]) or result
    steps(trainer, [next(trainer.dataloader_train)])
    assert set(trainer.method.config.weights()) | {"student", "teacher"} == set(parts)
    assert all(torch.isfinite(value) and value != 0 for value in parts.values())
    after = trainer.network.state_dict(), trainer.method.state_dict()
    assert all(differences(*pair) != [] for pair in zip(before, after, strict=True))
    first = next(weight for weight in trainer.method.teacher.parameters() if weight.ndim > 1)
    assert first.shape[1] == modalities  # the teacher sees all

    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    predictor = nnUNetPredictor(tile_step_size=1, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,))
    assert differences(after[0], predictor.network.state_dict()) == []
    data = torch.randn(modalities, 18, 16, 16)
    expected = predictor.predict_sliding_window_return_logits(data)
    others = [number for number, each in enumerate(trainer.modalities) if each not in trainer.subset]
    data[others] = float("nan")
    assert differences(expected, predictor.predict_sliding_window_return_logits(data)) == []


@pytest.mark.parametrize("trainer", ["nnUNetTrainerACN", "nnUNetTrainerSMUNet"])
def test_a_name_without_modalities_says_how_it_should_be(home: Home, trainer: str) -> None:
    bare: Any = find(trainer)
    with pytest.raises(InputError, match=f"a specialist's name says its modalities, as {trainer}_t1_t1ce, and not"):
        home.trainer(bare)
