"""SubsetKD under the trainer: what is trained, validated, saved, resumed; every kind of plan and data set."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from tiny_nnunet import PLAIN, RESIDUAL, Home, differences, start, steps

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.subset_kd import SubsetKDConfig
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSubsetKD import (
    nnUNetTrainerSubsetKD,
    nnUNetTrainerSubsetKD_MultiStream,
)

ALWAYS = {"ramp": (0.0, 0.0)}


class AtOnce(nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(**ALWAYS)


class WithNorms(nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(**ALWAYS, availability="norms")


class WithPlanes(nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(**ALWAYS, availability="planes")


class Bare(nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(teacher="none", deploy="student")


class OnlyDeployed(nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(teacher="none")


class CurrentTeacher(nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(**ALWAYS, teacher="current", distance="dice", confidence="none", deploy="student")


class Streams(nnUNetTrainerSubsetKD_MultiStream):
    config = SubsetKDConfig(**ALWAYS)


MATRIX = [
    (Streams, 2, "regions", "2d", PLAIN),
    (Streams, 4, "regions", "3d_fullres", PLAIN),
    (Streams, 3, "classes", "2d", RESIDUAL),
    (Streams, 3, "regions_ignore", "3d_fullres", RESIDUAL),
    (WithNorms, 2, "regions", "2d", PLAIN),
    (WithNorms, 4, "regions", "3d_fullres", RESIDUAL),
    (WithPlanes, 4, "regions", "3d_fullres", PLAIN),
    (WithPlanes, 3, "classes", "2d", RESIDUAL),
    (AtOnce, 3, "regions_ignore", "2d", RESIDUAL),
    (AtOnce, 3, "classes", "3d_fullres", PLAIN),
    (CurrentTeacher, 5, "classes_ignore", "3d_fullres", PLAIN),
]


@pytest.mark.parametrize(
    ("trainer_class", "modalities", "labels", "configuration", "identifier"),
    MATRIX,
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_trains_validates_saves_and_is_predicted_with(
    home: Home,
    trainer_class: type,
    modalities: int,
    labels: str,
    configuration: str,
    identifier: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = home.dataset(modalities, labels)
    name = "nnUNetTrainerSubsetKD_MultiStream" if trainer_class is Streams else "nnUNetTrainerSubsetKD"
    found = type(name, (trainer_class,), {})  # the name that prediction looks for
    trainer = start(home.trainer(found, dataset, configuration, identifier=identifier))
    before = copy.deepcopy(trainer.network.state_dict())
    parts: dict[str, torch.Tensor] = {}
    step = trainer.method.step
    trainer.method.step = lambda *args: parts.update((result := step(*args))["parts"]) or result
    steps(trainer, [next(trainer.dataloader_train) for _ in range(2)])
    assert float(parts["task"]) != 0 and float(parts["distillation"]) > 0
    trained = copy.deepcopy(trainer.network.state_dict())
    assert differences(before, trained) != []
    assert all(torch.isfinite(weight).all() for weight in trained.values())
    with torch.no_grad():
        trainer.network.eval()
        trainer.on_validation_epoch_start()
        outputs = trainer.validation_step(next(trainer.dataloader_val))
    assert np.isfinite(outputs["loss"]) and len(outputs["tp_hard"]) == 2

    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    assert differences(trained, trainer.network.state_dict()) == []
    predictor = nnUNetPredictor(tile_step_size=1, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,))
    expected = trained if trainer_class is CurrentTeacher else trainer.method.ema.state_dict()
    assert differences(expected, predictor.network.state_dict()) == []
    data = torch.randn(modalities, 18, 16, 16)
    full = predictor.predict_sliding_window_return_logits(data)
    zero = data.clone()
    zero[1] = 0
    limited = predictor.predict_sliding_window_return_logits(zero)
    monkeypatch.setenv("nnUNet_missing_modalities", "t1gd")
    data[1] = float("nan")
    assert differences(limited, predictor.predict_sliding_window_return_logits(data)) == []
    assert not torch.equal(full, limited)


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
    assert trainer.realised_missing_rates["t2"] == 0.25
    assert trainer.method._factors.tolist() == pytest.approx([1, 1, 4 / 3])
    teachers = []
    trainer.method.ema.register_forward_pre_hook(
        lambda _, args, kwargs: teachers.append(kwargs["available"]), with_kwargs=True, prepend=True
    )
    batch = next(trainer.dataloader_train)
    batch["keys"] = ["case_1", batch["keys"][1]]
    trainer.training_present["case_1"] = np.array([True, True, False])
    batch["data"][0, 2] = float("nan")
    assert np.isfinite(steps(trainer, [batch])).all()
    assert teachers[0][0].tolist() == [True, True, False]


def test_a_deployment_law_by_name(home: Home) -> None:
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
