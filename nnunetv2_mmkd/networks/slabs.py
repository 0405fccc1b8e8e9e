"""Small 3-D convolutions of one sample on a CPU, in two slabs, so that PyTorch takes its fast path.

PyTorch gives a 3-D convolution in float32 to oneDNN only if its batch has two samples, or channels x depth x height
exceed 20480 (``ConvParams::use_mkldnn`` in ATen). A single small patch is unfolded instead, and takes up to fifteen
times as long. That is every patch that a small network predicts, and every modality that one sample of a batch has.
Two halves of an image are a batch of two.

Legend: B batch, C channels.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, pad

Network = TypeVar("Network", bound=nn.Module)

FAST_SIZE = 20480
"""Channels x depth x height above which PyTorch takes the fast path for a single sample."""

LEAST_PLANES = 8
"""Of the output along the axis that is cut; below, the overlap costs more than it gives."""


class SlabConv3d(nn.Conv3d):
    """``Conv3d``, its input cut into two overlapping slabs where that is faster. The same sums in another order."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, *spatial]``, as ``Conv3d``."""
        if not self._is_slow(x):
            return super().forward(x)
        axis = _longest_axis(x)
        padding = [int(each) for each in self.padding]
        edges = [0, 0] * 3
        edges[4 - 2 * axis] = edges[5 - 2 * axis] = padding[axis]  # F.pad counts from the last axis
        x, padding[axis] = pad(x, edges), 0
        stride, reach = self.stride[axis], self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
        planes = (x.shape[2 + axis] - reach) // stride + 1  # of the output
        half = (planes + 1) // 2
        firsts, length = (0, planes - half), (half - 1) * stride + reach
        slabs = torch.cat([x.narrow(2 + axis, first * stride, length) for first in firsts])
        made = conv3d(slabs, self.weight, self.bias, self.stride, padding, self.dilation)
        twice = 2 * half - planes  # of an odd number the plane in the middle is in both
        return torch.cat([made[:1], made[1:].narrow(2 + axis, twice, half - twice)], 2 + axis)

    def _is_slow(self, x: Tensor) -> bool:
        """Whether PyTorch would unfold it, and slabs of it are large enough."""
        if not x.is_cpu or type(x) is not Tensor or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return False
        if x.dim() != 5 or len(x) != 1 or x.shape[1] * x.shape[2] * x.shape[3] > FAST_SIZE or self.groups > 1:
            return False
        if self.padding_mode != "zeros" or isinstance(self.padding, str) or max(self.kernel_size) == 1:
            return False
        axis = _longest_axis(x)
        return x.shape[2 + axis] >= LEAST_PLANES * self.stride[axis]


def _longest_axis(x: Tensor) -> int:
    """Of three spatial ones; along it slabs overlap least."""
    return max(range(3), key=lambda axis: x.shape[2 + axis])


def in_slabs(network: Network) -> Network:
    """Let all 3-D convolutions of a network be :class:`SlabConv3d`; weights and their names stay."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = SlabConv3d
    return network
