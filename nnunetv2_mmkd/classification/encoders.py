"""Small encoders, one for each kind of modality; all end in features of a width that the caller chooses.

No norm acts over the batch alone: with a modality at 5 % a batch may hold a single subject that has it.

Legend: B batch, W width of the features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ImageEncoder(nn.Module):
    """A LeNet for ``[B, 1, 28, 28]``: 5x5 convolutions with 5 and 10 channels, 160 features, then ``[B, W]``.

    References:
        LeCun et al., Gradient-based learning applied to document recognition, 1998; channels as in SMIL (Ma et al.,
        2021), which the MetaKD paper follows.
    """

    def __init__(self, width: int = 160) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(
            nn.Conv2d(1, 5, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(5, 10, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(160, width),
        )  # fmt: skip
        self.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 1, 28, 28]`` -> ``[B, W]``."""
        result: Tensor = self.layers(x.contiguous(memory_format=torch.channels_last))
        return result


class SoundEncoder(nn.Module):
    """Three 2x2 convolutions (32, 48, 20 channels) with batch norm for ``[B, 1, 20, 20]``: 320 features, ``[B, W]``.

    References:
        SMIL (Ma et al., 2021), which the MetaKD paper follows. Padding and pooling are chosen so that the published 320
        features come out.
    """

    def __init__(self, width: int = 160) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 2, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 48, 2, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(48), nn.ReLU(),
            nn.Conv2d(48, 20, 2), nn.BatchNorm2d(20), nn.ReLU(),
            nn.Flatten(), nn.Linear(320, width),
        )  # fmt: skip
        self.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 1, 20, 20]`` -> ``[B, W]``."""
        result: Tensor = self.layers(x.contiguous(memory_format=torch.channels_last))
        return result


class TabularEncoder(nn.Module):
    """A multi-layer perceptron with layer norm, ``[B, columns]`` -> ``[B, W]``.

    Args:
        columns: of the table, after one-hot encoding.
        width: W.
        hidden: widths of the hidden layers (paper silent).
        dropout: after each of them.
    """

    def __init__(self, columns: int, width: int = 64, hidden: Sequence[int] = (64,), dropout: float = 0.2) -> None:
        super().__init__()
        self.width = width
        layers: list[nn.Module] = []
        before = columns
        for size in hidden:
            layers += [nn.Linear(before, size), nn.LayerNorm(size), nn.ReLU(), nn.Dropout(dropout)]
            before = size
        self.layers = nn.Sequential(*layers, nn.Linear(before, width))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, columns]`` -> ``[B, W]``."""
        result: Tensor = self.layers(x)
        return result


class VolumeEncoder(nn.Module):
    """A small 3-D CNN with instance norm, for volumes of any size ``[B, 1, X, Y, Z]`` -> ``[B, W]``.

    Args:
        width: W.
        channels: of the convolutions; each halves the grid (paper silent).
    """

    def __init__(self, width: int = 64, channels: Sequence[int] = (8, 16, 32)) -> None:
        super().__init__()
        self.width = width
        layers: list[nn.Module] = []
        before = 1
        for size in channels:
            layers += [nn.Conv3d(before, size, 3, 2, 1), nn.GroupNorm(1, size), nn.ReLU()]
            before = size
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(2 * before, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 1, X, Y, Z]`` -> ``[B, W]``; mean and maximum over the grid."""
        features = self.layers(x).flatten(2)
        result: Tensor = self.last(torch.cat([features.mean(2), features.amax(2)], dim=1))
        return result
