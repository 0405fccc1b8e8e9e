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
from nnunetv2_mmkd.networks.streams import Fused, ModalityWeights, Streams
from nnunetv2_mmkd.networks.transformers import (
    PositionalEncoding,
    TokenEmbedding,
    TokenProjection,
    TransformerBlock,
    TransformerConfig,
    as_maps,
    as_sequence,
    head_count,
)

CROSS_SCALES = 2
"""Scales, from the bottleneck, that are fused by cross-attention (released code)."""


@dataclass(frozen=True)
class M2FTransConfig(TransformerConfig):
    """Shape of M2FTrans's transformer; the depth, 3, is the released code's."""

    depth: int = 3


class M2FTransFusion(Fusion):
    """Masked attention of fusion tokens, spatial weights from it, cross-attention between channels.

    At the bottleneck the features of each available modality become tokens (:class:`FusionTransformer`). How much its
    first block attends to a position of a modality is a map; it multiplies the features of that modality at all scales.
    The two deepest scales are then fused by :class:`ChannelCrossAttention`; the query is the fusion tokens, or the
    fused bottleneck. The others are :class:`~nnunetv2_mmkd.networks.fusion.masked_concat.MaskedConcat`.

    Args:
        scales: of the network, largest first.
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

    def __init__(self, scales: Sequence[ScaleSpec], config: M2FTransConfig | None = None) -> None:
        super().__init__()
        self.config = config or M2FTransConfig()
        bottleneck = scales[-1]
        self.transformer = FusionTransformer(bottleneck, self.config)
        self.project = TokenProjection(
            bottleneck.encoder.conv_op, self.transformer.width, bottleneck.channels, self.transformer.patch
        )
        deep = scales[max(0, len(scales) - CROSS_SCALES) :]
        self.skips = nn.ModuleList(MaskedConcat(scale) for scale in scales[: len(scales) - len(deep)])
        self.cross = nn.ModuleList(ChannelCrossAttention(scale) for scale in deep)
        self.rise = nn.ModuleList(here.convolution(below.channels, here.channels) for here, below in pairwise(deep))

    def forward(self, streams: Streams, *, weights: ModalityWeights | None = None, recomputed_scales: int = 0) -> Fused:
        """See :meth:`Fusion.forward`; no maps."""
        streams = streams.weighted(weights)
        fused = [self._sample(streams, sample, recomputed_scales) for sample in range(len(streams.available))]
        return Fused([torch.cat(scale) for scale in zip(*fused, strict=True)], [])

    def _sample(self, streams: Streams, sample: int, recomputed_scales: int) -> list[Tensor]:
        """Skips of a sample, largest first."""
        scales = [own_features(streams, sample, scale) for scale in range(len(streams.scales))]
        tokens, attention_maps = self.transformer(scales[-1])
        skips: list[Tensor] = []
        for scale in reversed(range(len(scales))):
            own, size = scales[scale], scales[scale][0][1].shape[1:]
            factors = [nearest_resize(each, size)[0, 0] for each in attention_maps]
            depth = scale - len(self.skips)
            if depth < 0:
                block = partial(self.skips[scale], own, factors)
            elif depth == len(self.cross) - 1:
                block = partial(self.cross[depth], self.project(tokens, size), own, factors)
            else:
                query = linear_resize(self.rise[depth](skips[-1]), size)
                block = partial(self.cross[depth], query, own, factors)
            skips.append(run(block, scale < recomputed_scales))
        return skips[::-1]


class FusionTransformer(nn.Module):
    """Tokens of each modality attend to their own kind, fusion tokens to those of all available modalities, too.

    All go through the same blocks. The fusion tokens are learned, as many as a modality has.

    Args:
        bottleneck: the smallest scale.
        config: of the transformer.

    Attributes:
        width: E.
        patch: edges of a token's patch.
    """

    def __init__(self, bottleneck: ScaleSpec, config: M2FTransConfig) -> None:
        super().__init__()
        self.width = config.width or bottleneck.channels
        embed = [
            TokenEmbedding(bottleneck.encoder.conv_op, bottleneck.channels, self.width, bottleneck.size)
            for _ in range(bottleneck.modalities)
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
            tokens attend to its positions, ``[1, 1, *grid]``, 1 where attention is even.
        """
        embedded = [self.embed[modality](features[None]) for modality, features in own]
        grid = embedded[0].shape[2:]
        modal = [as_sequence(each) for each in embedded]
        fusion = as_sequence(self.fusion_tokens.at(grid)).contiguous()  # no view of a parameter
        attention_maps: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            context = torch.cat(modal, 1)
            if number + 1 < len(self.blocks):
                modal = [block(tokens)[0] for tokens in modal]
            fusion, attention = block(fusion, with_attention=number == 0, context=context)
            if attention is not None:  # [1, H, N, |A| N + N]
                share = attention.mean((1, 2)) * attention.shape[-1]
                cells = math.prod(grid)
                attention_maps = [each.reshape(1, 1, *grid) for each in share[:, : cells * len(own)].split(cells, 1)]
        return as_maps(fusion, grid), attention_maps


class ChannelCrossAttention(nn.Module):
    r"""Channels of the query attend to the channels of the available modalities.

    In each of H groups of channels, with q from the query, k and v from the modalities' features, rows of V
    voxels each,

    .. math:: \phi\Big(q_0 + \operatorname{softmax}_{m \in A,\ j}(\tau \cos(q_i, k_{m,j}))\, v + \sum_{m \in A} W_m f_m
              \Big)

    with q_0 the query itself and phi the planned norm and nonlinearity.

    Args:
        scale: where it is.
    """

    def __init__(self, scale: ScaleSpec) -> None:
        super().__init__()
        channels = scale.channels
        self.groups = head_count(channels)
        self.query = scale.convolution(channels, channels)
        self.key = _per_modality(scale)
        self.value = _per_modality(scale)
        self.tau = nn.Parameter(torch.full((self.groups, 1, 1), 4.0))
        self.project = MaskedProjection(scale.modalities, channels, channels)
        self.finish = scale.norm_and_nonlinearity(channels)

    def forward(self, query: Tensor, own: Own, factors: Sequence[Tensor]) -> Tensor:
        """Fuse the features of a sample.

        Args:
            query: ``[1, C, *spatial]``.
            own: the available modalities' ``[C, *spatial]``.
            factors: for each of them a map ``[*spatial]`` that its features are multiplied by.

        Returns:
            ``[1, C, *spatial]``.
        """
        weighted = [
            (modality, features * factor.to(features.dtype))
            for (modality, features), factor in zip(own, factors, strict=True)
        ]
        rows = self._grouped(self.query(query)[0].flatten(1))
        key = torch.cat([self._grouped(self.key[m] @ features.flatten(1)) for m, features in weighted], 1)
        value = torch.cat([self._grouped(self.value[m] @ features.flatten(1)) for m, features in weighted], 1)
        with torch.autocast(rows.device.type, enabled=False):
            cosines = normalize(rows.float(), dim=2) @ normalize(key.float(), dim=2).transpose(1, 2)
            attention = (self.tau * cosines).softmax(2)
        attended = (attention.to(value.dtype) @ value).flatten(0, 1).reshape(query.shape)
        fused: Tensor = self.finish(query + attended + self.project(weighted))
        return fused

    def _grouped(self, rows: Tensor) -> Tensor:
        """``[C, V]`` -> ``[H, C / H, V]``."""
        result: Tensor = rows.unflatten(0, (self.groups, -1))
        return result


def _per_modality(scale: ScaleSpec) -> nn.Parameter:
    """A matrix ``[C, C]`` for each modality, He-initialised for one of them."""
    weight = torch.empty(scale.modalities, scale.channels, scale.channels)
    return nn.Parameter(weight.normal_(std=math.sqrt(2 / (1 + 1e-2**2) / scale.channels)))
