"""Transformers on token grids of any size, in two or three dimensions.

Legend: B batch, C channels, E width of a token, H heads, N tokens, T taps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

LARGEST_PATCH = 4
LEAST_TOKENS = 4
HEAD_WIDTH = 32


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
    """

    def __init__(self, width: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(1, width, *grid))
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Add the positions: ``[B, E, *grid]`` -> the same."""
        positions: Tensor = self.positions
        grid = tokens.shape[2:]
        if positions.shape[2:] != grid:
            mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(grid)]
            positions = interpolate(positions, tuple(grid), mode=mode, align_corners=False)
        return tokens + positions


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

    def forward(self, tokens: Tensor, with_attention: bool = False) -> tuple[Tensor, Tensor | None]:
        """Transform tokens.

        Args:
            tokens: ``[B, N, E]``.
            with_attention: whether to return the attention probabilities.

        Returns:
            tokens ``[B, N, E]`` and A ``[B, H, N, N]`` (rows are queries and sum to one) or None.
        """
        normed = self.norm_attention(tokens)
        attended, attention = self.attention(
            normed, normed, normed, need_weights=with_attention, average_attn_weights=False
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
