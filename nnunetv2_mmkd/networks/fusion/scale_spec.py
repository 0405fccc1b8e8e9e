"""What a fusion block may know of a scale of the plan, and of a sample.

Legend: M modalities, A available modalities of a sample, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nnunetv2_mmkd.networks.streams import Streams

Own = Sequence[tuple[int, Tensor]]
"""The A available modalities of one sample in ascending order, each with its features ``[C, *spatial]``."""


@dataclass(frozen=True)
class ScaleSpec:
    """A scale of the planned network.

    Attributes:
        modalities: M.
        index: 0 is the largest.
        channels: C, of each modality's features and of what the decoder expects.
        size: of the maps at the planned patch size.
        heads: of the segmentation.
        exclusive: whether the heads are classes, one for each voxel (softmax), not regions (sigmoid).
        encoder: the planned encoder, for its kinds of layers.
    """

    modalities: int
    index: int
    channels: int
    size: tuple[int, ...]
    heads: int
    exclusive: bool
    encoder: Any

    def convolution(self, before: int, after: int, *, planned_kernel: bool = False, bias: bool = False) -> nn.Module:
        """A 1x1 convolution of the plan's dimension, or one with the scale's planned kernel; the size stays."""
        kernel = self.encoder.kernel_sizes[self.index] if planned_kernel else [1] * len(self.size)
        kernel = [kernel] * len(self.size) if isinstance(kernel, int) else list(kernel)
        layer: nn.Module = self.encoder.conv_op(
            before, after, kernel, padding=[edge // 2 for edge in kernel], bias=bias
        )
        return layer

    def norm_and_nonlinearity(self, channels: int) -> nn.Sequential:
        """What follows a convolution in the plan."""
        encoder, layers = self.encoder, []
        if encoder.norm_op is not None:
            layers.append(encoder.norm_op(channels, **(encoder.norm_op_kwargs or {})))
        if encoder.nonlin is not None:
            layers.append(encoder.nonlin(**(encoder.nonlin_kwargs or {})))
        return nn.Sequential(*layers)


def scale_specs(
    encoder: Any, patch_size: Sequence[int], modalities: int, heads: int, exclusive: bool = True
) -> tuple[ScaleSpec, ...]:
    """The scales of a planned encoder, largest first.

    Args:
        encoder: planned.
        patch_size: planned.
        modalities: M.
        heads: of the segmentation.
        exclusive: whether the heads are classes, not regions.
    """
    specs, size = [], tuple(int(edge) for edge in patch_size)
    for index, (channels, stride) in enumerate(zip(encoder.output_channels, encoder.strides, strict=True)):
        steps = [stride] * len(size) if isinstance(stride, int) else stride
        size = tuple(max(1, -(-edge // step)) for edge, step in zip(size, steps, strict=True))
        specs.append(ScaleSpec(modalities, index, int(channels), size, heads, exclusive, encoder))
    return tuple(specs)


def own_features(streams: Streams, sample: int, scale: int) -> list[tuple[int, Tensor]]:
    """What a sample has at a scale, as :data:`Own`. Features of missing modalities do not exist."""
    features = streams.scales[scale]
    return [(modality, features[row]) for row, (b, modality) in enumerate(streams.pairs) if b == sample]
