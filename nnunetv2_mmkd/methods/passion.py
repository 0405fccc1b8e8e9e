"""PASSION: each modality alone learns from all available ones, the neglected ones more.

Legend: B batch, M modalities, A available modalities of a sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nnunetv2_mmkd.methods.base import (
    Averages,
    Batch,
    MembershipClasses,
    Method,
    MissingRates,
    StepResult,
    TaskLoss,
    TrainingContext,
    sum_of_parts,
)
from nnunetv2_mmkd.methods.modality_table import finite_or_nothing
from nnunetv2_mmkd.methods.passion_config import PASSIONConfig as PASSIONConfig
from nnunetv2_mmkd.methods.preference import (
    GAMMA_EPOCHS,
    initial_weights,
    neglected,
    relative_preference,
    updated_weights,
)
from nnunetv2_mmkd.methods.self_distillation import SelfDistillation, with_others
from nnunetv2_mmkd.modalities import index_of
from nnunetv2_mmkd.networks.contracts import SegmentationNetwork


class PASSION(Method[SegmentationNetwork]):
    r"""Task loss of all available modalities, and self-distillation to each of them alone, Eq. (14).

    .. math:: L_{seg} + \sum_{m \in A} \big( \lambda_1 \beta^m L_{pixel}^m + \lambda_2 \delta_n^m L_{proto}^m \big)

    The teacher is the network itself on all available modalities, the student m the same network with modality m
    alone: the streams are encoded once, fused and decoded for each. What a sample has of modalities differs between
    samples; the sum is averaged over the batch. With fewer than two modalities student and teacher are the same:
    nothing is decoded twice, all terms are 0.

    Attributes:
        recomputes: of all decoders, one sample at a time, what is large and cheap to compute
            (:mod:`~nnunetv2_mmkd.networks.recompute`).

    References:
        Shi et al., PASSION: Towards Effective Incomplete Multi-Modal Medical Image Segmentation with Imbalanced
        Missing Rates, ACM MM 2024, Eqs. (1)-(14).

    Deviations from the paper:
        See the losses and :mod:`~nnunetv2_mmkd.methods.preference` for those of single terms. Distillation is at the
        scales of nnU-Net's deep supervision but the smallest, to which nnU-Net gives no weight, at their own
        resolution. Features (Eq. 4) are the decoder's last map before the head, as in the released code. Optimiser
        and schedule are nnU-Net's (AdamW with 2e-4 in the paper).
    """

    needs = (MissingRates, MembershipClasses)
    recomputes = None

    def __init__(self, config: PASSIONConfig | None = None) -> None:
        self.config = config or PASSIONConfig()
        self._averages = Averages()
        self.start: Tensor | None = None
        self.beta: Tensor | None = None
        self.preference: Tensor | None = None

    def setup(self, context: TrainingContext) -> None:
        """Fix the rate of beta."""
        super().setup(context)
        scale = min(1.0, GAMMA_EPOCHS / context.epochs) if context.epochs else 1.0
        self.rate = self.config.gamma * scale
        self._sums = torch.zeros(2, len(context.modalities))

    # -- a step ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take the missing rates of the training cases.

        Raises:
            InputError: no training case has a modality.
        """
        if self.beta is None:
            self.start = initial_weights(self.context.need(MissingRates)(), self.context.modalities)
            self.beta = self.start.clone()

    def step(self, network: SegmentationNetwork, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """All terms on a batch."""
        config = self.config
        taught = batch.present if config.all_modalities else batch.available
        encoded = network.encode(batch.images, taught)
        streams = encoded.narrowed(batch.available) if config.all_modalities else encoded
        predictions = SelfDistillation(network, config, self.context, task_loss, self.recomputing)
        together = predictions.together(streams)
        task = together.loss(task_loss, batch.target)  # L_seg of Eq. (2)
        alone = predictions.alone(encoded, together, batch)  # Eqs. (3)-(8)
        available = taught.to(task.device, non_blocking=True)
        preference = relative_preference(alone.distance, available)  # Eqs. (9), (10)
        followed = preference if config.preference_of == "samples" else torch.where(available, alone.distance, 0)
        (step,) = finite_or_nothing(torch.stack([followed.sum(0), available.float().sum(0)]))
        self._sums = self._sums.to(task.device, non_blocking=True) + step
        assert self.beta is not None and self.start is not None
        start = self.start.to(task.device, non_blocking=True)
        beta = self.beta.to(task.device, non_blocking=True) if config.weights else torch.ones_like(start)
        lagging = preference if config.mask_of == "sample" else torch.where(available, preference.sum(0), 0)
        delta = neglected(lagging).float() if config.mask else available.float()  # Eq. (11)
        parts = {"task": task}
        if config.pixel:
            parts["pixel"] = config.lambda_1 * (beta * alone.pixel).sum(1).mean()
        if config.proto:
            factor = delta * start if config.weighted_proto else delta
            parts["proto"] = config.lambda_2 * (factor * alone.proto).sum(1).mean()
        if config.regularisation:
            factor = delta * beta if config.weighted_regularisation else torch.ones_like(delta)
            parts["regularisation"] = (factor * alone.regularisation).sum(1).mean()  # Eq. (2)
        self._averages.add_all("loss", parts)
        for number, name in enumerate(self.context.modalities):
            samples = with_others(taught, number)
            if samples:
                distances = alone.distance[index_of(samples, available.device), number]
                self._averages.add(f"distance to the teacher/{name}", distances.mean())
        return sum_of_parts(parts)  # Eq. (14)

    # -- epochs ------------------------------------------------------------------------------------------------------

    def end_epoch(self, network: SegmentationNetwork, epoch: int) -> None:
        """Move beta by the preference of the epoch, Eqs. (12) and (13)."""
        sums = self._sums.to(self.context.device)
        self.context.average([sums])
        preference = sums[0] / sums[1]  # Eq. (12), NaN without samples
        if self.config.preference_of == "distances":
            preference = 1 - preference / preference.nanmean()
        self.preference = preference.cpu()
        self._sums = torch.zeros_like(self._sums)
        if self.config.weights and self.beta is not None and self.start is not None:
            self.beta = updated_weights(  # Eq. (13)
                self.beta,
                self.start,
                self.preference,
                self.rate * self.config.growth ** (1 + min(2, 3 * epoch // max(1, self.context.epochs))),
                relative=self.config.relative,
                renormalised=self.config.renormalised,
            )

    def curve_names(self) -> tuple[str, ...]:
        """Loss parts; of each modality the distance to the teacher, the preference, and beta over its start."""
        config = self.config
        names = ["loss/task"]
        names += ["loss/pixel"] if config.pixel else []
        names += ["loss/proto"] if config.proto else []
        names += ["loss/regularisation"] if config.regularisation else []
        for panel in ("distance to the teacher", "relative preference", "gradient weight over its start"):
            names += [f"{panel}/{name}" for name in self.context.modalities]
        return tuple(names)

    def curves(self) -> dict[str, float]:
        """Means over the epoch; preference and weights as they are now."""
        values = self._averages.read(self.curve_names())
        for number, name in enumerate(self.context.modalities):
            if self.preference is not None:
                values[f"relative preference/{name}"] = float(self.preference[number])
            if self.beta is not None and self.start is not None:
                values[f"gradient weight over its start/{name}"] = float(self.beta[number] / self.start[number])
        return values

    def state_dict(self) -> dict[str, Any]:
        """Beta, its start, the last preference, the sums of the epoch."""
        return {"beta": self.beta, "start": self.start, "preference": self.preference, "sums": self._sums.cpu()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.beta, self.start, self.preference = state["beta"], state["start"], state["preference"]
        self._sums = state["sums"].cpu()
