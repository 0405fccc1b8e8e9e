"""Training under subset dropping and nothing else: the control that every method is compared with."""

from __future__ import annotations

from torch import nn

from nnunetv2_mmkd.methods.base import Averages, Batch, Method, StepResult, TaskLoss


class ModalityDropout(Method[nn.Module]):
    """The task loss on the available modalities, for any network with ``forward(x, available)``."""

    def __init__(self) -> None:
        self._averages = Averages()

    def step(self, network: nn.Module, batch: Batch, task_loss: TaskLoss) -> StepResult:
        """Task loss of the batch."""
        task = task_loss(network(batch.images, available=batch.available), batch.target)
        self._averages.add("loss/task", task)
        return {"loss": task, "parts": {"task": task.detach()}}

    def curve_names(self) -> tuple[str, ...]:
        """The task loss."""
        return ("loss/task",)

    def curves(self) -> dict[str, float]:
        """Means over the epoch."""
        return self._averages.read(self.curve_names())
