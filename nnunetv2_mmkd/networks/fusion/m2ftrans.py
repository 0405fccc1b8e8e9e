r"""M2FTrans's fusion: learned fusion tokens gather what the available modalities have.

Legend: M modalities, A available modalities of a sample, C channels, E width of a token, N tokens, H heads, V voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from nnunetv2_mmkd.networks.fusion.base import Fusion, run
from nnunetv2_mmkd.networks.fusion.masked_concat import MaskedConcat, MaskedProjection
from nnunetv2_mmkd.networks.fusion.scale_spec import Own, ScaleSpec, own_features
from nnunetv2_mmkd.networks.resize import linear_resize, nearest_resize
from nnunetv2_mmkd.networks.streams import Streams
from nnunetv2_mmkd.networks.transformers import (
    PositionalEncoding,
    TokenEmbedding,
    TokenProjection,
    TransformerBlock,
    as_maps,
    as_sequence,
    head_count,
)

CROSS_SCALES = 2
"""Scales, from the bottleneck, that are fused by cross-attention (released code)."""


@dataclass(frozen=True)
class M2FTransConfig:
    """Shape of M2FTrans's transformer.

    Attributes:
        depth: blocks (3 in the released code).
        width: E; None: as many as the bottleneck has channels (512 on a bottleneck of 128 channels in the released
            code; nnU-Net plans up to 320 or 512 channels there).
        expansion: width of the perceptrons as a multiple of E (4096 / 512 in the released code).
    """

    depth: int = 3
    width: int | None = None
    expansion: int = 8

    def __post_init__(self) -> None:
        for name, value in (("depth", self.depth), ("width", self.width or 1), ("expansion", self.expansion)):
            if value < 1:
                raise ValueError(f"M2FTrans: {name} must be at least 1, not {value}")


class M2FTransFusion(Fusion):
    """Masked attention of fusion tokens, spatial weights from it, cross-attention between channels.

    At the bottleneck the features of each available modality become tokens, as :class:`FusionTransformer` says. How
    much its first block looks at a place of a modality is a map by which the features of that modality are multiplied
    at all scales. The two deepest scales are then fused by :class:`ChannelCrossAttention`, asked by the fusion tokens
    and by the fused bottleneck; the others are :class:`~nnunetv2_mmkd.networks.fusion.masked_concat.MaskedConcat`.

    Args:
        places: the scales, largest first.
        config: of the transformer.

    References:
        Shi et al., M2FTrans: Modality-Masked Fusion Transformer for Incomplete Multi-Modality Brain Tumor Segmentation,
        IEEE JBHI 28(1), 2024.

    Deviations from the paper:
        The maps are scaled so that even attention leaves the features as they are, whatever the number of tokens and
        modalities (the released code sums). In the cross-attention channels are compared by their cosine, times a
        learned factor, so that it does not depend on the number of voxels. Encoders, decoder and widths are nnU-Net's
        plan. No dropout: nnU-Net plans none.
    """

    def __init__(self, places: Sequence[ScaleSpec], config: M2FTransConfig | None = None) -> None:
        super().__init__()
        self.config = config or M2FTransConfig()
        place = places[-1]
        self.transformer = FusionTransformer(place, self.config)
        self.project = TokenProjection(
            place.encoder.conv_op, self.transformer.width, place.channels, self.transformer.patch
        )
        deep = places[max(0, len(places) - CROSS_SCALES) :]
        self.skips = nn.ModuleList(MaskedConcat(place) for place in places[: len(places) - len(deep)])
        self.cross = nn.ModuleList(ChannelCrossAttention(place) for place in deep)
        self.rise = nn.ModuleList(here.convolution(below.channels, here.channels) for here, below in pairwise(deep))

    def supervised(self, streams: Streams, recomputed_scales: int = 0) -> tuple[list[Tensor], list[Tensor]]:
        """See :meth:`Fusion.supervised`: the skips, and no maps."""
        fused = [self._sample(streams, sample, recomputed_scales) for sample in range(len(streams.available))]
        return [torch.cat(scale) for scale in zip(*fused, strict=True)], []

    def _sample(self, streams: Streams, sample: int, recomputed_scales: int) -> list[Tensor]:
        """Skips of a sample, largest first."""
        scales = [own_features(streams, sample, scale) for scale in range(len(streams.scales))]
        tokens, looked_at = self.transformer(scales[-1])
        skips: list[Tensor] = []
        for scale in reversed(range(len(scales))):
            own, size = scales[scale], scales[scale][0][1].shape[1:]
            factors = [nearest_resize(each, size)[0, 0] for each in looked_at]
            depth = scale - len(self.skips)
            if depth < 0:
                block = partial(self.skips[scale], own, factors)
            elif depth == len(self.cross) - 1:
                block = partial(self.cross[depth], self.project(tokens, size), own, factors)
            else:
                asking = linear_resize(self.rise[depth](skips[-1]), size)
                block = partial(self.cross[depth], asking, own, factors)
            skips.append(run(block, scale < recomputed_scales))
        return skips[::-1]


class FusionTransformer(nn.Module):
    """Tokens of each modality attend to their own kind, fusion tokens to those of all available modalities, too.

    All go through the same blocks. The fusion tokens are learned, as many as a modality has.

    Args:
        place: the bottleneck.
        config: of the transformer.

    Attributes:
        width: E.
        patch: edges of a token's patch.
    """

    def __init__(self, place: ScaleSpec, config: M2FTransConfig) -> None:
        super().__init__()
        self.width = config.width or place.channels
        embed = [
            TokenEmbedding(place.encoder.conv_op, place.channels, self.width, place.size)
            for _ in range(place.modalities)
        ]
        self.patch = embed[0].patch
        self.embed = nn.ModuleList(embed)
        self.fusion_tokens = PositionalEncoding(self.width, embed[0].grid, std=1.0)
        self.blocks = nn.ModuleList(
            TransformerBlock(self.width, head_count(self.width), config.expansion * self.width)
            for _ in range(config.depth)
        )

    def forward(self, own: Own) -> tuple[Tensor, list[Tensor]]:
        """Transform the bottleneck of a sample.

        Args:
            own: the available modalities' ``[C, *spatial]``.

        Returns:
            the fusion tokens ``[1, E, *grid]``, and for each available modality how much the first block's fusion
            tokens look at its places, ``[1, 1, *grid]``, 1 where attention is even.
        """
        embedded = [self.embed[modality](features[None]) for modality, features in own]
        grid = embedded[0].shape[2:]
        modal = [as_sequence(each) for each in embedded]
        fusion = as_sequence(self.fusion_tokens.at(grid)).contiguous()  # no view of a parameter
        looked_at: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            context = torch.cat(modal, 1)
            if number + 1 < len(self.blocks):
                modal = [block(tokens)[0] for tokens in modal]
            fusion, attention = block(fusion, with_attention=number == 0, context=context)
            if attention is not None:  # [1, H, N, |A| N + N]
                share = attention.mean((1, 2)) * attention.shape[-1]
                cells = math.prod(grid)
                looked_at = [each.reshape(1, 1, *grid) for each in share[:, : cells * len(own)].split(cells, 1)]
        return as_maps(fusion, grid), looked_at


class ChannelCrossAttention(nn.Module):
    r"""Channels of what is asked for attend to the channels of the available modalities.

    In each of H groups of channels, with q from what is asked for, k and v from the modalities' features, rows of V
    voxels each,

    .. math:: \phi\Big(q_0 + \operatorname{softmax}_{m \in A,\ j}(\tau \cos(q_i, k_{m,j}))\, v + \sum_{m \in A} W_m f_m
              \Big)

    with q_0 what is asked for itself and phi the planned norm and nonlinearity.

    Args:
        place: the scale.
    """

    def __init__(self, place: ScaleSpec) -> None:
        super().__init__()
        channels = place.channels
        self.groups = head_count(channels)
        self.query = place.convolution(channels, channels)
        self.key = _per_modality(place)
        self.value = _per_modality(place)
        self.tau = nn.Parameter(torch.full((self.groups, 1, 1), 4.0))
        self.project = MaskedProjection(place.modalities, channels, channels)
        self.finish = place.norm_and_nonlinearity(channels)

    def forward(self, asking: Tensor, own: Own, factors: Sequence[Tensor]) -> Tensor:
        """Fuse the features of a sample.

        Args:
            asking: ``[1, C, *spatial]``.
            own: the available modalities' ``[C, *spatial]``.
            factors: for each of them a map ``[*spatial]`` that its features are multiplied by.

        Returns:
            ``[1, C, *spatial]``.
        """
        weighted = [
            (modality, features * factor.to(features.dtype))
            for (modality, features), factor in zip(own, factors, strict=True)
        ]
        query = self._grouped(self.query(asking)[0].flatten(1))
        key = torch.cat([self._grouped(self.key[m] @ features.flatten(1)) for m, features in weighted], 1)
        value = torch.cat([self._grouped(self.value[m] @ features.flatten(1)) for m, features in weighted], 1)
        with torch.autocast(query.device.type, enabled=False):
            cosines = normalize(query.float(), dim=2) @ normalize(key.float(), dim=2).transpose(1, 2)
            attention = (self.tau * cosines).softmax(2)
        attended = (attention.to(value.dtype) @ value).flatten(0, 1).reshape(asking.shape)
        fused: Tensor = self.finish(asking + attended + self.project(weighted))
        return fused

    def _grouped(self, rows: Tensor) -> Tensor:
        """``[C, V]`` -> ``[H, C / H, V]``."""
        return rows.unflatten(0, (self.groups, -1))


def _per_modality(place: ScaleSpec) -> nn.Parameter:
    """A matrix ``[C, C]`` for each modality, He-initialised for one of them."""
    weight = torch.empty(place.modalities, place.channels, place.channels)
    return nn.Parameter(weight.normal_(std=math.sqrt(2 / (1 + 1e-2**2) / place.channels)))
