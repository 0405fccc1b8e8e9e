"""SimMLM: one network per modality, a gate that weighs their logits, and more modalities not worse than fewer.

Legend: B batch, M modalities, A available modalities of a sample, K heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nnunetv2_mmkd.losses.ranking import more_versus_fewer
from nnunetv2_mmkd.methods.base import (
    Averages,
    Batch,
    LocalLoss,
    Method,
    StepResult,
    TaskLoss,
    TrainingContext,
    sum_of_parts,
)
from nnunetv2_mmkd.methods.modality_table import rows_of, supervised
from nnunetv2_mmkd.methods.ranked import sample_losses
from nnunetv2_mmkd.modalities import strictly_fewer
from nnunetv2_mmkd.networks.experts import ExpertOutputs, mix


@dataclass(frozen=True)
class SimMLMConfig:
    """Hyper-parameters of SimMLM, the paper's values as defaults.

    Attributes:
        ranking: lambda, weight of the ranking loss (0.1; anything from 0.01 to 0.5 helps).
        independent_share: share of the iterations, the first ones, in which each expert is trained by itself. The
            paper trains the experts to their end, then as long together: half. 0: together from the start, as in its
            Table A2.
    """

    ranking: float = 0.1
    independent_share: float = 0.5

    def __post_init__(self) -> None:
        if not self.ranking >= 0:
            raise ValueError(f"SimMLM: ranking must not be negative, not {self.ranking}")
        if not 0 <= self.independent_share < 1:
            raise ValueError(f"SimMLM: independent_share must lie in [0, 1), not {self.independent_share}")


class ExpertNetwork(Protocol):
    """What the method calls of its network."""

    def run_experts(self, x: Tensor, available: Tensor) -> ExpertOutputs:
        """Each expert's outputs for the samples that have its modality."""
        ...

    def weigh(self, x: Tensor, available: Tensor) -> Tensor:
        """The gate's weights ``[B, M, K]``."""
        ...


class SimMLM(Method[ExpertNetwork]):
    r"""First each expert by itself, then all together on two nested subsets of each sample.

    .. math:: \sum_{m \in A_n} \ell(E^m(x_n^m), y_n), \qquad\text{then}\qquad
        \ell(o^+, y) + \ell(o^-, y) + \lambda \max\big(0, \ell(o^+, y) - \ell(o^-, y)\big)

    with o the gated sum of the experts' logits, S+ the subset of the step and S- drawn uniformly from its non-empty
    proper subsets. The experts run once for both. A sample with one modality has the same prediction twice, and no
    ranking.

    References:
        Li et al., SimMLM: A Simple Framework for Multi-modal Learning with Missing Modality, ICCV 2025
        (arXiv 2507.19264).

    Deviations from the paper:
        Both stages are one training, the first as long as the second. S+ follows the trainer's modality dropout, where
        the released code draws pairs of nested subsets in which the full one is rarer, and crops and augments the two
        of a pair apart. The task loss is nnU-Net's, with deep supervision, each scale weighed by the same weights; the
        ranking compares it, where the released code ranks Dice and cross entropy of each region by themselves.
        Optimiser and schedule are nnU-Net's (Adam at a constant rate in the paper).
    """

    def __init__(self, config: SimMLMConfig | None = None) -> None:
        self.config = config or SimMLMConfig()
        self._averages = Averages()
        self._iteration = 0

    def setup(self, context: TrainingContext) -> None:
        """Check that the first stage can have an end.

        Raises:
            ValueError: a first stage in a training of unknown length.
        """
        super().setup(context)
        if self.config.independent_share and not context.iterations:
            raise ValueError("SimMLM: for its first stage, the length of the training must be known")

    @property
    def independent_until(self) -> int:
        """The first iteration in which all are trained together."""
        result: int = round(self.config.independent_share * self.context.iterations)
        return result

    def start_iteration(self, network: ExpertNetwork, task_loss: TaskLoss, iteration: int) -> None:
        """Note which stage this is."""
        self._iteration = iteration

    def step(self, network: ExpertNetwork, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """The loss of the stage."""
        outputs = network.run_experts(batch.images, batch.available)
        if self._iteration < self.independent_until:
            parts = {"experts": self._of_experts(outputs, batch, task_loss)}
        else:
            parts = self._together(network, outputs, batch, task_loss)
        self._averages.add_all("loss", parts)
        return sum_of_parts(parts)

    def _of_experts(self, outputs: ExpertOutputs, batch: Batch, task_loss: TaskLoss) -> Tensor:
        """Sum over the available modalities, mean over the batch; within the rank, as others may have other ones."""
        own_loss = self.context.find(LocalLoss) or task_loss
        losses = []
        for own in outputs:
            if own is not None:
                samples, scales = own
                loss = own_loss(supervised(scales, batch.target), rows_of(batch.target, samples))
                losses.append(loss * (len(samples) / len(batch.available)))
        return torch.stack(losses).sum()  # stage 1

    def _together(
        self, network: ExpertNetwork, outputs: ExpertOutputs, batch: Batch, task_loss: TaskLoss
    ) -> dict[str, Tensor]:
        own_loss = self.context.find(LocalLoss) or task_loss
        fewer = strictly_fewer(batch.available)
        several = torch.nonzero(batch.available.sum(1) > 1).flatten().tolist()
        predictions = []
        for mask in (batch.available, fewer):
            weights = network.weigh(batch.images, mask)
            self._record(weights.detach(), mask)
            predictions.append(supervised(mix(outputs, weights, mask), batch.target))
        more_output, fewer_output = predictions
        parts = {"more": task_loss(more_output, batch.target), "fewer": task_loss(fewer_output, batch.target)}
        if self.config.ranking:
            ranking = parts["more"].new_zeros(())
            if several:
                pair = [sample_losses(each, batch.target, several, own_loss) for each in predictions]
                ranking = more_versus_fewer(*pair) * (len(several) / len(batch.available))
            parts["ranking"] = self.config.ranking * ranking
        return parts  # stage 2

    # -- curves ------------------------------------------------------------------------------------------------------

    def _record(self, weights: Tensor, available: Tensor) -> None:
        """Weights by region and modality, where the modality has a rival."""
        regions = self.context.regions
        rivals = torch.nonzero(available & (available.sum(1, keepdim=True) > 1)).tolist()
        for sample, modality in rivals:
            for number, region in enumerate(regions, weights.shape[2] - len(regions)):  # classes: after the background
                self._averages.add(_curve(region, self.context.modalities[modality]), weights[sample, modality, number])

    def curve_names(self) -> tuple[str, ...]:
        """Loss parts; of each region the mean weight of each modality where it has a rival."""
        names = ["loss/experts", "loss/more", "loss/fewer"] + ["loss/ranking"] * bool(self.config.ranking)
        names += [_curve(region, name) for region in self.context.regions for name in self.context.modalities]
        return tuple(names)

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return self._averages.read(self.curve_names())


def _curve(region: str, modality: str) -> str:
    """Name of a curve; a slash in a region would end its panel's title."""
    return f"gate's weights for {region.replace('/', '|')}/{modality}"
