"""What a method is: a training objective on images, an availability mask and targets.

Nothing here knows of nnU-Net, of files or of segmentation: the classification task uses methods unchanged.

Legend: B batch, M modalities, K tasks (regions or classes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypedDict, TypeVar

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.errors import InputError

TaskLoss = Callable[[Any, Any], Tensor]
"""``(output of the network, target) -> scalar``."""


@dataclass(frozen=True)
class Batch:
    """One batch.

    Attributes:
        images: what the network's ``encode`` takes: ``[B, M, *spatial]``, or modality -> ``[B, *shape]``.
        available: bool ``[B, M]`` on the CPU: the modalities that may be used in this step.
        present: bool ``[B, M]`` on the CPU: the modalities that the cases have; ``available`` lies within it.
        target: what the task loss takes.
        valid: ``[B, 1, *spatial]``, False where voxels carry the ignore label; None if all count.
    """

    images: Any
    available: Tensor
    present: Tensor
    target: Any
    valid: Tensor | None = None


class StepResult(TypedDict):
    """What a step returns: the loss to back-propagate, and its named parts (detached, for the curves)."""

    loss: Tensor
    parts: dict[str, Tensor]


def loss_of(method: Method[Any], result: Any) -> Tensor:
    """The loss in what a method's step returned.

    Raises:
        InputError: it is no :class:`StepResult` with a loss of one number; the message names the method.
    """
    loss = result.get("loss") if isinstance(result, Mapping) else None
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        kind = type(result).__name__ if loss is None else f"a loss {tuple(getattr(loss, 'shape', ())) or loss!r}"
        raise InputError(
            f"{type(method).__name__}.step returned {kind}: expected {{'loss': a tensor of one number, 'parts': "
            "{name: tensor}}"
        )
    return loss


def sum_of_parts(parts: Mapping[str, Tensor]) -> StepResult:
    """The loss of a step as the sum of its weighted parts, in float32."""
    return {
        "loss": torch.stack([value.float() for value in parts.values()]).sum(),
        "parts": {name: value.detach() for name, value in parts.items()},
    }


@dataclass(frozen=True)
class HeldOut:
    """Training cases that a method needs for itself.

    Attributes:
        kind: what for: ``"meta"`` (:class:`NextMetaBatch`) or ``"election"`` (:class:`SingleModalityDice`).
        share: at most this share of the training cases, but at least one case.
        most: at most so many cases; None: as many as the share says.
        complete_first: whether complete cases are taken first, then those that miss least; otherwise a seeded draw
            alone decides.
        overlap: whether the cases are trained on as well.
    """

    kind: str
    share: float
    most: int | None = None
    complete_first: bool = False
    overlap: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("meta", "election"):
            raise ValueError(f"training cases are held out for 'meta' or 'election', not for {self.kind!r}")


class NextMetaBatch(Protocol):
    """Capability: the next batch of the meta split, held-out training cases."""

    def __call__(self) -> Batch: ...


class SingleModalityDice(Protocol):
    """Capability: predicts held-out cases with each of their modalities alone."""

    def __call__(self, *, number: int, most_cases: int, soft: bool, window_step: float) -> Tensor:
        """Dice of some election cases, the same on all ranks.

        Args:
            number: of the election, from 0; it selects the cases where an election has only some of them.
            most_cases: how many cases at most.
            soft: Dice of probabilities, not of the segmentation.
            window_step: step of a sliding window as a share of its size.

        Returns:
            ``[L, M, K]`` for L cases and K tasks; NaN where a case lacks the modality or the task's region.
        """
        ...


class ExtraNetwork(Protocol):
    """Capability: another network from the same plans, on the device, with weights of its own."""

    def __call__(self) -> Any: ...


class FullModalityNetwork(Protocol):
    """Capability: a network for all modalities from the plans of one for a subset, with weights of its own."""

    def __call__(self) -> Any: ...


class FeatureWidth(Protocol):
    """Capability: the number of channels that a multi-stream network has at its bottleneck."""

    def __call__(self) -> int: ...


class MissingRates(Protocol):
    """Capability: the missing rate of each modality over the training cases; known from :meth:`Method.begin` on."""

    def __call__(self) -> tuple[float, ...]: ...


class MembershipClasses(Protocol):
    """Capability: the class of each voxel.

    Of regions, voxels of equal region membership are a class, background included; bit r of its number says whether
    they are in region r.
    """

    def __call__(self, target: Any) -> tuple[Tensor, int]:
        """Classes of a batch's target: long ``[B, *spatial]``, -1 where voxels do not count; how many there can be."""
        ...


class LocalLoss(Protocol):
    """Capability: the task loss without exchange between ranks.

    nnU-Net's batch Dice gathers sums of as many samples on each rank, so what ranks have different numbers of
    (modalities alone) must stay within a rank. A trainer whose task loss exchanges nothing need not supply it.
    """

    def __call__(self, output: Any, target: Any) -> Tensor: ...


Capability = TypeVar("Capability")


@dataclass(frozen=True)
class TrainingContext:
    """What a trainer supplies to a method.

    Attributes:
        modalities: names of the M modalities.
        device: where the network is.
        regions: names of the K tasks: foreground regions or classes.
        exclusive: whether the network's heads are classes, one for each voxel (softmax), not regions (sigmoid).
        iterations: length of the training; 0 if unknown.
        epochs: number of epochs of the training; 0 if unknown.
        warmup_iterations: length of the full-modality warm-up.
        autocast: the context in which the network runs.
        average: averages tensors in place over the ranks of a distributed run.
        broadcast: gives modules the weights of the first rank of a distributed run.
        log: writes a line to the log of the training.
        capabilities: what else the trainer can do, by the Protocol that it fulfils. A method names what it cannot work
            without in :attr:`Method.needs`.
    """

    modalities: tuple[str, ...]
    device: torch.device
    regions: tuple[str, ...] = ()
    exclusive: bool = True
    iterations: int = 0
    epochs: int = 0
    warmup_iterations: int = 0
    autocast: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext)
    average: Callable[[Sequence[Tensor]], None] = lambda tensors: None
    broadcast: Callable[[Sequence[nn.Module]], None] = lambda modules: None
    log: Callable[[str], None] = lambda text: None
    capabilities: Mapping[type, Any] = field(default_factory=dict)

    def find(self, capability: type[Capability]) -> Capability | None:
        """A capability; None if the trainer does not supply it."""
        return self.capabilities.get(capability)

    def need(self, capability: type[Capability]) -> Capability:
        """A capability in the method's :attr:`Method.needs`: :meth:`Method.setup` saw to it that it is supplied."""
        found: Capability = self.capabilities[capability]
        return found


Network = TypeVar("Network")


class Method(Generic[Network]):
    """A training objective. Subclasses implement :meth:`step`, and what of the rest they need.

    The network is always the bare module: ``encode``, ``fuse`` and ``decode`` may be called separately. What a method
    calls of it is its type, see :mod:`~nnunetv2_mmkd.networks.contracts`.

    Attributes:
        needs: the capabilities of the trainer that the method cannot work without.
        held_out: the training cases that the method needs for itself, or None.
        recomputes: whether activations that the method can recompute in backward are not stored: None on CUDA only,
            so that nnU-Net's memory target holds. False in methods that have nothing to recompute.
    """

    needs: tuple[type, ...] = ()
    held_out: HeldOut | None = None
    recomputes: bool | None = False
    config: Any = None
    context: TrainingContext

    @property
    def needs_meta_split(self) -> bool:
        """Whether the method asks for a meta split (:class:`NextMetaBatch`)."""
        return self.held_out is not None and self.held_out.kind == "meta"

    @property
    def recomputing(self) -> bool:
        """:attr:`recomputes`, settled for the device."""
        return self.context.device.type == "cuda" if self.recomputes is None else self.recomputes

    def setup(self, context: TrainingContext) -> None:
        """Called once, before the first step.

        Raises:
            NotImplementedError: the trainer lacks a capability in :attr:`needs`.
            ValueError: a capability needs held-out cases, and :attr:`held_out` asks for none of that kind.
        """
        for cases, kind in ((NextMetaBatch, "meta"), (SingleModalityDice, "election")):
            if cases in self.needs and (self.held_out is None or self.held_out.kind != kind):
                name = type(self).__name__
                raise ValueError(f"{name} needs {cases.__name__}: set its held_out to HeldOut({kind!r}, ...), too")
        for capability in self.needs:
            if context.find(capability) is None:
                about = (capability.__doc__ or "").partition(": ")[2].partition("\n")[0]
                raise NotImplementedError(
                    f"{type(self).__name__} needs {capability.__name__}, which this trainer does not supply: {about}"
                )
        self.context = context

    def begin(self) -> None:
        """Called once the training cases are known, after a checkpoint was loaded, before the first step.

        Raises:
            InputError: the method cannot work with these cases.
        """

    def start_iteration(self, network: Network, task_loss: TaskLoss, iteration: int) -> None:
        """Called before the step of an iteration (counted over the whole training, from 0)."""

    def step(self, network: Network, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """Compute the loss of a batch."""
        raise NotImplementedError

    def end_iteration(self, network: Network, iteration: int) -> None:
        """Called after the optimiser's step."""

    def end_epoch(self, network: Network, epoch: int) -> None:
        """Called after the last iteration of an epoch, before the curves are read."""

    def trainable(self) -> Sequence[nn.Module]:
        """Modules trained jointly with the network; the trainer adds them to its optimiser."""
        return ()

    def deployed(self, network: Network) -> Mapping[str, Any] | None:
        """State dict of what is validated, saved and predicted with in place of the trained network; None: itself.

        It has the keys of the bare network, without the compiler's prefix.
        """
        return None

    def curve_names(self) -> tuple[str, ...]:
        """Names of the curves, ``"group/name"``; always the same ones, known after :meth:`setup`."""
        return ()

    def curves(self) -> dict[str, float]:
        """One value per curve for the epoch that ended (NaN where there was nothing), then start anew."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything the method owns, as plain tensors and numbers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""


class Averages:
    """Running means of named numbers, kept on the device until read, so that logging does not synchronise."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: Tensor | float) -> None:
        """Add one value."""
        value = value.detach() if isinstance(value, Tensor) else value
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] = self._counts.get(name, 0) + 1

    def add_all(self, group: str, values: Mapping[str, Tensor]) -> None:
        """Add several values under ``"group/name"``."""
        for name, value in values.items():
            self.add(f"{group}/{name}", value)

    def read(self, names: Sequence[str]) -> dict[str, float]:
        """The means (NaN where nothing was added), then start anew."""
        means = {
            name: float(self._sums[name]) / self._counts[name] if name in self._counts else float("nan")
            for name in names
        }
        self._sums.clear()
        self._counts.clear()
        return means
