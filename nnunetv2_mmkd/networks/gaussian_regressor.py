"""What a student's features say of its teacher's: a Gaussian for each channel and cell. Trained only, never deployed.

Legend: C channels of the bottleneck.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

FIRST_VARIANCE = 5.0
LEAST_VARIANCE = 1e-5


class GaussianRegressor(nn.Module):
    """Predicts the teacher's features from the student's, with a variance for each channel.

    Args:
        channels: C.
        dimensions: 2 or 3.

    References:
        Ahn et al., Variational information distillation for knowledge transfer, CVPR 2019.
    """

    def __init__(self, channels: int, dimensions: int) -> None:
        super().__init__()
        convolution: type[nn.Module] = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        self.mean = nn.Sequential(
            convolution(channels, channels, 1), nn.ReLU(), convolution(channels, channels, 1), nn.ReLU(),
            convolution(channels, channels, 1),
        )  # fmt: skip
        first = math.log(math.exp(FIRST_VARIANCE - LEAST_VARIANCE) - 1)
        self.spread = nn.Parameter(torch.full((channels,), first))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The student's ``[B, C, *cells]`` -> mean of the same shape and variance ``[C]``."""
        return self.mean(features), softplus(self.spread.float()) + LEAST_VARIANCE
