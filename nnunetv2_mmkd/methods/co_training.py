"""A student of one subset and a teacher of all modalities, trained together: what ACN and SMU-Net share.

Legend: B batch, M modalities.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunetv2_mmkd.losses.co_training import consistency, negative_log_likelihood
from nnunetv2_mmkd.methods.adversary import Adversary
from nnunetv2_mmkd.methods.base import (
    Averages,
    Batch,
    FullModalityNetwork,
    Method,
    StepResult,
    TaskLoss,
    TrainingContext,
    sum_of_parts,
)
from nnunetv2_mmkd.networks.gaussian_regressor import GaussianRegressor

if TYPE_CHECKING:  # the methods must not need nnU-Net's architectures
    from nnunetv2_mmkd.networks.dedicated import DedicatedTrace, DedicatedUNet


@dataclass(frozen=True)
class CoTrainingConfig:
    """Hyper-parameters of both methods.

    Attributes:
        student: weight of the student's task loss; the teacher's is 1 less this.
        consistency: weight of the consistency of predictions when its ramp is over (10 in both released codes).
        ramp: share of the iterations during which that weight rises as exp(-5 (1 - t)^2).
        teacher_gradients: whether the terms between the two move the teacher, too: co-training, as in both papers.
            The adversarial terms and the mutual information never do.
        discriminator_rate: learning rate of the discriminators' Adam.
        discriminator_betas: of the same.
    """

    student: float = 0.6
    consistency: float = 10.0
    ramp: float = 0.08
    teacher_gradients: bool = True
    discriminator_rate: float = 1e-4
    discriminator_betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        for name, value in self.weights().items():
            if not value >= 0:
                raise ValueError(f"{type(self).__name__}: {name} must not be negative, not {value}")
        for name, share in (("student", self.student), ("ramp", self.ramp)):
            if not 0 <= share <= 1:
                raise ValueError(f"{type(self).__name__}: {name} must lie in [0, 1], not {share}")

    def weights(self) -> dict[str, float]:
        """Weights of the terms between teacher and student, by name."""
        return {"consistency": self.consistency}


class CoTraining(Method["DedicatedUNet"]):
    r"""Task losses of student and teacher, the consistency of their predictions, and what a subclass adds.

    .. math:: w\, \ell(z^m) + (1 - w)\, \ell(z^f) + \lambda(t) \sum_k \operatorname{mean} (p^f_k - p^m_k)^2 + ...

    with m for the student on the subset and f for the teacher on all modalities that a case has. The student alone is
    deployed. Discriminators take a step of their own after the networks'. Where the mutual information of the
    bottlenecks weighs something, a regressor that predicts the teacher's from the student's is trained with the
    networks.

    Attributes:
        recomputes: of the teacher.
    """

    needs: tuple[type, ...] = (FullModalityNetwork,)
    recomputes = None
    config: CoTrainingConfig

    def __init__(self, config: CoTrainingConfig) -> None:
        self.config = config
        self._averages = Averages()
        self._iteration: int | None = None

    def setup(self, context: TrainingContext) -> None:
        """Make the teacher, the discriminators and the regressor."""
        super().setup(context)
        self.teacher: DedicatedUNet = context.need(FullModalityNetwork)()
        self.adversaries = nn.ModuleDict(
            {name: self._adversary(channels) for name, channels in self.discriminated().items()}
        )
        self.regressor: GaussianRegressor | None = None
        if self.regresses():
            self.regressor = GaussianRegressor(self.teacher.width, self.teacher.dimensions).to(context.device)

    def _adversary(self, channels: int) -> Adversary:
        config = self.config
        return Adversary(
            channels, self.teacher.dimensions, self.context, config.discriminator_rate, config.discriminator_betas
        )

    @abstractmethod
    def discriminated(self) -> dict[str, int]:
        """Names of the adversarial terms that weigh something, and how many channels their maps have."""

    @abstractmethod
    def maps(self, trace: DedicatedTrace, valid: Tensor | None) -> dict[str, Tensor]:
        """The maps of :meth:`discriminated`, ``[B, C, *spatial]``."""

    @abstractmethod
    def distances(self, teacher: DedicatedTrace, student: DedicatedTrace, valid: Tensor | None) -> dict[str, Tensor]:
        """The method's other terms between the two, unweighted.

        Args:
            teacher: on all modalities; detached unless ``teacher_gradients``.
            student: on the subset.
            valid: bool ``[B, 1, *spatial]``, or None.
        """

    def regresses(self) -> bool:
        """Whether the mutual information of the bottlenecks weighs something."""
        return False

    def unexplained(self, teacher: DedicatedTrace, student: DedicatedTrace, valid: Tensor | None) -> Tensor:
        """What the student's bottleneck does not tell of the teacher's: the bound of their mutual information."""
        assert self.regressor is not None
        with torch.autocast(self.context.device.type, enabled=False):
            mean, variance = self.regressor(student.content.float())
        return negative_log_likelihood(teacher.content, mean, variance, valid)

    def trainable(self) -> Sequence[nn.Module]:
        """The teacher, and the regressor."""
        return (self.teacher, *([] if self.regressor is None else [self.regressor]))

    # -- a step ------------------------------------------------------------------------------------------------------

    def start_iteration(self, network: DedicatedUNet, task_loss: TaskLoss, iteration: int) -> None:
        """Note the time, for the ramp."""
        self._iteration = iteration

    @property
    def consistency_weight(self) -> float:
        """lambda(t)."""
        length = self.config.ramp * self.context.iterations
        if self._iteration is None or not length:
            return self.config.consistency
        return self.config.consistency * math.exp(-5 * (1 - min(1.0, self._iteration / length)) ** 2)  # lambda(t)

    def step(self, network: DedicatedUNet, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """All terms on a batch."""
        teacher, student = self._trace_of_teacher(batch), network.trace(batch.images, batch.available)
        share = self.config.student
        parts = {  # task: w l(z^m) + (1 - w) l(z^f)
            "student": share * task_loss(student.output, batch.target),
            "teacher": (1 - share) * task_loss(teacher.output, batch.target),
        }
        weights = {**self.config.weights(), "consistency": self.consistency_weight}
        for name, value in self.terms(teacher, student, batch.valid).items():
            parts[name] = weights[name] * value
        complete = self.maps(teacher, batch.valid)
        for name, incomplete in self.maps(student, batch.valid).items():
            adversary = self.adversaries[name]
            assert isinstance(adversary, Adversary)
            parts[name] = weights[name] * adversary.fool(incomplete)  # -log(1 - D(m))
            adversary.see(complete[name], incomplete)  # for -log(1 - D(f)) - log D(m)
        self._averages.add_all("weighted loss", parts)
        return sum_of_parts(parts)

    def terms(self, teacher: DedicatedTrace, student: DedicatedTrace, valid: Tensor | None = None) -> dict[str, Tensor]:
        """All terms between the two that weigh something, but the adversarial ones; unweighted."""
        if not self.config.teacher_gradients:
            teacher = detached(teacher)
        weights, values = self.config.weights(), {}
        if weights["consistency"]:
            values["consistency"] = consistency(  # sum_k mean (p^f_k - p^m_k)^2
                teacher.logits, student.logits, exclusive=self.context.exclusive, valid=valid
            )
        return values | self.distances(teacher, student, valid)

    def _trace_of_teacher(self, batch: Batch) -> DedicatedTrace:
        """The teacher on all that the cases have."""
        if self.recomputing:
            found: DedicatedTrace = checkpoint(self.teacher.trace, batch.images, batch.present, use_reentrant=False)
            return found
        return self.teacher.trace(batch.images, batch.present)

    def end_iteration(self, network: DedicatedUNet, iteration: int) -> None:
        """A step of the discriminators on the maps of the step before."""
        for name, adversary in self.adversaries.items():
            assert isinstance(adversary, Adversary)
            learned = adversary.learn()
            if learned is not None:
                self._averages.add(f"discriminator loss/{name}", learned[0])
                self._averages.add(f"discriminator accuracy/{name}", learned[1])

    # -- curves and state --------------------------------------------------------------------------------------------

    def curve_names(self) -> tuple[str, ...]:
        """Every weighted term, and how well the discriminators tell."""
        weighing = [name for name, weight in self.config.weights().items() if weight]
        names = [f"weighted loss/{name}" for name in ("student", "teacher", *weighing)]
        for panel in ("discriminator loss", "discriminator accuracy"):
            names += [f"{panel}/{name}" for name in self.adversaries]
        return tuple(names)

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return self._averages.read(self.curve_names())

    def state_dict(self) -> dict[str, Any]:
        """The teacher, the regressor, the discriminators and their optimisers."""
        state: dict[str, Any] = {"teacher": self.teacher.state_dict()}
        if self.regressor is not None:
            state["regressor"] = self.regressor.state_dict()
        for name, adversary in self.adversaries.items():
            assert isinstance(adversary, Adversary)
            discriminator, optimizer = adversary.state()
            state[name] = {"discriminator": discriminator, "optimizer": optimizer}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.teacher.load_state_dict(state["teacher"])
        if self.regressor is not None:
            self.regressor.load_state_dict(state["regressor"])
        for name, adversary in self.adversaries.items():
            assert isinstance(adversary, Adversary)
            adversary.restore(state[name]["discriminator"], state[name]["optimizer"])


def detached(trace: DedicatedTrace) -> DedicatedTrace:
    """The same numbers, without gradients."""
    output = [each.detach() for each in trace.output] if isinstance(trace.output, list) else trace.output.detach()
    style = None if trace.style is None else trace.style.detach()
    return type(trace)(output, trace.content.detach(), style)
