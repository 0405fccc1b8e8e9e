"""The ranking loss of SimMLM as a switch for any method: more modalities are not worse than fewer.

Legend: B batch, M modalities.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from nnunetv2_mmkd.losses.ranking import more_versus_fewer
from nnunetv2_mmkd.methods.base import Averages, Batch, LocalLoss, Method, StepResult, TaskLoss
from nnunetv2_mmkd.methods.modality_table import rows_of
from nnunetv2_mmkd.modalities import strictly_fewer

AnyMethod = TypeVar("AnyMethod", bound=Method[Any])
RANKING = "loss/ranking"


class MoreVersusFewer(Method[Any]):
    r"""In front of a method in the list of bases: its loss plus the ranking loss.

    .. math:: L + \lambda \frac{1}{B} \sum_b \max\big(0,\ \ell(f(x_{S_b}), y_b) - \ell(f(x_{S'_b}), y_b)\big)

    with S the subset of the step and S' drawn uniformly from its non-empty proper subsets. Samples with one modality
    add nothing. The network runs twice more, once on each subset, so a step costs two stock steps more. S' is drawn
    with torch's generator, whose state is in the checkpoint.

    Attributes:
        ranking_weight: lambda.

    References:
        Li et al., SimMLM, ICCV 2025; see :mod:`nnunetv2_mmkd.losses.ranking`.

    Deviations from the paper:
        There both subsets are trained on in every step; here the method says what is trained on, and the smaller
        subset has its turn in other steps.
    """

    ranking_weight: float = 0.1

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._of_ranking = Averages()

    def step(self, network: Any, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """The method's loss, and the weighted ranking loss."""
        result = super().step(network, batch, task_loss)
        several = torch.nonzero(batch.available.sum(1) > 1).flatten().tolist()
        ranking = result["loss"].new_zeros(())
        if several:
            own_loss = self.context.find(LocalLoss) or task_loss
            more = network(batch.images, available=batch.available)
            fewer = network(batch.images, available=strictly_fewer(batch.available))
            pairs = [sample_losses(output, batch.target, several, own_loss) for output in (more, fewer)]
            share = len(several) / len(batch.available)
            ranking = self.ranking_weight * share * more_versus_fewer(*pairs)
        self._of_ranking.add(RANKING, ranking)
        return {"loss": result["loss"] + ranking, "parts": {**result["parts"], "ranking": ranking.detach()}}

    def curve_names(self) -> tuple[str, ...]:
        """The method's, and the ranking loss."""
        return (*super().curve_names(), RANKING)

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return {**super().curves(), **self._of_ranking.read((RANKING,))}


def ranked(method: type[AnyMethod], weight: float) -> type[AnyMethod]:
    """A method class with the ranking loss added.

    Args:
        method: the class.
        weight: lambda, at least 0.

    Raises:
        ValueError: a negative weight.
    """
    if not weight >= 0:
        raise ValueError(f"the weight of the ranking loss must not be negative, not {weight}")
    return type(f"Ranked{method.__name__}", (MoreVersusFewer, method), {"ranking_weight": weight})


def sample_losses(output: Any, target: Any, samples: list[int], task_loss: TaskLoss) -> Tensor:
    """The task loss of some samples, each by itself: ``[len(samples)]``.

    Args:
        output: of the network for the batch: a tensor, or its deep supervision list.
        target: of the batch.
        samples: rows.
        task_loss: without exchange between ranks, which may have different samples.
    """
    return torch.stack([task_loss(rows_of(output, [row]), rows_of(target, [row])) for row in samples])
