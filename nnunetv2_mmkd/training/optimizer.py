"""Optimisers other than nnU-Net's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class AdamWConfig:
    """AdamW, or Adam. nnU-Net's schedule, rate · (1 - epoch / epochs)^0.9, stays.

    The defaults are those of mmFormer, RFNet, M2FTrans and PASSION (§4.2 of PASSION and the released codes).

    Attributes:
        rate: learning rate at the start.
        weight_decay: decoupled, or an L2 penalty in Adam.
        betas: decay of the moments.
        amsgrad: whether steps follow the largest second moment so far.
        decoupled: AdamW; otherwise Adam.
    """

    rate: float = 2e-4
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    amsgrad: bool = True
    decoupled: bool = True

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(f"the learning rate must be above 0, not {self.rate}")
        if not self.weight_decay >= 0:
            raise ValueError(f"the weight decay must not be negative, not {self.weight_decay}")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser."""
        kind = torch.optim.AdamW if self.decoupled else torch.optim.Adam
        return kind(parameters, self.rate, betas=self.betas, weight_decay=self.weight_decay, amsgrad=self.amsgrad)
