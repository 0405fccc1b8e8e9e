"""Maps on another grid, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import interpolate

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def linear_resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate ``[B, C, *spatial]`` linearly to ``[B, C, *size]``; nothing happens if it has that size."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return interpolate(maps, tuple(size), mode=LINEAR[len(size)], align_corners=False)


def nearest_resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat the cells of ``[B, C, *spatial]`` so that they fill ``[B, C, *size]``."""
    return maps if tuple(maps.shape[2:]) == tuple(size) else interpolate(maps, tuple(size), mode="nearest")
