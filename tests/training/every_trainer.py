"""All trainers of the package on tiny 2D plans, and all that a GPU will be asked for: steps, validation, prediction.

Two modalities: what is asked here does not hang on their number, and time does. Others are in ``test_matrix.py``.
"""

from __future__ import annotations

import copy
import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_nnunet import Home, start
from torch import Tensor

import nnunetv2_mmkd.trainer_variants as variants
from nnunetv2_mmkd.benchmark.count import default_recomputed, set_recomputed
from nnunetv2_mmkd.benchmark.environment import quiet_iteration
from nnunetv2_mmkd.modalities import all_subsets, mask_of
from nnunetv2_mmkd.training.election import InMemoryPredictor
from nnunetv2_mmkd.training.specialist import nnUNetTrainerSubset
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD


def every_trainer() -> list[type[nnUNetTrainerMMKD]]:
    """All classes in ``trainer_variants``; of those for one subset one."""
    classes = []
    for info in pkgutil.iter_modules(variants.__path__):
        module = importlib.import_module(f"{variants.__name__}.{info.name}")
        for name, found in list(vars(module).items()):
            if getattr(found, "__module__", "") == module.__name__ and name.startswith("nnUNetTrainer"):
                classes.append(getattr(module, f"{name}_t1ce") if issubclass(found, nnUNetTrainerSubset) else found)
    return classes


QUICK = ("ModalityDropout", "MetaKD", "LCKD", "MSTKDNet", "PASSION_SharedStreams", "RFNet", "SimMLM")


def rows(names: Sequence[str] = QUICK) -> list[Any]:
    """All trainers as rows of a test; those that are named are quick, if nothing is said one of each kind."""
    quick = [f"nnUNetTrainer{name}" for name in names]
    return [pytest.param(each, marks=[] if each.__name__ in quick else pytest.mark.slow) for each in every_trainer()]


def ready(home: Home, trainer_class: type, device: str | torch.device = "cpu", configuration: str = "2d") -> Any:
    """A trainer at the start of a training, recomputing as on a GPU; short meta-updates."""
    trainer = home.trainer(trainer_class, home.dataset(2), configuration)
    trainer.device = torch.device(device)
    start(trainer)
    set_recomputed(trainer, default_recomputed(trainer))
    if hasattr(trainer.method.config, "meta_steps"):
        trainer.method.config = replace(trainer.method.config, meta_steps=2)
    return trainer


def batches(trainer: Any, number: int) -> list[dict[str, Any]]:
    """Of the training cases; all modalities are there."""
    return [next(trainer.dataloader_train) for _ in range(number)]


def step(trainer: Any, batch: dict[str, Any]) -> float:
    """Loss of a training step."""
    trainer.network.train()
    return float(trainer.train_step(copy.deepcopy(batch))["loss"])


def after_warmup(trainer: Any) -> Any:
    """The trainer at an iteration at which all terms count and no periodic update is due."""
    trainer.run.iteration = quiet_iteration(trainer)
    return trainer


def validate(trainer: Any, batch: dict[str, Any]) -> float:
    """Loss of a step of the online validation."""
    trainer.network.eval()
    trainer.on_validation_epoch_start()
    trainer.cases.validation_present.update(trainer.cases.training_present)
    return float(trainer.validation_step(copy.deepcopy(batch))["loss"])


def predict(trainer: Any) -> Tensor:
    """Logits of a preprocessed case with each subset, of a specialist with its own, by nnU-Net's sliding window."""
    trainer.network.eval()
    predictor = InMemoryPredictor(
        use_mirroring=False, perform_everything_on_device=True, device=trainer.device, allow_tqdm=False
    )
    predictor.manual_initialization(
        trainer.bare_network, trainer.plans_manager, trainer.configuration_manager, None, trainer.dataset_json,
        type(trainer).__name__, None,
    )  # fmt: skip
    subset = getattr(trainer, "subset", None)
    subsets = mask_of(trainer.modalities, available=subset)[None] if subset else all_subsets(len(trainer.modalities))
    patch = trainer.configuration_manager.patch_size
    return predictor.predict_subsets(torch.randn(len(trainer.modalities), *[1] * (3 - len(patch)), *patch), subsets)


def weights(trainer: Any) -> dict[str, Any]:
    """All that the optimiser moves."""
    modules = (trainer.trained_module, *trainer.method.trainable())
    return copy.deepcopy({str(number): module.state_dict() for number, module in enumerate(modules)})


def all_finite(state: Any) -> bool:
    """Whether every number in a nested structure is finite."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors_in(state) if tensor.is_floating_point())


def tensors_in(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, (Mapping, list, tuple)):
        for each in state.values() if isinstance(state, Mapping) else state:
            yield from tensors_in(each)
