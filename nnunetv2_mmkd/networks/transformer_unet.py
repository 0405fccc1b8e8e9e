"""MST-KDNet's network: the planned U-Net with a multi-scale transformer and a style branch at its bottleneck.

Legend: B batch, M modalities, C channels of the bottleneck, C' of the scale above it, E width of a token, H heads,
N tokens, K heads of the segmentation, T taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim, get_matching_convtransp
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d, adaptive_max_pool3d

from nnunetv2_mmkd.networks.decoder import run_decoder
from nnunetv2_mmkd.networks.masking import resolve, zero_missing
from nnunetv2_mmkd.networks.transformers import TappedTransformer, head_count, token_patch

TAPS = 4
BLOCKS_PER_STAGE = 2
"""Twelve blocks in a network of six stages, as in the released code."""


@dataclass(frozen=True)
class Trace:
    """A forward pass with what MST-KDNet distils from it.

    Attributes:
        output: logits ``[B, K, *spatial]`` or the deep supervision list of them, largest first.
        attention: A of Eq. (1) at the T taps, ``[B, H, N, N]`` each.
        levels: z of Eq. (4), maps ``[B, E, ...]``: the deepest tap as it is, then the T - 1 merges.
        encoder: f_enc of Eq. (10), ``[B, C', *bottleneck]``.
        transformer: f_t, ``[B, C, *bottleneck]``.
        decoder: f_dec, ``[B, C', *bottleneck]``.
        fused: f_enc&t of Eq. (9), the decoder's input, ``[B, C, *bottleneck]``.
    """

    output: Tensor | list[Tensor]
    attention: tuple[Tensor, ...]
    levels: tuple[Tensor, ...]
    encoder: Tensor
    transformer: Tensor
    decoder: Tensor
    fused: Tensor

    @property
    def logits(self) -> Tensor:
        """The largest output."""
        return self.output[0] if isinstance(self.output, list) else self.output


class MultiScaleMerge(nn.Module):
    """UNETR's way back: the deepest tap rises to the size of the feature map, meeting a shallower tap at each step.

    Args:
        encoder: the planned encoder, for its kind of convolutions and norms.
        width: E.
        patch: what has to be undone; powers of two up to 2^(taps - 1).
        taps: T.
    """

    def __init__(self, encoder: Any, width: int, patch: Sequence[int], taps: int) -> None:
        super().__init__()
        transposed = get_matching_convtransp(encoder.conv_op)
        left, reached = list(patch), [1] * len(patch)
        self.rise, self.skip, self.merge = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for _ in range(taps - 1):
            step = tuple(2 if edge > 1 else 1 for edge in left)
            left = [edge // factor for edge, factor in zip(left, step, strict=True)]
            reached = [edge * factor for edge, factor in zip(reached, step, strict=True)]
            self.rise.append(transposed(width, width, step, step))
            self.skip.append(
                nn.Sequential(
                    _convolutions(encoder, width, width), transposed(width, width, tuple(reached), tuple(reached))
                )
            )
            self.merge.append(_convolutions(encoder, 2 * width, width))

    def forward(self, taps: Sequence[Tensor]) -> list[Tensor]:
        """Taps, shallowest first -> the deepest one and the T - 1 merges, the last of the feature map's size."""
        levels = [taps[-1]]
        for rise, skip, merge, tap in zip(self.rise, self.skip, self.merge, reversed(taps[:-1]), strict=True):
            levels.append(merge(torch.cat([rise(levels[-1]), skip(tap)], 1)))
        return levels


class TransformerUNet(nn.Module):
    """The planned U-Net; at its bottleneck a multi-scale transformer and the features of the scale above join.

    The bottleneck b becomes tokens; what :class:`MultiScaleMerge` makes of them is added to it, f_t. The scale above,
    max-pooled to the same size, is f_enc. A 1x1 convolution of both, f_enc&t, is what the planned decoder gets in the
    place of b. The channels of missing modalities are zero.

    Args:
        encoder: the planned encoder for M channels.
        decoder: the planned decoder.
        modalities: names of the channels.
        bottleneck: size of the bottleneck at the planned patch size.

    References:
        Zhu et al., MST-KDNet, §2.1, §2.4.

    Deviations from the paper:
        Its U-Net has three downsamplings; this one as many as nnU-Net planned, so tokens are patches of the planned
        bottleneck (:func:`~nnunetv2_mmkd.networks.transformers.token_patch`), as wide as it has channels, and the
        depth is two blocks a stage. No dropout: nnU-Net plans none, and its noise would be distilled.
    """

    def __init__(self, encoder: Any, decoder: Any, modalities: Sequence[str], bottleneck: Sequence[int]) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        above, channels = encoder.output_channels[-2:]
        patch = token_patch(bottleneck)
        grid = [length // edge for length, edge in zip(bottleneck, patch, strict=True)]
        self.encoder = encoder
        self.transformer = TappedTransformer(
            encoder.conv_op,
            channels,
            grid,
            patch,
            depth=max(TAPS, BLOCKS_PER_STAGE * len(encoder.output_channels)),
            taps=TAPS,
            width=channels,
            heads=head_count(channels),
        )
        self.multi_scale = MultiScaleMerge(encoder, channels, patch, TAPS)
        self.project = encoder.conv_op(channels, channels, 1)
        self.fuse_style = encoder.conv_op(above + channels, channels, 1)
        for module in (self.multi_scale, self.project, self.fuse_style):
            module.apply(InitWeights_He(1e-2))
        self.decoder = decoder

    @property
    def fused_channels(self) -> int:
        """Channels of f_enc&t."""
        return int(self.encoder.output_channels[-1])

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        result: int = convert_conv_op_to_dim(self.encoder.conv_op)
        return result

    def forward(self, x: Tensor, available: Tensor | None = None) -> Tensor | list[Tensor]:
        """Segment with the available modalities.

        Args:
            x: ``[B, M, *spatial]``.
            available: bool ``[B, M]`` or ``[M]``; None: the environment variable, else detection.

        Returns:
            logits ``[B, K, *spatial]``, or the deep supervision list of them, largest first.
        """
        skips = list(self.encoder(zero_missing(x, resolve(x, available, self.modalities))))
        taps = self.transformer(skips[-1])
        _, _, skips[-1] = self._bottleneck(skips, self.multi_scale(taps.tokens))
        result: Tensor | list[Tensor] = self.decoder(skips)
        return result

    def trace(self, x: Tensor, available: Tensor | None = None) -> Trace:
        """:meth:`forward` with all that is distilled."""
        skips = list(self.encoder(zero_missing(x, resolve(x, available, self.modalities))))
        taps = self.transformer(skips[-1], with_attention=True)
        levels = self.multi_scale(taps.tokens)
        encoder, transformer, skips[-1] = self._bottleneck(skips, levels)
        outputs, features = run_decoder(self.decoder, skips)
        output = outputs if self.decoder.deep_supervision else outputs[0]
        decoder = _max_pool(features[0], transformer.shape[2:])
        return Trace(output, taps.attention, tuple(levels), encoder, transformer, decoder, skips[-1])

    def _bottleneck(self, skips: Sequence[Tensor], levels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """f_enc, f_t and f_enc&t."""
        transformer = skips[-1] + self.project(levels[-1])
        encoder = _max_pool(skips[-2], transformer.shape[2:])
        return encoder, transformer, self.fuse_style(torch.cat([encoder, transformer], 1))


def _convolutions(encoder: Any, before: int, after: int) -> StackedConvBlocks:
    """One planned convolution with norm and nonlinearity."""
    return StackedConvBlocks(
        1,
        encoder.conv_op,
        before,
        after,
        encoder.kernel_sizes[-1],
        1,
        encoder.conv_bias,
        encoder.norm_op,
        encoder.norm_op_kwargs,
        encoder.dropout_op,
        encoder.dropout_op_kwargs,
        encoder.nonlin,
        encoder.nonlin_kwargs,
    )


def _max_pool(features: Tensor, size: torch.Size) -> Tensor:
    pool: Any = {2: adaptive_max_pool2d, 3: adaptive_max_pool3d}[len(size)]
    result: Tensor = pool(features, tuple(size))
    return result
