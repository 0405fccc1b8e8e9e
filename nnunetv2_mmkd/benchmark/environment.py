"""Real trainers on synthetic data: a temporary nnU-Net environment, trainer classes by name, a batch.

Legend: B batch, M modalities.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import Tensor

from nnunetv2_mmkd.benchmark.plan import Plan
from nnunetv2_mmkd.training.cases import TrainingCases
from nnunetv2_mmkd.training.specialist import nnUNetTrainerSubset
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD

CASE = "synthetic"
EXT_TRAINER = "nnUNet_extTrainer"
COMPILE = "nnUNet_compile"


@contextmanager
def temporary_environment(compiles: bool = False) -> Iterator[None]:
    """nnU-Net's folders in a temporary place, our trainers found; the environment is as before afterwards.

    Args:
        compiles: nnU-Net's ``nnUNet_compile``, the same for both sides.
    """
    spec = importlib.util.find_spec("nnunetv2_mmkd.trainer_variants")
    ours = list(spec.submodule_search_locations or []) if spec else []
    folders = [os.path.abspath(folder) for folder in ours]
    folders += [folder for folder in os.environ.get(EXT_TRAINER, "").split(os.pathsep) if folder.strip()]
    with tempfile.TemporaryDirectory(prefix="mmkd_benchmark_") as base:
        values = {name: os.path.join(base, name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        values |= {EXT_TRAINER: os.pathsep.join(dict.fromkeys(folders)), COMPILE: str(compiles)}
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def make_trainer(trainer_class: type[nnUNetTrainer], plan: Plan, device: torch.device) -> Any:
    """Construct and initialise a trainer in :func:`temporary_environment`, without a word on standard output.

    Args:
        trainer_class: the stock trainer, or one of ours.
        plan: what it trains on.
        device: where. Under ``FakeTensorMode`` the network is made of fake tensors.
    """
    plans = deepcopy(plan.plans) | {"continue_training": False}
    with open(os.devnull, "w") as sink, redirect_stdout(sink):
        trainer = trainer_class(plans, plan.configuration, 0, deepcopy(plan.dataset_json), device)
        folder = Path(trainer.preprocessed_dataset_folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{CASE}.b2nd").touch()  # nnU-Net infers the kind of data set from the files' ending
        trainer.initialize()
    trainer.network.train()
    return trainer


def make_batch(trainer: Any, plan: Plan) -> dict[str, Any]:
    """A batch as nnU-Net's loader gives it, of noise.

    Args:
        trainer: an initialised trainer of the plan, for the scales of deep supervision and the label manager.
        plan: for patch and batch size.

    Returns:
        ``data`` float32 ``[B, M, *patch]``, ``target`` (a list with deep supervision) and ``keys``.
    """
    shape = plan.patch
    scales = trainer._get_deep_supervision_scales()
    labels = trainer.label_manager
    generator = torch.Generator().manual_seed(0)

    def target(scale: Any) -> Tensor:
        spatial = [round(edge * factor) for edge, factor in zip(shape, scale, strict=True)]
        if labels.has_regions:
            drawn = torch.rand((plan.batch_size, len(labels.foreground_regions), *spatial), generator=generator)
            return drawn < 0.1
        return torch.randint(0, len(labels.all_labels), (plan.batch_size, 1, *spatial), generator=generator).short()

    return {
        "data": torch.randn((plan.batch_size, plan.n_modalities, *shape), generator=generator),
        "target": [target(scale) for scale in scales] if scales else target([1.0] * len(shape)),
        "keys": [CASE] * plan.batch_size,
    }


class FixedSize:
    """In place of a subset sampler: every sample keeps its first ``size`` modalities."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, present: Tensor) -> Tensor:
        """Masks ``[B, M]`` on the CPU."""
        return (torch.arange(present.shape[1]) < self.size).expand(present.shape).contiguous()


def of_one_subset(trainer: Any) -> bool:
    """Whether a trainer is of one subset only, whatever is there."""
    return isinstance(trainer, nnUNetTrainerSubset)


def kept(trainer: Any, size: int) -> FixedSize:
    """The first ``size`` modalities; of a trainer of one subset all, of which it takes its own."""
    return FixedSize(len(trainer.modalities) if of_one_subset(trainer) else size)


@dataclass(frozen=True)
class PeriodicUpdate:
    """Something a method does once in a while, in equal inner steps.

    Attributes:
        kind: ``"meta"``, a step on a batch of the meta split (MetaKD); ``"election"``, a window of an election case
            segmented with each modality alone (LCKD).
        interval: iterations between two updates.
        steps: inner steps in each: for elections the windows of as many cases as may vote.
        batches: held-out batches in each, of equally many steps.
    """

    kind: str
    interval: int
    steps: int
    batches: int = 1


def periodic_update(trainer: nnUNetTrainerMMKD) -> PeriodicUpdate | None:
    """The periodic update of a trainer's method, from its hyper-parameters; None if it has none."""
    method: Any = trainer.method
    config = method.config
    if method.needs_meta_split and hasattr(config, "meta_interval"):
        return PeriodicUpdate(
            "meta", int(config.meta_interval), int(config.meta_steps), batches=len(config.steps_of_batches())
        )
    if method.held_out is not None and method.held_out.kind == "election":
        windows = _windows(trainer.configuration_manager, config.window_step)
        return PeriodicUpdate("election", interval=int(method.interval), steps=int(config.most_cases) * windows)
    return None


def _windows(configuration: ConfigurationManager, step: float) -> int:
    """Windows of nnU-Net's sliding window in a case of the plan's median size."""
    patch = tuple(configuration.patch_size)
    size = [round(edge) for edge in configuration.configuration["median_image_size_in_voxels"]]
    slices = 1 if len(patch) == len(size) else size[0]
    size = [max(pair) for pair in zip(size[-len(patch) :], patch, strict=True)]
    return slices * math.prod(len(steps) for steps in compute_steps_for_sliding_window(size, patch, step))


def feed(trainer: nnUNetTrainerMMKD, batch: dict[str, Any]) -> None:
    """Let a trainer take steps on one batch, after its warm-up and between its periodic updates."""
    present = {CASE: np.ones(len(trainer.modalities), dtype=bool)}
    trainer.cases = TrainingCases([CASE], [], present, {}, dict.fromkeys(trainer.modalities, 0.0), None, {})
    trainer.method.begin()
    trainer.dataloader_meta = itertools.repeat(batch)
    trainer.run.iteration = quiet_iteration(trainer)
    if periodic_update(trainer) is None:
        trainer.method.start_iteration(trainer.bare_network, trainer.loss, trainer.run.iteration)


def quiet_iteration(trainer: nnUNetTrainerMMKD) -> int:
    """An iteration after the warm-up at which no periodic update is due (unless it is due at every iteration)."""
    event = periodic_update(trainer)
    first = max(trainer.warmup_iterations, int(getattr(trainer.method, "warmup_until", 0)))
    return first + 1 if event is None else (first // event.interval + 1) * event.interval + 1


def alone(n_modalities: int) -> Tensor:
    """Each modality alone, ``[M, M]``."""
    return torch.eye(n_modalities, dtype=torch.bool)
