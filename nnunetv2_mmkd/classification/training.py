"""A plain training loop for classification, with a method of this package plugged in.

Legend: B batch, M modalities, K classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from nnunetv2_mmkd.classification.checkpoint import read_checkpoint, write_checkpoint
from nnunetv2_mmkd.classification.context import (
    MetaBatches,
    batch_of,
    batches_of_rows,
    require_held_out,
    single_modality_f1,
)
from nnunetv2_mmkd.classification.subjects import Subjects
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.base import (
    FeatureWidth,
    Method,
    NextMetaBatch,
    SingleModalityDice,
    TrainingContext,
    loss_of,
)
from nnunetv2_mmkd.modalities import ModalityDropoutConfig, SubsetSampler


@dataclass(frozen=True)
class TrainSettings:
    """Optimiser, schedule and modality dropout; the defaults are MetaKD's for Audiovision-MNIST (§8).

    Attributes:
        epochs: length (§8: 60).
        batch_size: subjects per step (paper silent).
        lr: learning rate of Adam (§8: 1e-3).
        lr_factor: factor of the learning rate every ``lr_every`` epochs (§8: "decayed by 10 %").
        lr_every: epochs between two decays (§8: 20).
        weight_decay: L2 penalty of Adam (§8: 1e-2).
        modality_dropout: distribution of what is dropped in training of what a subject has.
        seed: of the order, the dropping, dropout.
        save_every: epochs between two checkpoints.
    """

    epochs: int = 60
    batch_size: int = 64
    lr: float = 1e-3
    lr_factor: float = 0.9
    lr_every: int = 20
    weight_decay: float = 1e-2
    modality_dropout: ModalityDropoutConfig = field(default_factory=ModalityDropoutConfig)
    seed: int = 0
    save_every: int = 10

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr_every", "save_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "lr_factor"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, not {getattr(self, name)}")

    def stored(self) -> dict[str, Any]:
        """As plain values for files, in which modality dropout is called ``law``."""
        values = asdict(self)
        values["law"] = values.pop("modality_dropout")
        return values


Curves = dict[str, list[float]]
"""Name of a curve -> a value per epoch."""


def train_classifier(
    network: nn.Module,
    method: Method[Any],
    training: Subjects,
    held_out: Subjects | None,
    settings: TrainSettings,
    *,
    class_weights: Tensor | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    progress: bool = False,
) -> Curves:
    """Train a network in place.

    The network is that of the last epoch: nothing is selected. The caller's random state does not change.

    Args:
        network: a classifier, freshly built.
        method: its objective.
        training: subjects that are trained on.
        held_out: subjects for what the method needs for itself; not trained on.
        settings: optimiser, schedule, modality dropout.
        class_weights: ``[K]`` weights of the cross-entropy, or None.
        device: where to train.
        checkpoint: file; if it exists, the training continues from it.
        progress: show a progress bar over the epochs.

    Returns:
        What the method learned, a value per epoch.

    Raises:
        InputError: modalities or classes that do not agree, no subjects, no held-out subjects for a method that needs
            them, a checkpoint of another training, or a loss that is not finite.
    """
    _check(network, method, training, held_out)
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        run = _Run(network.to(device), method, training, held_out, settings, class_weights, device)
        if checkpoint is not None and checkpoint.is_file():
            run.load_state_dict(read_checkpoint(checkpoint, run.about))
        epochs = range(run.epoch, settings.epochs)
        for _ in tqdm(epochs, desc="training", unit="epoch", disable=not progress):
            run.train_epoch()
            due = run.epoch % settings.save_every == 0 or run.epoch == settings.epochs
            if checkpoint is not None and due:
                write_checkpoint(run.state_dict(), checkpoint)
    network.eval()
    return run.curves


def _check(network: nn.Module, method: Method[Any], training: Subjects, held_out: Subjects | None) -> None:
    if not len(training):
        raise InputError("no subject to train on")
    known = getattr(network, "modalities", training.modalities)
    for part, subjects in (("training", training), ("held-out", held_out)):
        if subjects is None:
            continue
        if subjects.modalities != tuple(known):
            raise InputError(
                f"the {part} subjects have the modalities {', '.join(subjects.modalities)}, the network "
                f"{', '.join(known)}"
            )
        if subjects.classes != training.classes:
            raise InputError(f"the {part} subjects have other classes: {', '.join(subjects.classes)}")
    if held_out is not None and set(held_out.ids) & set(training.ids):
        both = sorted(set(held_out.ids) & set(training.ids))
        raise InputError(f"subject {both[0]} is trained on and held out ({len(both)} such): the parts must be disjoint")
    require_held_out(held_out, method.held_out, type(method).__name__)


@dataclass
class _Run:
    """One training: everything that a checkpoint holds."""

    network: nn.Module
    method: Method[Any]
    training: Subjects
    held_out: Subjects | None
    settings: TrainSettings
    class_weights: Tensor | None
    device: torch.device

    def __post_init__(self) -> None:
        settings, needed = self.settings, self.method.held_out
        self.sampler = SubsetSampler(settings.modality_dropout, settings.seed, self.training.modalities)
        self.order = torch.Generator().manual_seed(settings.seed)
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(self.device, torch.float)
        self.epoch = self.iteration = 0
        self.curves: Curves = {}
        self.meta: MetaBatches | None = None
        capabilities: dict[type, Any] = {}
        if self.held_out and needed is not None and needed.kind == "meta":
            self.meta = MetaBatches(
                self.held_out, needed, batch_size=settings.batch_size, device=self.device, seed=settings.seed
            )
            capabilities[NextMetaBatch] = self.meta
        if self.held_out and needed is not None and needed.kind == "election":
            capabilities[SingleModalityDice] = single_modality_f1(self.network, self.held_out, self.device)
        if hasattr(self.network, "width"):
            capabilities[FeatureWidth] = lambda: int(self.network.width)  # type: ignore[arg-type]
        steps = -(-len(self.training) // settings.batch_size)
        self.method.setup(
            TrainingContext(
                modalities=self.training.modalities,
                device=self.device,
                regions=self.training.classes,
                iterations=settings.epochs * steps,
                capabilities=capabilities,
            )
        )
        modules = [self.network, *(module.to(self.device) for module in self.method.trainable())]
        self.optimizer = torch.optim.Adam(
            [{"params": list(module.parameters())} for module in modules],
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, settings.lr_every, settings.lr_factor)

    @property
    def about(self) -> dict[str, Any]:
        """What must be the same for a training to continue."""
        config = self.method.config
        settings = self.settings.stored()
        del settings["save_every"]
        return {
            "settings": settings,
            "method": type(self.method).__name__,
            "config": asdict(config) if is_dataclass(config) and not isinstance(config, type) else None,
            "modalities": list(self.training.modalities),
            "classes": list(self.training.classes),
            "subjects": list(self.training.ids),
        }

    def task_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy, weighted by class if asked for."""
        return cross_entropy(logits, target, self.class_weights)

    def train_epoch(self) -> None:
        """One pass over the training subjects."""
        self.network.train()
        for rows in batches_of_rows(len(self.training), self.settings.batch_size, self.order):
            self.method.start_iteration(self.network, self.task_loss, self.iteration)
            batch = batch_of(self.training, rows, self._drop(self.training.present[rows]), self.device)
            self.optimizer.zero_grad(set_to_none=True)
            loss = loss_of(self.method, self.method.step(self.network, batch, self.task_loss))
            loss.backward()
            self.optimizer.step()
            self.method.end_iteration(self.network, self.iteration)
            self.iteration += 1
        if not bool(torch.isfinite(loss)):
            raise InputError(
                f"the loss is {loss.item()} in epoch {self.epoch}: look for NaN or infinity in the inputs, or lower "
                f"the learning rate ({self.settings.lr})"
            )
        self.method.end_epoch(self.network, self.epoch)
        for name, value in self.method.curves().items():
            self.curves.setdefault(name, []).append(value)
        self.schedule.step()
        self.epoch += 1

    def _drop(self, present: Tensor) -> Tensor:
        """What is available in a step; a subject with a single modality keeps it without a draw."""
        available = present.clone()
        several = torch.nonzero(present.sum(1) > 1).flatten()
        if len(several):
            available[several] = self.sampler(present[several])
        return available

    def _stateful(self) -> dict[str, Any]:
        """Objects with ``state_dict`` and ``load_state_dict``."""
        named = {"network": self.network, "optimizer": self.optimizer, "schedule": self.schedule}
        meta = {} if self.meta is None else {"meta": self.meta}
        return {**named, "method": self.method, "sampler": self.sampler, **meta}

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain tensors and numbers."""
        return {
            "about": self.about,
            "meta": None,
            **{name: part.state_dict() for name, part in self._stateful().items()},
            "trainable": [module.state_dict() for module in self.method.trainable()],
            "order": self.order.get_state(),
            "random_state": torch.get_rng_state(),
            "epoch": self.epoch,
            "iteration": self.iteration,
            "curves": self.curves,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])
        for module, stored in zip(self.method.trainable(), state["trainable"], strict=True):
            module.load_state_dict(stored)
        self.order.set_state(state["order"])
        torch.set_rng_state(state["random_state"])
        self.epoch, self.iteration = int(state["epoch"]), int(state["iteration"])
        self.curves = state["curves"]
