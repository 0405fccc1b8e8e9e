"""In which precision networks run: nnU-Net's float16 on CUDA; on a CPU float32, or bfloat16 if that is asked for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.paths import BFLOAT16_VARIABLE, switched_on


def bfloat16_on(device: torch.device) -> bool:
    """Whether networks run in bfloat16 on a device."""
    return device.type == "cpu" and switched_on(BFLOAT16_VARIABLE)


def precision(device: torch.device) -> str:
    """In which precision networks run on a device."""
    return "bfloat16" if bfloat16_on(device) else "float16" if device.type == "cuda" else "float32"


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """The context in which networks run."""
    if bfloat16_on(device):
        return torch.autocast(device.type, torch.bfloat16)
    return torch.autocast(device.type, enabled=True) if device.type == "cuda" else nullcontext()


def in_float32(loss: nn.Module, device: torch.device) -> nn.Module:
    """The task loss, in float32. On CUDA autocast sees to that; on a CPU softmax and sigmoid stay in bfloat16."""
    return _Float32Loss(loss) if bfloat16_on(device) else loss


class _Float32Loss(nn.Module):
    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Any, target: Any) -> Tensor:
        """As the loss; ``output`` is a tensor, or under deep supervision one for each scale."""
        scales = isinstance(output, list | tuple)
        result: Tensor = self.loss([each.float() for each in output] if scales else output.float(), target)
        return result
