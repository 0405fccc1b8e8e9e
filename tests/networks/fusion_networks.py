"""Small multi-stream networks for the tests of the fusions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import Tensor, nn

from nnunetv2_mmkd.networks.fusion.scale_spec import ScaleSpec, scale_specs
from nnunetv2_mmkd.networks.fusion.shared_specific import SharedSpecificFusion
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet
from nnunetv2_mmkd.networks.shared_specific import SharedSpecificUNet
from nnunetv2_mmkd.networks.streams import Streams

NAMES = ("t1", "t1ce", "t2", "flair")
KINDS: dict[int, tuple[type, type]] = {
    2: (nn.Conv2d, nn.InstanceNorm2d),
    3: (nn.Conv3d, nn.InstanceNorm3d),
}


def planned(dimension: int = 2, heads: int = 2, features: Sequence[int] = (4, 6, 8)) -> Any:
    """A plain U-Net as nnU-Net plans it, with one input channel."""
    convolution, norm = KINDS[dimension]
    stages = len(features)
    return PlainConvUNet(
        1, stages, list(features), convolution, 3, [1] + [2] * (stages - 1), 1, heads, 1, True, norm,
        {"affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}, deep_supervision=True,
    )  # fmt: skip


def specs(
    dimension: int = 2, size: int = 16, modalities: int = 3, heads: int = 2, exclusive: bool = True, **how: Any
) -> tuple[ScaleSpec, ...]:
    """The scales of a planned network."""
    return scale_specs(planned(dimension, heads, **how).encoder, [size] * dimension, modalities, heads, exclusive)


def network(
    fusion: Callable[..., Any],
    dimension: int = 2,
    size: int = 16,
    modalities: int = 3,
    heads: int = 2,
    exclusive: bool = True,
    **how: Any,
) -> MultiStreamUNet:
    """A multi-stream network with separate streams; ShaSpec's has a shared one as well."""
    nets = [planned(dimension, heads, **how) for _ in range(modalities)]
    scales = scale_specs(nets[0].encoder, [size] * dimension, modalities, heads, exclusive)
    if fusion is SharedSpecificFusion:
        shared = planned(dimension, heads, **how)
        return SharedSpecificUNet(
            shared.encoder, [net.encoder for net in nets], fusion(scales), shared.decoder, NAMES[:modalities]
        )
    return MultiStreamUNet([net.encoder for net in nets], fusion(scales), nets[0].decoder, NAMES[:modalities])


def everything(net: MultiStreamUNet, x: Tensor, available: Tensor) -> list[Tensor]:
    """Skips, region maps and outputs."""
    skips, maps = net.fuse(net.encode(x, available))
    outputs = net.decode(skips)
    return [*skips, *maps, *(outputs if isinstance(outputs, list) else [outputs])]


def random_streams(scales: Sequence[ScaleSpec], available: Tensor) -> Streams:
    """Noise instead of features, specific ones included."""
    from nnunetv2_mmkd.networks.streams import pairs_of

    pairs = pairs_of(available)
    return Streams(
        available,
        pairs,
        tuple(tuple(torch.randn(scale.channels, *scale.size) for _ in pairs) for scale in scales),
        tuple(torch.randn(scales[-1].channels, *scales[-1].size) for _ in pairs),
    )
