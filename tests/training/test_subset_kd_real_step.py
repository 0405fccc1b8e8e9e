"""SubsetKD's terms in real training steps on real data: there, and not zero, for every region."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from test_real_step import DATASET, real_home  # noqa: F401 - a fixture
from tiny_nnunet import differences, set_variables, start
from torch import Tensor

from nnunetv2_mmkd.losses.balanced import voxel_weights
from nnunetv2_mmkd.methods.base import MembershipClasses
from nnunetv2_mmkd.methods.subset_kd import SubsetKDConfig
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSubsetKD import (
    nnUNetTrainerSubsetKD,
    nnUNetTrainerSubsetKD_MultiStream,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "trainer_class", [nnUNetTrainerSubsetKD, nnUNetTrainerSubsetKD_MultiStream], ids=lambda c: c.__name__
)
def test_both_terms_are_there_and_not_zero(
    real_home: Any,  # noqa: F811
    trainer_class: Any,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    one_thread: None,
) -> None:
    set_variables(monkeypatch, real_home, tmp_path / "results")
    monkeypatch.setattr(trainer_class, "config", SubsetKDConfig(ramp=(0.0, 0.0)))
    folder = real_home.preprocessed / DATASET
    plans = {**json.loads((folder / "nnUNetPlans.json").read_text()), "continue_training": False}
    arguments = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    arguments["features_per_stage"] = [width // 4 for width in arguments["features_per_stage"]]
    dataset = json.loads((folder / "dataset.json").read_text())
    trainer = start(trainer_class(plans, "3d_fullres", "all", dataset, device=torch.device("cpu")))
    parts: dict[str, Tensor] = {}
    step = trainer.method.step
    trainer.method.step = lambda *args: parts.update((result := step(*args))["parts"]) or result
    trainer.sampler = lambda present: torch.tensor([[True, False, True, False]]).expand_as(present)
    before = copy.deepcopy(trainer.network.state_dict())
    for _ in range(2):
        batch = next(trainer.dataloader_train)
        assert np.isfinite(trainer.train_step(batch)["loss"])
    assert set(parts) == {"task", "distillation"}
    for name, value in parts.items():
        assert torch.isfinite(value) and abs(float(value)) > 1e-6, name
    assert differences(before, trainer.network.state_dict()) != []
    assert differences(trainer.method.ema.state_dict(), trainer.network.state_dict()) != []
    classes, n_classes = trainer.method.context.need(MembershipClasses)(batch["target"])
    weights = voxel_weights(classes, n_classes, balanced=True)
    for row, weight in zip(classes, weights, strict=True):  # nested regions: four classes, of equal weight
        shares = [float(weight[row == each].sum()) for each in row.unique()]
        assert shares == pytest.approx([1 / len(shares)] * len(shares), rel=1e-3)
