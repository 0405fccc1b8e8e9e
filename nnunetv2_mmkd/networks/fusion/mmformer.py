"""mmFormer's fusion: a transformer for each modality, one across them, masked concatenation at the skips.

Legend: B batch, M modalities, A available modalities of a sample, C channels, E width of a token, N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.networks.fusion.base import Fusion, run
from nnunetv2_mmkd.networks.fusion.masked_concat import MaskedConcat
from nnunetv2_mmkd.networks.fusion.scale_spec import Own, ScaleSpec, own_features
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


@dataclass(frozen=True)
class MMFormerConfig(TransformerConfig):
    """Shape of mmFormer's transformers; the depth of each transformer, 1, is the released code's."""


class MMFormerFusion(Fusion):
    r"""Intra- and inter-modal transformers at the bottleneck, masked concatenation everywhere else.

    At the bottleneck the features of each available modality become tokens with learned positions, which its own
    transformer relates to each other (long-range context within a modality); the tokens of all available modalities,
    with positions that tell modality and position, then go through one transformer as a single sequence of
    :math:`|A| N` tokens; and

    .. math:: \phi\Big(\sum_{m \in A} T_m t_m\Big)

    with T_m back from tokens to the map and phi the planned norm and nonlinearity, is what the decoder gets. The other
    scales are :class:`~nnunetv2_mmkd.networks.fusion.masked_concat.MaskedConcat`.

    Args:
        scales: of the network, largest first.
        config: of the transformers.

    References:
        Zhang et al., mmFormer: Multimodal Medical Transformer for Incomplete Multimodal Learning of Brain Tumor
        Segmentation, MICCAI 2022.

    Deviations from the paper:
        The tokens of a missing modality do not exist, where the paper sets them to zero and lets them be attended to.
        Skips are fused by one 1x1 convolution with norm and nonlinearity (the released code has three convolutions):
        the planned decoder convolves them next. Encoders, decoder and depth are nnU-Net's plan. No dropout: nnU-Net
        plans none.
    """

    def __init__(self, scales: Sequence[ScaleSpec], config: MMFormerConfig | None = None) -> None:
        super().__init__()
        self.config = config or MMFormerConfig()
        self.skips = nn.ModuleList(MaskedConcat(scale) for scale in scales[:-1])
        bottleneck = scales[-1]
        conv_op, channels, modalities = bottleneck.encoder.conv_op, bottleneck.channels, bottleneck.modalities
        width = self.config.width or channels
        embed = [TokenEmbedding(conv_op, channels, width, bottleneck.size) for _ in range(modalities)]
        patch, grid = embed[0].patch, embed[0].grid
        self.embed = nn.ModuleList(embed)
        self.intra = nn.ModuleList(_transformer(width, self.config) for _ in range(modalities))
        self.position = nn.ModuleList(PositionalEncoding(width, grid) for _ in range(modalities))
        self.inter = _transformer(width, self.config)
        self.project = nn.ModuleList(TokenProjection(conv_op, width, channels, patch) for _ in range(modalities))
        self.finish = bottleneck.norm_and_nonlinearity(channels)

    def forward(self, streams: Streams, *, weights: ModalityWeights | None = None, recomputed_scales: int = 0) -> Fused:
        """See :meth:`Fusion.forward`; no maps."""
        streams = streams.weighted(weights)
        samples = range(len(streams.available))
        skips = []
        for scale, block in enumerate(self.skips):
            owns = [own_features(streams, sample, scale) for sample in samples]
            skips.append(torch.cat([run(partial(block, own), scale < recomputed_scales) for own in owns]))
        last = len(self.skips)
        bottleneck = [self._bottleneck(own_features(streams, sample, last)) for sample in samples]
        return Fused([*skips, torch.cat(bottleneck)], [])

    def _bottleneck(self, own: Own) -> Tensor:
        """The fused bottleneck of a sample, ``[1, C, *spatial]``."""
        tokens, size = [], own[0][1].shape[1:]
        for modality, features in own:
            embedded = self.embed[modality](features[None])
            grid = embedded.shape[2:]
            own_tokens = _run(self.intra[modality], as_sequence(embedded))
            tokens.append(as_sequence(self.position[modality](as_maps(own_tokens, grid))))
        related = _run(self.inter, torch.cat(tokens, 1)).chunk(len(own), 1)
        maps = [
            self.project[modality](as_maps(part, grid), size) for (modality, _), part in zip(own, related, strict=True)
        ]
        fused: Tensor = self.finish(torch.stack(maps).sum(0))
        return fused


def _transformer(width: int, config: MMFormerConfig) -> nn.ModuleList:
    return nn.ModuleList(
        TransformerBlock(width, head_count(width), config.expansion * width) for _ in range(config.depth)
    )


def _run(blocks: nn.Module, tokens: Tensor) -> Tensor:
    assert isinstance(blocks, nn.ModuleList)
    for block in blocks:
        tokens, _ = block(tokens)
    return tokens
