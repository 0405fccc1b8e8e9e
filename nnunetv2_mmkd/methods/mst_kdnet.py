"""MST-KDNet: a teacher that sees all modalities of a case, a student that sees a subset, and what passes between them.

Legend: B batch, M modalities, K heads of the segmentation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunetv2_mmkd.losses.attention import OVER, extreme_value_distance
from nnunetv2_mmkd.losses.logit import logit_distance, released_kl, standardised_kl
from nnunetv2_mmkd.losses.style import adversarial_loss, discriminator_loss, style_distance
from nnunetv2_mmkd.methods.base import (
    Averages,
    Batch,
    ExtraNetwork,
    Method,
    StepResult,
    TaskLoss,
    TrainingContext,
    sum_of_parts,
)
from nnunetv2_mmkd.networks.discriminator import FeatureDiscriminator

if TYPE_CHECKING:  # the methods must not need nnU-Net's architectures
    from nnunetv2_mmkd.networks.transformer_unet import Trace, TransformerUNet

TERMS = ("attention", "tokens", "logit_mse", "kl", "style", "adversarial", "content")


@dataclass(frozen=True)
class TermWeights:
    """Weights of the terms; the lambdas of Eq. (12) are contained in them.

    The paper prints none. The defaults were found by comparing the norms of the gradients that the terms have for the
    student with that of its task loss, early in the training of a planned network on real cases, before attention was
    compared relative to the teacher's. :meth:`released_code` has the released code's.

    Attributes:
        attention: alpha of Eq. (4), of attention scaled by the number of tokens (relative to the teacher's by
            default).
        tokens: beta of Eq. (4).
        logit_mse: lambda_mse of Eq. (8).
        kl: lambda_KD of Eq. (8), times tau^2.
        style: theta of Eq. (11).
        adversarial: epsilon of Eq. (11).
        content: of the mean squared difference of the transformer's output maps (released code only).
        student: lambda_4 of Eq. (12), of the student's task loss.
        teacher: of the teacher's.
    """

    attention: float = 0.05
    tokens: float = 0.1
    logit_mse: float = 0.005
    kl: float = 1.0
    style: float = 0.1
    adversarial: float = 0.002
    content: float = 0.0
    student: float = 1.0
    teacher: float = 1.0

    def __post_init__(self) -> None:
        for each in fields(self):
            if not getattr(self, each.name) >= 0:
                raise ValueError(f"MST-KDNet: weight {each.name} must not be negative, not {getattr(self, each.name)}")

    @classmethod
    def released_code(cls) -> TermWeights:
        """The released code's weights.

        Its 1e8 for the attention term holds for its 120 tokens; its style term, the only one whose normalisation
        differs from ours, is commented out there.
        """
        return cls(
            attention=1e8 / 120**4,
            tokens=0.2,
            logit_mse=10.0,
            kl=1.0,
            style=1e-4,
            adversarial=2e-4,
            content=0.2,
            student=0.6,
            teacher=0.4,
        )


@dataclass(frozen=True)
class MSTKDNetConfig:
    """Hyper-parameters of MST-KDNet.

    Attributes:
        ms_tkd: multi-scale transformer distillation, Eqs. (2)-(4).
        logit_mse: logit discrepancy, Eq. (5).
        standardised_kl: logit standardisation, Eqs. (6) and (7).
        style: style matching, second term of Eq. (11).
        adversarial: first term of Eq. (11).
        weights: of the terms.
        tau: temperature of Eqs. (6) and (8) (paper silent; 7 in the released code).
        teacher: ``"co-trained"``, all the time, as in the released code; or ``"frozen"``: for the first
            ``teacher_share`` of the iterations the two are trained apart, then the teacher stays as it is.
        teacher_share: see ``teacher``.
        teacher_gradients: whether the terms between the two move the teacher, too (released code). By default the
            teacher learns from the truth alone: with gradients both sides of a term meet where that is easiest, and
            the teacher, which nobody deploys, would pay for it.
        discriminator_rate: learning rate of the discriminator's Adam (§3.1: 1e-4).
        discriminator_betas: of the same (§3.1).
        attention_over: where the extremes of Eqs. (2) and (3) are taken: ``"heads"``, or ``"layers"`` (released code).
        relative_attention: whether the distance of Eq. (4) is relative to the teacher's attention
            (:func:`~nnunetv2_mmkd.losses.attention.extreme_value_distance`).
        all_levels: whether the second term of Eq. (4) has the deepest tap, too: four levels instead of three
            (released code).
        logit_space: Eq. (5) on ``"logits"``, or on ``"probabilities"`` (released code).
        logit_ramp: share of the iterations during which the weight of Eq. (5) rises (20 of 300 epochs in the released
            code).
        divergence: ``"standardised"``, Eqs. (6) and (7), or ``"released"``: standardised along an image axis and
            reversed (:func:`~nnunetv2_mmkd.losses.logit.released_kl`).
    """

    ms_tkd: bool = True
    logit_mse: bool = True
    standardised_kl: bool = True
    style: bool = True
    adversarial: bool = True
    weights: TermWeights = TermWeights()
    tau: float = 7.0
    teacher: str = "co-trained"
    teacher_share: float = 0.3
    teacher_gradients: bool = False
    discriminator_rate: float = 1e-4
    discriminator_betas: tuple[float, float] = (0.9, 0.99)
    attention_over: str = "heads"
    relative_attention: bool = True
    all_levels: bool = False
    logit_space: str = "logits"
    logit_ramp: float = 0.0
    divergence: str = "standardised"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("teacher", self.teacher, ("co-trained", "frozen")),
            ("attention_over", self.attention_over, OVER),
            ("logit_space", self.logit_space, ("logits", "probabilities")),
            ("divergence", self.divergence, ("standardised", "released")),
        ):
            if value not in allowed:
                raise ValueError(f"MST-KDNet: {name} must be one of {', '.join(allowed)}, not {value!r}")
        if not self.tau > 0:
            raise ValueError(f"MST-KDNet: tau must be above 0, not {self.tau}")
        if not 0 < self.teacher_share < 1:
            raise ValueError(f"MST-KDNet: teacher_share must lie between 0 and 1, not {self.teacher_share}")

        if not 0 <= self.logit_ramp <= 1:
            raise ValueError(f"MST-KDNet: logit_ramp must lie in [0, 1], not {self.logit_ramp}")

    @classmethod
    def released_code(cls) -> MSTKDNetConfig:
        """The released code's choices where they contradict the paper, with a content term and its weights."""
        return cls(
            weights=TermWeights.released_code(),
            teacher_gradients=True,
            attention_over="layers",
            relative_attention=False,
            all_levels=True,
            logit_space="probabilities",
            logit_ramp=20 / 300,
            divergence="released",
        )

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms that are switched on and weigh something."""
        on = {
            "attention": self.ms_tkd,
            "tokens": self.ms_tkd,
            "logit_mse": self.logit_mse,
            "kl": self.standardised_kl,
            "style": self.style,
            "adversarial": self.adversarial,
            "content": True,
        }
        return tuple(term for term in TERMS if on[term] and getattr(self.weights, term) > 0)


class MSTKDNet(Method["TransformerUNet"]):
    r"""Task losses of teacher and student, and distillation of attention, features, logits and style, Eq. (12).

    .. math::
        \lambda_4 \ell(l^m) + \ell(l^f) + \alpha L_{EVD} + \beta L_{MST} + \lambda_{mse} L_{mse}
        + \lambda_{KD} \tau^2 L_{KL} + \theta L_{style} + \epsilon L_{adv}

    with f for the teacher on all modalities that a case has and m for the student on the subset. The discriminator
    takes a step of its own after the networks'. Only the student is deployed.

    Attributes:
        recomputes: of the teacher; a third of a stock step more.

    References:
        Zhu et al., Bridging the Gap in Missing Modalities: Leveraging Knowledge Distillation and Style Matching for
        Brain Tumor Segmentation, MICCAI 2025, Eqs. (1)-(12).

    Deviations from the paper:
        See the losses for those of single terms. The teacher is detached in all of them by default (the paper is
        silent, the released code does not detach). The discriminator's optimiser keeps its moments, where the
        released code makes a new one for each iteration. Optimiser and schedule of the networks are nnU-Net's (Adam
        with 1e-4 in the paper). The task loss is nnU-Net's (Dice in the paper), as are crops and spacing (volumes
        resized in the paper).
    """

    needs = (ExtraNetwork,)
    recomputes = None

    def __init__(self, config: MSTKDNetConfig | None = None) -> None:
        self.config = config or MSTKDNetConfig()
        self._averages = Averages()
        self._features: tuple[Tensor, Tensor] | None = None
        self._frozen = False

    def setup(self, context: TrainingContext) -> None:
        """Make teacher and discriminator.

        Raises:
            ValueError: a frozen teacher in a training of unknown length.
        """
        super().setup(context)
        if self.config.teacher == "frozen" and not context.iterations:
            raise ValueError("MST-KDNet: to freeze the teacher, the length of the training must be known")
        self.teacher: TransformerUNet = context.need(ExtraNetwork)()
        self.discriminator = FeatureDiscriminator(self.teacher.fused_channels, self.teacher.dimensions)
        self.discriminator.to(context.device)
        context.broadcast([self.discriminator])
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), self.config.discriminator_rate, self.config.discriminator_betas
        )
        self._iteration = 0

    def trainable(self) -> Sequence[nn.Module]:
        """The teacher."""
        return (self.teacher,)

    @property
    def teacher_only_until(self) -> int:
        """The iteration at which a frozen teacher is frozen; 0 if it is co-trained."""
        return round(self.config.teacher_share * self.context.iterations) if self.config.teacher == "frozen" else 0

    # -- a step ------------------------------------------------------------------------------------------------------

    def start_iteration(self, network: TransformerUNet, task_loss: TaskLoss, iteration: int) -> None:
        """Freeze the teacher when its time has come."""
        self._iteration = iteration
        self._frozen = self.config.teacher == "frozen" and iteration >= self.teacher_only_until
        self.teacher.requires_grad_(not self._frozen)
        self.teacher.train(not self._frozen)

    def step(self, network: TransformerUNet, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """All terms on a batch."""
        weights = self.config.weights
        teacher = self._trace_of_teacher(batch)
        student = network.trace(batch.images, batch.available)
        task = task_loss(student.output, batch.target)
        parts = {"student": weights.student * task}
        if not self._frozen:
            parts["teacher"] = weights.teacher * task_loss(teacher.output, batch.target)
        if self._iteration >= self.teacher_only_until:
            for term, value in self.distances(teacher, student, batch.valid).items():
                parts[term] = self._weight(term) * value
            self._features = (teacher.fused.detach(), student.fused.detach())
        self._averages.add_all("weighted loss", parts)
        return sum_of_parts(parts)  # Eq. (12)

    def _trace_of_teacher(self, batch: Batch) -> Trace:
        """The teacher on all that the cases have."""
        if self._frozen:
            with torch.no_grad():
                return self.teacher.trace(batch.images, batch.present)
        if self.recomputing:
            return checkpoint(self.teacher.trace, batch.images, batch.present, use_reentrant=False)
        return self.teacher.trace(batch.images, batch.present)

    def distances(self, teacher: Trace, student: Trace, valid: Tensor | None = None) -> dict[str, Tensor]:
        """The terms between teacher and student that are switched on, unweighted.

        Args:
            teacher: trace on all modalities.
            student: trace on the subset.
            valid: bool ``[B, 1, *spatial]``, or None.
        """
        config, terms = self.config, self.config.terms
        target = _Features(teacher, detach=not config.teacher_gradients)
        prediction = _Features(student, detach=False)
        values: dict[str, Tensor] = {}
        if "attention" in terms:  # Eqs. (2)-(4)
            values["attention"] = extreme_value_distance(
                target.attention, prediction.attention, config.attention_over, config.relative_attention
            )
        if "tokens" in terms:  # Eq. (4)
            first = 0 if config.all_levels else 1
            values["tokens"] = _sum_of_mse(target.levels[first:], prediction.levels[first:])
        if "logit_mse" in terms:  # Eq. (5)
            pair = target.logits, prediction.logits
            if config.logit_space == "probabilities":
                pair = self._probabilities(pair[0]), self._probabilities(pair[1])
            values["logit_mse"] = logit_distance(*pair, valid)
        if "kl" in terms:  # Eqs. (6) and (7)
            if config.divergence == "released":
                divergence = released_kl(target.logits, prediction.logits, tau=config.tau, valid=valid)
            else:
                divergence = standardised_kl(
                    target.logits, prediction.logits, exclusive=self.context.exclusive, tau=config.tau, valid=valid
                )
            values["kl"] = divergence
        if "style" in terms:  # Eqs. (10) and (11)
            values["style"] = style_distance(target.style, prediction.style)
        if "adversarial" in terms:  # Eqs. (9) and (11)
            with self._still_discriminator():
                values["adversarial"] = adversarial_loss(self.discriminator(prediction.fused.float()))
        if "content" in terms:
            values["content"] = _sum_of_mse([target.transformer], [prediction.transformer])
        return values

    def _weight(self, term: str) -> float:
        """Weight of a term in this iteration."""
        weight = float(getattr(self.config.weights, term))
        if term == "kl":
            return weight * self.config.tau**2  # Eq. (8)
        if term == "logit_mse" and self.config.logit_ramp and self.context.iterations:
            rising = min(1.0, self._iteration / (self.config.logit_ramp * self.context.iterations))
            return weight * math.exp(-5 * (1 - rising) ** 2)
        return weight

    def _probabilities(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(1) if self.context.exclusive else logits.float().sigmoid()

    @contextmanager
    def _still_discriminator(self) -> Iterator[None]:
        """The discriminator passes gradients on and collects none."""
        self.discriminator.requires_grad_(False)
        try:
            with torch.autocast(self.context.device.type, enabled=False):
                yield
        finally:
            self.discriminator.requires_grad_(True)

    def end_iteration(self, network: TransformerUNet, iteration: int) -> None:
        """A step of the discriminator on the features of the step before, Eq. (9)."""
        if self._features is None or "adversarial" not in self.config.terms:
            return
        complete, incomplete = (self.discriminator(features.float()) for features in self._features)
        self._features = None
        loss = discriminator_loss(complete, incomplete)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.context.average([p.grad for p in self.discriminator.parameters() if p.grad is not None])
        self.discriminator_optimizer.step()
        right = torch.cat([(complete < 0).flatten(), (incomplete > 0).flatten()]).float().mean()
        self._averages.add("discriminator/loss", loss)
        self._averages.add("discriminator/accuracy", right)

    # -- curves and state --------------------------------------------------------------------------------------------

    def curve_names(self) -> tuple[str, ...]:
        """Every weighted term, and how well the discriminator tells."""
        names = [f"weighted loss/{name}" for name in ("student", "teacher", *self.config.terms)]
        if "adversarial" in self.config.terms:
            names += ["discriminator/loss", "discriminator/accuracy"]
        return tuple(names)

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return self._averages.read(self.curve_names())

    def state_dict(self) -> dict[str, Any]:
        """Teacher, discriminator and its optimiser."""
        return {
            "teacher": self.teacher.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.teacher.load_state_dict(state["teacher"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])


class _Features:
    """What is distilled of a trace, detached or not."""

    def __init__(self, trace: Trace, detach: bool) -> None:
        def keep(tensor: Tensor) -> Tensor:
            return tensor.detach() if detach else tensor

        self.attention = [keep(each) for each in trace.attention]
        self.levels = [keep(each) for each in trace.levels]
        self.logits = keep(trace.logits)
        self.transformer = keep(trace.transformer)
        self.style = [keep(trace.encoder), self.transformer, keep(trace.decoder)]
        self.fused = keep(trace.fused)


def _sum_of_mse(target: Sequence[Tensor], prediction: Sequence[Tensor]) -> Tensor:
    """Mean squared difference, summed over maps, in float32."""
    with torch.autocast(prediction[0].device.type, enabled=False):
        pairs = zip(target, prediction, strict=True)
        return torch.stack([(teacher.float() - student.float()).square().mean() for teacher, student in pairs]).sum()
