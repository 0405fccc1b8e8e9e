"""SubsetKD under the trainer: what is trained, validated, saved, resumed; every kind of plan and data set."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tiny_nnunet import Home, differences, start, steps

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.subset_kd import SubsetKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSubsetKD import (
    nnUNetTrainerSubsetKD,
)

ALWAYS = {"ramp": (0.0, 0.0)}


class AtOnce(nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(**ALWAYS)


class Bare(nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(teacher="none", deploy="student")


class OnlyDeployed(nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(teacher="none")


def test_with_everything_off_it_is_the_control(home: Home) -> None:
    control, bare = start(home.trainer(nnUNetTrainerModalityDropout)), start(home.trainer(Bare))
    deployed = start(home.trainer(OnlyDeployed))
    batches = [next(control.dataloader_train) for _ in range(3)]
    before = copy.deepcopy(control.network.state_dict())
    states = []
    for trainer in (control, bare, deployed):
        trainer.network.load_state_dict(before)
        states.append((steps(trainer, batches), trainer.network.state_dict()))
    assert differences(states[0], states[1]) == [] and differences(states[0], states[2]) == []
    assert differences(deployed.method.ema.state_dict(), deployed.network.state_dict()) != []


def test_incomplete_training_cases_train_and_weigh_by_their_rates(home: Home) -> None:
    """case_1 of the data set has no T2."""
    trainer = start(home.trainer(AtOnce, home.dataset(3, "classes")))
    assert trainer.cases.missing_rates["t2"] == 0.25
    assert trainer.method._factors.tolist() == pytest.approx([1, 1, 4 / 3])
    teachers = []
    trainer.method.ema.register_forward_pre_hook(
        lambda _, args, kwargs: teachers.append(kwargs["available"]), with_kwargs=True, prepend=True
    )
    batch = next(trainer.dataloader_train)
    batch["keys"] = ["case_1", batch["keys"][1]]
    trainer.cases.training_present["case_1"] = np.array([True, True, False])
    batch["data"][0, 2] = float("nan")
    assert np.isfinite(steps(trainer, [batch])).all()
    assert teachers[0][0].tolist() == [True, True, False]


def test_a_deployment_distribution_by_name(home: Home) -> None:
    class Deployment(AtOnce):
        modality_dropout = ModalityDropoutConfig("deployment", missing={"T1Gd": 1.0})

    trainer = start(home.trainer(Deployment))
    seen = []
    trainer.network.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["available"].tolist()), with_kwargs=True, prepend=True
    )
    steps(trainer, [next(trainer.dataloader_train)])
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        trainer.validation_step(next(trainer.dataloader_val))
    assert len(seen) == 3 and all(not mask[1] for mask in (*seen[0], *seen[2])) and all(mask[1] for mask in seen[1])

    class Misspelt(AtOnce):
        modality_dropout = ModalityDropoutConfig("deployment", missing={"t1cee": 0.3})

    with pytest.raises(InputError, match=r"'t1cee'.*t1, t1ce, t2"):
        home.trainer(Misspelt)
