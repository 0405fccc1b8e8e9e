"""MST-KDNet: a teacher that sees all modalities of a case, a student that sees a subset, and what passes between them.

Legend: B batch, M modalities, K heads of the segmentation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunetv2_mmkd.losses.attention import extreme_value_distance
from nnunetv2_mmkd.losses.logit import logit_distance, released_kl, standardised_kl
from nnunetv2_mmkd.losses.style import style_distance
from nnunetv2_mmkd.methods.adversary import Adversary
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
from nnunetv2_mmkd.methods.mst_kdnet_config import MSTKDNetConfig

if TYPE_CHECKING:  # the methods must not need nnU-Net's architectures
    from nnunetv2_mmkd.networks.transformer_unet import Trace, TransformerUNet


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
        self.adversary = Adversary(
            self.teacher.fused_channels,
            self.teacher.dimensions,
            context,
            self.config.discriminator_rate,
            self.config.discriminator_betas,
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
            self.adversary.see(teacher.fused, student.fused)
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
            values["adversarial"] = self.adversary.fool(prediction.fused)
        if "content" in terms:
            values["content"] = _sum_of_mse([target.transformer], [prediction.transformer])
        return values

    def _weight(self, term: str) -> float:
        """Weight of a term in this iteration."""
        weight = float(getattr(self.config.weights, term))
        if term == "kl":
            result: float = weight * self.config.tau**2  # Eq. (8)
            return result
        if term == "logit_mse" and self.config.logit_ramp and self.context.iterations:
            rising = min(1.0, self._iteration / (self.config.logit_ramp * self.context.iterations))
            return weight * math.exp(-5 * (1 - rising) ** 2)
        return weight

    def _probabilities(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(1) if self.context.exclusive else logits.float().sigmoid()

    def end_iteration(self, network: TransformerUNet, iteration: int) -> None:
        """A step of the discriminator on the features of the step before, Eq. (9)."""
        learned = self.adversary.learn() if "adversarial" in self.config.terms else None
        if learned is not None:
            self._averages.add("discriminator/loss", learned[0])
            self._averages.add("discriminator/accuracy", learned[1])

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
        discriminator, optimizer = self.adversary.state()
        return {
            "teacher": self.teacher.state_dict(),
            "discriminator": discriminator,
            "discriminator_optimizer": optimizer,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.teacher.load_state_dict(state["teacher"])
        self.adversary.restore(state["discriminator"], state["discriminator_optimizer"])


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
