"""Small 3-D convolutions on a CPU, in slabs, so that PyTorch takes its fast path.

PyTorch gives a 3-D convolution to oneDNN only if its batch has two samples, or channels x depth x height exceed 20480
(``ConvParams::use_mkldnn`` in ATen). A single small patch is unfolded instead, and takes up to fifteen times as long.
That is every patch of a prediction, and every modality that one sample of a batch has. Two halves of an image are a
batch of two. Without AVX-512, oneDNN unfolds for the weights' gradient, too: slabs that fit the cache are quicker.

Legend: B batch, C channels, D extent along the axis that is cut.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, pad

FAST_SIZE = 20480
"""Channels x depth x height above which PyTorch takes the fast path for a single sample."""

MOST_PLANES = 16
"""Of the output, in a slab in training on a CPU without AVX-512."""


class SlabConv3d(nn.Conv3d):
    """``Conv3d``, its input cut into overlapping slabs where that is faster. The same sums in another order."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, *spatial]``, as ``Conv3d``."""
        slabs = self._slabs(x)
        return super().forward(x) if slabs < 2 else self._in_slabs(x, slabs)

    def _slabs(self, x: Tensor) -> int:
        """Into how many slabs an input is to be cut; 1: it stays whole."""
        if not x.is_cpu or type(x) is not Tensor or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return 1
        if x.dim() != 5 or max(self.kernel_size) == 1 or self.padding_mode != "zeros" or isinstance(self.padding, str):
            return 1
        planes = self._planes(x, self._axis(x))
        least = 2 if len(x) == 1 and x.shape[1] * x.shape[2] * x.shape[3] <= FAST_SIZE and self.groups == 1 else 1
        if torch.is_grad_enabled() and torch.backends.cpu.get_cpu_capability() == "AVX2":
            least = max(least, -(-planes // MOST_PLANES))
        return min(least, planes)

    def _axis(self, x: Tensor) -> int:
        """The longest spatial axis, along which slabs overlap least."""
        return max(range(3), key=lambda axis: x.shape[2 + axis])

    def _reach(self, axis: int) -> int:
        """Voxels of the input that an output voxel sees along an axis."""
        return self.dilation[axis] * (self.kernel_size[axis] - 1) + 1

    def _planes(self, x: Tensor, axis: int) -> int:
        """Extent of the output along an axis."""
        padded = x.shape[2 + axis] + 2 * self._padding()[axis]
        return max(0, padded - self._reach(axis)) // self.stride[axis] + 1

    def _padding(self) -> list[int]:
        """Of each axis; one that is called by name has been left to ``Conv3d``."""
        return [int(each) for each in self.padding]

    def _in_slabs(self, x: Tensor, slabs: int) -> Tensor:
        axis = self._axis(x)
        planes, stride, padding = self._planes(x, axis), self.stride[axis], self._padding()
        edges = [0, 0] * 3
        edges[2 * (2 - axis)] = edges[2 * (2 - axis) + 1] = padding[axis]  # F.pad counts from the last axis
        x, padding[axis] = pad(x, edges), 0
        height = -(-planes // slabs)
        firsts = [*range(0, planes - height, height), planes - height]  # the last one reaches back
        length = (height - 1) * stride + self._reach(axis)
        cut = torch.cat([x.narrow(2 + axis, first * stride, length) for first in firsts])
        made = conv3d(cut, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        parts = list(made.chunk(len(firsts)))
        again = firsts[-2] + height - firsts[-1]
        parts[-1] = parts[-1].narrow(2 + axis, again, height - again)
        return torch.cat(parts, 2 + axis)


def in_slabs(network: nn.Module) -> nn.Module:
    """Let all 3-D convolutions of a network be :class:`SlabConv3d`; weights and their names stay."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = SlabConv3d
    return network
