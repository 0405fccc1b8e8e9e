"""Two nested subsets of half as many samples: a step that costs what the control's costs, with something to compare.

Legend: B batch, M modalities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.losses.ranking import more_versus_fewer
from nnunetv2_mmkd.methods.base import Averages, Batch, LocalLoss, Method, StepResult, TaskLoss, sum_of_parts
from nnunetv2_mmkd.methods.modality_table import rows_of
from nnunetv2_mmkd.modalities import index_of, strictly_fewer

CURVES = ("loss/task", "loss/ranking")


@dataclass(frozen=True)
class NestedSubsetsConfig:
    """Hyper-parameters.

    Attributes:
        ranking: weight of the ranking loss (SimMLM's 0.1); 0: only the two subsets.
    """

    ranking: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.ranking < 1:
            raise ValueError(f"nested subsets: ranking must lie in [0, 1), not {self.ranking}")


class NestedSubsets(Method[nn.Module]):
    r"""Every other sample of the batch, with a subset and a smaller one within it, in one forward pass.

    .. math:: \ell\big(f(x_{S^+}) \cup f(x_{S^-}), y\big) + \lambda \frac{1}{|H|} \sum_{b \in H}
        \max\big(0, \ell(f(x_{S^+_b}), y_b) - \ell(f(x_{S^-_b}), y_b)\big), \qquad S^-_b \subset S^+_b

    with H the half of the batch: its even samples in even iterations, its odd ones in odd iterations (nnU-Net puts the
    samples on a labelled voxel at the end of a batch). :math:`S^+` is the subset of the step, :math:`S^-` is uniform
    over its proper subsets; a single modality stands twice and ranks nothing. Loading and augmentation cost as much as
    the control's, though half of the samples is not used. A batch of one sample costs twice as much.

    The network needs ``forward(x, available)`` only.

    References:
        Li et al., SimMLM, ICCV 2025 (arXiv 2507.19264), where both subsets are trained on as well.
    """

    needs = (LocalLoss,)

    def __init__(self, config: NestedSubsetsConfig | None = None) -> None:
        self.config = config or NestedSubsetsConfig()
        self._averages = Averages()
        self._iteration = 0

    def start_iteration(self, network: nn.Module, task_loss: TaskLoss, iteration: int) -> None:
        """Take the number that decides which half it is."""
        self._iteration = iteration

    def step(self, network: nn.Module, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """Task loss of both subsets together, and the ranking loss."""
        count = len(batch.available)
        half = list(range(self._iteration % 2 if count > 1 else 0, count, 2))
        more = batch.available[half]
        fewer = strictly_fewer(more)
        images = batch.images[index_of([*half, *half], batch.images.device)]
        target = rows_of(batch.target, [*half, *half])
        output = network(images, available=torch.cat([more, fewer]))
        task = task_loss(output, target)
        ranking = self._ranking(output, target, more) if self.config.ranking else task.new_zeros(())
        parts = {"task": task, "ranking": self.config.ranking * ranking}
        self._averages.add_all("loss", parts)
        return sum_of_parts(parts)

    def _ranking(self, output: Any, target: Any, more: Tensor) -> Tensor:
        """The mean over the samples of half a batch; those with one modality count as 0."""
        own_loss, half = self.context.need(LocalLoss), len(more)
        several = torch.nonzero(more.sum(1) > 1).flatten().tolist()
        if not several:
            return torch.zeros((), device=output[0].device)

        def losses(shift: int) -> Tensor:
            rows = ([row + shift] for row in several)
            return torch.stack([own_loss(rows_of(output, row), rows_of(target, row)) for row in rows])

        return len(several) / half * more_versus_fewer(losses(0), losses(half))

    def curve_names(self) -> tuple[str, ...]:
        """Both terms."""
        return CURVES

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return self._averages.read(CURVES)
