"""Transformers on token grids of any size, in two or three dimensions.

Legend: B batch, C channels, E width of a token, H heads, N tokens, T taps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp
from torch import Tensor, nn
from torch.nn.functional import pad

from nnunetv2_mmkd.networks.resize import linear_resize

LARGEST_PATCH = 4
LEAST_TOKENS = 4
HEAD_WIDTH = 32


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of a fusion's transformers.

    Attributes:
        depth: blocks of each.
        width: E; None: as many as the bottleneck has channels (512 on a bottleneck of 128 channels in the released
            codes; nnU-Net plans up to 320 or 512 channels there).
        expansion: width of the perceptrons as a multiple of E (4096 / 512 in the released codes).
    """

    depth: int = 1
    width: int | None = None
    expansion: int = 8

    def __post_init__(self) -> None:
        for name, value in (("depth", self.depth), ("width", self.width or 1), ("expansion", self.expansion)):
            if value < 1:
                raise ValueError(f"{type(self).__name__}: {name} must be at least 1, not {value}")


def token_patch(size: Sequence[int]) -> tuple[int, ...]:
    """Edges of the patch that becomes a token: the largest power of two up to 4 that leaves four tokens on an axis.

    A feature map of 20 x 24 x 16 gets patches of 4 and 120 tokens (MST-KDNet's released code), nnU-Net's usual
    bottlenecks of 4 to 7 cells an axis get a token per cell.
    """
    edges = []
    for length in size:
        edge = LARGEST_PATCH
        while edge > 1 and (length % edge or length // edge < LEAST_TOKENS):
            edge //= 2
        edges.append(edge)
    return tuple(edges)


def token_grid(size: Sequence[int], patch: Sequence[int]) -> tuple[int, ...]:
    """Tokens per axis: as many patches as cover the size."""
    return tuple(-(-length // edge) for length, edge in zip(size, patch, strict=True))


def head_count(width: int) -> int:
    """Number of heads of about 32 channels each, at least two where the width can be divided."""
    heads = max(2, width // HEAD_WIDTH)
    while width % heads:
        heads -= 1
    return heads


def tapped_blocks(depth: int, taps: int) -> tuple[int, ...]:
    """The blocks, counted from 1, after which tokens are taken out: evenly spaced, the last one among them.

    Raises:
        ValueError: fewer blocks than taps.
    """
    if depth < taps:
        raise ValueError(f"a transformer of {depth} blocks cannot have {taps} taps")
    return tuple(math.ceil(tap * depth / taps) for tap in range(1, taps + 1))


class PositionalEncoding(nn.Module):
    """Learned positions of a token grid; another grid gets them interpolated.

    Args:
        width: E.
        grid: tokens per axis.
        std: of the initial values.
    """

    def __init__(self, width: int, grid: Sequence[int], std: float = 0.02) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(1, width, *grid))
        nn.init.trunc_normal_(self.positions, std=std, a=min(-2.0, -2 * std), b=max(2.0, 2 * std))

    def at(self, grid: Sequence[int]) -> Tensor:
        """The positions on a grid, ``[1, E, *grid]``."""
        return linear_resize(self.positions, grid)

    def forward(self, tokens: Tensor) -> Tensor:
        """Add the positions: ``[B, E, *grid]`` -> the same."""
        return tokens + self.at(tokens.shape[2:])


class TokenEmbedding(nn.Module):
    """A feature map cut into patches, a token each (:func:`token_patch`), with learned positions.

    Args:
        conv_op: convolution of the map's dimension.
        channels: C.
        width: E.
        size: of the map at the planned patch size. Another size is padded with zeros to whole patches.

    Attributes:
        patch: edges of a token's patch.
        grid: tokens per axis at the planned patch size.
    """

    def __init__(self, conv_op: Any, channels: int, width: int, size: Sequence[int]) -> None:
        super().__init__()
        self.patch = token_patch(size)
        self.grid = token_grid(size, self.patch)
        self.embedding = conv_op(channels, width, self.patch, self.patch)
        self.position = PositionalEncoding(width, self.grid)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, C, *spatial]`` -> ``[B, E, *grid]``."""
        size = features.shape[2:]
        whole = [edge * cells for edge, cells in zip(self.patch, token_grid(size, self.patch), strict=True)]
        if tuple(size) != tuple(whole):
            ends = [(0, total - part) for total, part in zip(whole, size, strict=True)]
            features = pad(features, [edge for axis in reversed(ends) for edge in axis])
        tokens: Tensor = self.position(self.embedding(features))
        return tokens


class TokenProjection(nn.Module):
    """The way back from tokens to a feature map: a transposed convolution without bias.

    Args:
        conv_op: convolution of the map's dimension.
        width: E.
        channels: C.
        patch: edges of a token's patch.
    """

    def __init__(self, conv_op: Any, width: int, channels: int, patch: Sequence[int]) -> None:
        super().__init__()
        self.rise = get_matching_convtransp(conv_op=conv_op)(width, channels, tuple(patch), tuple(patch), bias=False)

    def forward(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        """``[B, E, *grid]`` -> ``[B, C, *size]``; what was padded is cut off."""
        maps: Tensor = self.rise(tokens)
        inside: tuple[Any, ...] = (..., *(slice(0, edge) for edge in size))
        return maps[inside]


def as_sequence(maps: Tensor) -> Tensor:
    """``[B, E, *grid]`` -> ``[B, N, E]``."""
    return maps.flatten(2).transpose(1, 2)


def as_maps(tokens: Tensor, grid: Sequence[int]) -> Tensor:
    """``[B, N, E]`` -> ``[B, E, *grid]``."""
    result: Tensor = tokens.transpose(1, 2).unflatten(2, tuple(grid))
    return result


class TransformerBlock(nn.Module):
    r"""Self-attention and a two-layer perceptron, each after a layer norm and added to what came in.

    .. math:: A = \operatorname{softmax}(q k^\top / \sqrt{E / H})

    Args:
        width: E.
        heads: H, divides E.
        hidden: width of the perceptron.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_perceptron = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(
        self, tokens: Tensor, with_attention: bool = False, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Transform tokens.

        Args:
            tokens: ``[B, N, E]``.
            with_attention: whether to return the attention probabilities.
            context: ``[B, N', E]``: tokens that are attended to as well, before the others, and not transformed.

        Returns:
            tokens ``[B, N, E]`` and A ``[B, H, N, N' + N]`` (rows are queries and sum to one) or None.
        """
        normed = self.norm_attention(tokens)
        known = normed if context is None else torch.cat([self.norm_attention(context), normed], 1)
        attended, attention = self.attention(
            normed, known, known, need_weights=with_attention, average_attn_weights=False
        )
        tokens = tokens + attended
        return tokens + self.perceptron(self.norm_perceptron(tokens)), attention


class Tapped(NamedTuple):
    """What a transformer yields at its taps, shallowest first.

    Attributes:
        tokens: T maps ``[B, E, *grid]``.
        attention: T times ``[B, H, N, N]``; empty if not asked for.
    """

    tokens: tuple[Tensor, ...]
    attention: tuple[Tensor, ...]


class TappedTransformer(nn.Module):
    """A feature map cut into patches, a token each, and transformed, with tokens taken out at several depths.

    Args:
        conv_op: convolution of the map's dimension.
        channels: C.
        grid: tokens per axis at the planned size.
        patch: edges of a token's patch.
        depth: number of blocks.
        taps: T.
        width: E.
        heads: H.
    """

    def __init__(
        self,
        conv_op: Any,
        channels: int,
        grid: Sequence[int],
        patch: Sequence[int],
        *,
        depth: int,
        taps: int,
        width: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.embedding = conv_op(channels, width, tuple(patch), tuple(patch))
        self.position = PositionalEncoding(width, grid)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, round(8 / 3 * width)) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.taps = tapped_blocks(depth, taps)

    def forward(self, features: Tensor, with_attention: bool = False) -> Tapped:
        """Transform ``[B, C, *spatial]``; the attention of the tapped blocks is kept if asked for."""
        embedded = self.position(self.embedding(features))
        grid = embedded.shape[2:]
        tokens = embedded.flatten(2).transpose(1, 2)
        maps, attentions = [], []
        for number, block in enumerate(self.blocks, 1):
            tapped = number in self.taps
            tokens, attention = block(tokens, with_attention and tapped)
            if tapped:
                maps.append(self.norm(tokens).transpose(1, 2).unflatten(2, grid))
                if attention is not None:
                    attentions.append(attention)
        return Tapped(tuple(maps), tuple(attentions))
