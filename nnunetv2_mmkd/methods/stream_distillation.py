"""The step that MetaKD and LCKD share: a task loss, and a distillation between the streams of the modalities.

Legend: B batch, A available modalities of a sample.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from torch import Tensor

from nnunetv2_mmkd.methods.base import Averages, Batch, Method, StepResult, TaskLoss
from nnunetv2_mmkd.networks.contracts import MultiStreamNetwork
from nnunetv2_mmkd.networks.streams import Streams


class Weighted(Protocol):
    """A configuration with the weight of the distillation."""

    @property
    def alpha(self) -> float: ...


class StreamDistillation(Method[MultiStreamNetwork]):
    r"""Base of the methods that train on

    .. math:: \ell_{task} + \alpha \sum_{(i, j)} \ell_{kd}(f_i, f_j)

    with (i, j) pairs of available modalities; the sum is averaged over the batch.
    """

    config: Weighted

    def __init__(self) -> None:
        self._averages = Averages()

    def step(self, network: MultiStreamNetwork, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """Task loss and weighted distillation of a batch."""
        streams = network.encode(batch.images, batch.available)
        task = task_loss(network.decode(network.fuse(streams).skips), batch.target)
        distillation, pairs = self.distillation(streams, batch.valid)
        weighted = self.config.alpha * distillation
        self._averages.add("loss/task", task)
        self._averages.add("loss/distillation", weighted)
        if pairs:
            per_pair = distillation.detach() * len(batch.available) / pairs
            self._averages.add("distillation per pair/mean", per_pair)
        loss = task + weighted if self.config.alpha else task
        return {"loss": loss, "parts": {"task": task.detach(), "distillation": weighted.detach()}}

    @abstractmethod
    def distillation(self, streams: Streams, valid: Tensor | None) -> tuple[Tensor, int]:
        """The sum over pairs, mean over the batch, and the number of pairs in the batch.

        Args:
            streams: of the batch.
            valid: ``[B, 1, *spatial]``, where the target is known; None: everywhere.
        """
