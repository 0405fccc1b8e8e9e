r"""SFusion: the available modalities' tokens attend to each other, then a softmax over modalities weighs the features.

Legend: A available modalities of a sample, C channels, N tokens of a modality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, avg_pool2d, avg_pool3d

from nnunetv2_mmkd.networks.fusion.base import FusionOfScales
from nnunetv2_mmkd.networks.fusion.scale_spec import Own, ScaleSpec
from nnunetv2_mmkd.networks.transformers import (
    PositionalEncoding,
    TokenProjection,
    TransformerBlock,
    as_maps,
    as_sequence,
    head_count,
    token_grid,
)

POOL: Mapping[int, Any] = {1: avg_pool1d, 2: avg_pool2d, 3: avg_pool3d}


@dataclass(frozen=True)
class SFusionConfig:
    """Shape of SFusion's transformers, the released code's.

    Attributes:
        depth: blocks at each scale.
        expansion: width of the perceptrons as a multiple of C.
        tokens: at most so many along an axis.
    """

    depth: int = 8
    expansion: int = 4
    tokens: int = 8

    def __post_init__(self) -> None:
        for name in ("depth", "expansion", "tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"SFusion: {name} must be at least 1, not {getattr(self, name)}")


class SFusion(FusionOfScales):
    """:class:`ModalAttention` at every scale, largest first.

    Args:
        scales: of the network, largest first.
        config: of the transformers.

    References:
        Liu et al., SFusion: Self-attention Based N-to-One Multimodal Fusion Block, MICCAI 2023.

    Deviations from the paper:
        See :class:`ModalAttention`. Encoders and decoder are nnU-Net's plan; no dropout, as nnU-Net plans none.
    """

    def __init__(self, scales: Sequence[ScaleSpec], config: SFusionConfig | None = None) -> None:
        super().__init__(ModalAttention(scale, config or SFusionConfig()) for scale in scales)


class ModalAttention(nn.Module):
    r"""Correlations of the modalities' tokens, then weights of the modalities for each channel and voxel.

    The features of each available modality are averaged over patches, each a token of C channels; all |A| N tokens go
    through one transformer as a single sequence; back on the map, t_m, they decide the weights:

    .. math:: a_m = \frac{\exp t_m}{\sum_{n \in A} \exp t_n}, \qquad \sum_{m \in A} a_m \odot f_m

    Nothing is made up for a missing modality, and a modality alone passes as it is. Layer norms come before attention
    and perceptron, as in the paper.

    Args:
        scale: where it is.
        config: of the transformer.

    Deviations from the paper:
        The released code's positions, a sinusoid, count through the whole sequence, so that those of a modality depend
        on which others there are; here each modality has learned positions of its own. Heads have about 32
        channels (4 heads in the released code). Patches have whole voxels: 8 tokens an axis where the size can be
        divided by 8, fewer elsewhere.
    """

    def __init__(self, scale: ScaleSpec, config: SFusionConfig) -> None:
        super().__init__()
        channels = scale.channels
        self.patch = tuple(-(-edge // config.tokens) for edge in scale.size)
        grid = token_grid(scale.size, self.patch)
        self.position = nn.ModuleList(PositionalEncoding(channels, grid) for _ in range(scale.modalities))
        self.blocks = nn.ModuleList(
            TransformerBlock(channels, head_count(channels), config.expansion * channels) for _ in range(config.depth)
        )
        self.rise = TokenProjection(scale.encoder.conv_op, channels, channels, self.patch)

    def forward(self, own: Own) -> Tensor:
        """Features of a sample ``[C, *spatial]`` each -> ``[1, C, *spatial]``."""
        features = torch.stack([each for _, each in own])
        weights = self.weights(own).to(features.dtype)
        return (weights * features).sum(0, keepdim=True)  # the fusion

    def weights(self, own: Own) -> Tensor:
        """a, ``[A, C, *spatial]``, in float32: sums to 1 over the modalities."""
        size = own[0][1].shape[1:]
        tokens = []
        for modality, features in own:
            pooled = POOL[len(size)](features[None], self.patch, self.patch, 0, True, False)
            placed = self.position[modality](pooled)
            tokens.append(as_sequence(placed))
        sequence = torch.cat(tokens, 1)
        for block in self.blocks:
            sequence, _ = block(sequence)
        grid = placed.shape[2:]
        parts = [self.rise(as_maps(part, grid), size) for part in sequence.chunk(len(own), 1)]
        return torch.cat(parts).float().softmax(0)  # a
