"""SubsetKD: the network on a subset learns from its own moving average on all that the case has.

Legend: B batch, M modalities, K heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.losses.balanced import balanced_kl, soft_dice_distance, teacher_dice
from nnunetv2_mmkd.methods.base import (
    Averages,
    Batch,
    ExtraNetwork,
    MembershipClasses,
    Method,
    MissingRates,
    StepResult,
    TaskLoss,
    TrainingContext,
    sum_of_parts,
)
from nnunetv2_mmkd.methods.preference import initial_weights
from nnunetv2_mmkd.networks.availability import check_encoding

USUAL = 1000 * 250
"""nnU-Net's iterations, where the training's are not known."""


@dataclass(frozen=True)
class SubsetKDConfig:
    """Hyper-parameters of SubsetKD; every part of it can be switched off.

    With ``teacher="none"``, ``deploy="student"`` it is modality dropout.

    Attributes:
        availability: the availability encoding of an early-fusion network, a key of
            :data:`~nnunetv2_mmkd.networks.availability.ENCODINGS`; multi-stream networks know by themselves.
        teacher: ``"ema"``, the moving average of the weights; ``"current"``, the weights as they are; ``"none"``.
        weight: lambda, of distillation when its ramp is over. With 0.5 what is learned last, the small region, fell
            behind in trials.
        tau: temperature of ``"kl"``. 1: softer predictions move weight to voxels that both are sure of, where
            segmentation has nothing to gain, and regions have no similar classes that would show then.
        ramp: the weight rises linearly between these shares of the training's iterations; before, no teacher runs.
        distance: ``"dice"``, the Dice semimetric of probabilities, or ``"kl"``. Where a subset cannot tell edge
            from core, divergence wants the share of the one that the teacher sees there, which is below one half more
            often than not and blurs small regions away, and balanced by classes it wants too much of what is small. The
            semimetric decides as nnU-Net's Dice loss does (``tests/losses/test_balanced.py`` has the numbers).
        balance: of ``"kl"``: ``"classes"``, mean over the voxels of each class of the truth, then over classes; or
            ``"voxels"``.
        confidence: ``"right"``, only voxels and heads where the teacher decides as the truth does; ``"graded"``, these,
            and in each region as much as its Dice there is; or ``"none"``, all.
        rebalance: whether samples weigh by the missing rates of their modalities (:func:`sample_weights`).
        window: share of the training over which the moving average reaches: of nnU-Net's 250,000 iterations 1000, a
            decay of 0.999 (:func:`decay_of`). The same decay in a short training would teach and deploy old weights.
        deploy: ``"ema"`` or ``"student"``: the weights that are validated, saved and used for prediction.
    """

    availability: str = "none"
    teacher: str = "ema"
    weight: float = 0.2
    tau: float = 1.0
    ramp: tuple[float, float] = (0.1, 0.4)
    distance: str = "dice"
    balance: str = "classes"
    confidence: str = "right"
    rebalance: bool = True
    window: float = 0.004
    deploy: str = "ema"

    def __post_init__(self) -> None:
        check_encoding(self.availability)
        for name, allowed in (
            ("teacher", ("ema", "current", "none")),
            ("distance", ("dice", "kl")),
            ("balance", ("classes", "voxels")),
            ("confidence", ("graded", "right", "none")),
            ("deploy", ("ema", "student")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"SubsetKD: {name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if not self.tau > 0:
            raise ValueError(f"SubsetKD: tau must be above 0, not {self.tau}")
        if not self.weight >= 0:
            raise ValueError(f"SubsetKD: weight must not be negative, not {self.weight}")
        if not 0 <= self.ramp[0] <= self.ramp[1] <= 1:
            raise ValueError(f"SubsetKD: ramp must be two rising shares in [0, 1], not {self.ramp}")
        if not 0 <= self.window <= 1:
            raise ValueError(f"SubsetKD: window must be a share in [0, 1], not {self.window}")

    @property
    def distils(self) -> bool:
        """Whether a teacher is distilled from."""
        return self.teacher != "none" and self.weight > 0

    @property
    def averages(self) -> bool:
        """Whether the moving average is needed."""
        return self.deploy == "ema" or (self.distils and self.teacher == "ema")


class SubsetKD(Method[nn.Module]):
    r"""Task loss on a subset, and distillation from the moving average on all modalities that the case has.

    .. math:: L_{seg}(f_\theta(x_S), y) + \lambda(t) \sum_s \omega_s \frac{1}{B} \sum_b w_b \,
        D_s\big(f_{\bar\theta}(x_A), f_\theta(x_S)\big)_b, \qquad
        \bar\theta \leftarrow d_t \bar\theta + (1 - d_t) \theta

    with S the subset of the step, A all that the case has, D the distance at scale s of deep supervision, omega
    nnU-Net's weights of the scales, w those of the samples. The average runs without gradient: one forward pass more,
    a third of a step. Where a subset is all that the case has, teacher and student still differ by the average.
    Incomplete training cases need nothing else: their teacher sees what they have.

    The network needs ``forward(x, available)`` only.

    References:
        Tarvainen and Valpola, Mean teachers are better role models, NeurIPS 2017 (moving average as the teacher).
        Hinton et al., Distilling the Knowledge in a Neural Network, 2015.
        Shi et al., PASSION, ACM MM 2024 (1 / (1 - missing rate)).
    """

    def __init__(self, config: SubsetKDConfig | None = None) -> None:
        self.config: SubsetKDConfig = config or SubsetKDConfig()
        self.needs = (ExtraNetwork,) * self.config.averages + (MembershipClasses,) * self.config.distils
        self._averages = Averages()
        self.ema: Any = None
        self.updates = 0
        self._iteration: int | None = None
        self._factors: Tensor | None = None

    def setup(self, context: TrainingContext) -> None:
        """Make the moving average's network."""
        super().setup(context)
        if self.config.averages:
            with torch.random.fork_rng(devices=[]):  # its weights will be the network's: draw nothing for them
                self.ema = context.need(ExtraNetwork)().requires_grad_(False)

    def begin(self) -> None:
        """Take the missing rates of the training cases.

        Raises:
            InputError: no training case has a modality.
        """
        missing_rates = self.context.find(MissingRates)
        if self.config.rebalance and missing_rates is not None:
            self._factors = initial_weights(missing_rates(), self.context.modalities)

    # -- the moving average ------------------------------------------------------------------------------------------

    def start_iteration(self, network: nn.Module, task_loss: TaskLoss, iteration: int) -> None:
        """Before the first update the average is the network."""
        self._iteration = iteration
        if self.ema is not None and self.updates == 0:
            self._average(network, 0.0)
            if hasattr(network, "_orig_mod"):  # the trained one is compiled as a whole
                self.ema.compile()

    def end_iteration(self, network: nn.Module, iteration: int) -> None:
        """Move the average towards the network."""
        if self.ema is not None:
            self._average(network, decay_of(self.updates, self.config.window * (self.context.iterations or USUAL)))
            self.updates += 1

    @torch.no_grad()
    def _average(self, network: nn.Module, decay: float) -> None:
        """Parameters by the decay, buffers as they are; by order, for a compiler's wrapper changes names."""
        for own, trained in zip(self.ema.parameters(), network.parameters(), strict=True):
            own.lerp_(trained, 1 - decay)
        for buffer, current in zip(self.ema.buffers(), network.buffers(), strict=True):
            buffer.copy_(current)

    def deployed(self, network: nn.Module) -> Mapping[str, Any] | None:
        """The average's weights, once there has been a step."""
        if self.config.deploy != "ema" or self.updates == 0:
            return None
        state: dict[str, Any] = self.ema.state_dict()
        return state

    # -- a step ------------------------------------------------------------------------------------------------------

    @property
    def warmup_until(self) -> int:
        """The iteration from which on distillation has its full weight; 0 without."""
        return math.ceil(self.config.ramp[1] * self.context.iterations) if self.config.distils else 0

    @property
    def weight(self) -> float:
        """lambda(t)."""
        config = self.config
        if not config.distils:
            return 0.0
        if self._iteration is None or not self.context.iterations:
            return config.weight
        first, last = (share * self.context.iterations for share in config.ramp)
        if self._iteration >= last:
            return config.weight
        return config.weight * max(0.0, (self._iteration - first) / max(1.0, last - first))

    def step(self, network: nn.Module, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """Both terms on a batch; the teacher first, so that nothing of the student's waits for it."""
        weight = self.weight
        teacher = self._teach(network, batch) if weight > 0 else None
        student = network(batch.images, available=batch.available)
        task = task_loss(student, batch.target)
        parts = {"task": task}
        if teacher is not None:
            distance = self.distance(teacher, student, batch)
            parts["distillation"] = weight * distance
            self._averages.add("distance/teacher to student", distance)
        self._averages.add_all("loss", parts)
        self._averages.add("weight/distillation", weight)
        return sum_of_parts(parts)

    @torch.no_grad()
    def _teach(self, network: nn.Module, batch: Batch) -> Any:
        """The teacher on all that the cases have."""
        teacher = network if self.config.teacher == "current" else self.ema
        return teacher(batch.images, available=batch.present)

    def distance(self, teacher: Any, student: Any, batch: Batch) -> Tensor:
        """The distance between two predictions, over scales and samples.

        Args:
            teacher: logits, or the deep supervision list of them, largest first.
            student: likewise.
            batch: for subsets and targets.
        """
        config = self.config
        weights = self._sample_weights(batch.available)
        total = torch.zeros((), device=batch.images.device)
        scales = zip(_listed(teacher), _listed(student), _listed(batch.target), strict=True)
        for omega, (of_teacher, of_student, target) in zip(scale_weights(len(_listed(student))), scales, strict=True):
            if omega == 0:
                continue
            classes, n_classes = self.context.need(MembershipClasses)(target)
            exclusive = self.context.exclusive
            common: dict[str, Any] = {
                "exclusive": exclusive,
                "only_right": config.confidence != "none",
                "region_weights": teacher_dice(of_teacher, classes, exclusive=exclusive)
                if config.confidence == "graded"
                else None,
            }
            if config.distance == "dice":
                values = soft_dice_distance(of_teacher, of_student, classes, **common)
            else:
                values = balanced_kl(
                    of_teacher,
                    of_student,
                    classes,
                    n_classes,
                    tau=config.tau,
                    balanced=config.balance == "classes",
                    **common,
                )
            total = total + omega * (weights.to(values, non_blocking=True) * values).mean()
        return total

    def _sample_weights(self, available: Tensor) -> Tensor:
        """``[B]``; all 1 if nothing is rebalanced."""
        if self._factors is None:
            return torch.ones(len(available))
        return sample_weights(available, self._factors)

    # -- curves and state --------------------------------------------------------------------------------------------

    def curve_names(self) -> tuple[str, ...]:
        """Both terms; the distance and its weight."""
        if not self.config.distils:
            return ("loss/task",)
        return ("loss/task", "loss/distillation", "distance/teacher to student", "weight/distillation")

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return self._averages.read(self.curve_names())

    def state_dict(self) -> dict[str, Any]:
        """The moving average and the number of its updates."""
        return {"updates": self.updates, "ema": {} if self.ema is None else self.ema.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.updates = int(state["updates"])
        if self.ema is not None and self.updates:
            self.ema.load_state_dict(state["ema"])


def decay_of(updates: int, window: float) -> float:
    r"""Decay of the moving average's next update.

    .. math:: d_t = \min\Big(1 - \frac{1}{\max(1, W)}, \frac{1 + t}{10 + t}\Big)

    Args:
        updates: t, so far; a young average forgets its first weights sooner.
        window: W, updates over which it reaches back.
    """
    return min(1 - 1 / max(1.0, window), (1 + updates) / (10 + updates))


def sample_weights(available: Tensor, factors: Tensor) -> Tensor:
    r"""Weights of samples, so that every modality has the same weight over the training cases.

    .. math:: w_b = \frac{1}{|S_b|} \sum_{m \in S_b} \frac{\overline{1 - MR}}{1 - MR^m}, \qquad
        \overline{1 - MR} = \frac{1}{M} \sum_m (1 - MR^m)

    The mean over all (case, modality) pairs that there are is 1, so lambda keeps its meaning; with complete cases, or
    equal rates, all weights are 1.

    Args:
        available: bool ``[B, M]``, the subsets S.
        factors: :math:`1 / (1 - MR)`, ``[M]``.

    Returns:
        ``[B]``.
    """
    relative = factors.float() * (1 / factors.float()).mean()
    present = available.to(relative)
    return (present * relative).sum(1) / present.sum(1)


def scale_weights(scales: int) -> tuple[float, ...]:
    """nnU-Net's weights of the deep supervision: halved from scale to scale, none for the smallest, sum 1."""
    raw = [0.5**number for number in range(scales)]
    if scales > 1:
        raw[-1] = 0.0
    return tuple(each / sum(raw) for each in raw)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]
