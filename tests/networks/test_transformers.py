"""Token grids, positions, attention that is returned, taps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnunetv2_mmkd.networks.transformers import (
    PositionalEncoding,
    TappedTransformer,
    TransformerBlock,
    head_count,
    tapped_blocks,
    token_patch,
)


@pytest.mark.parametrize(
    ("size", "patch"),
    [
        ((20, 24, 16), (4, 4, 4)),  # 120 tokens, as released
        ((4, 4, 4), (1, 1, 1)),
        ((8, 6, 4), (2, 1, 1)),
        ((7, 5), (1, 1)),
        ((32, 14), (4, 2)),
        ((1, 8, 8), (1, 2, 2)),
    ],
)
def test_patches_leave_four_tokens(size: tuple[int, ...], patch: tuple[int, ...]) -> None:
    assert token_patch(size) == patch


def test_heads_divide_the_width() -> None:
    assert [head_count(width) for width in (320, 512, 96, 100, 8, 7)] == [10, 16, 3, 2, 2, 1]


def test_taps_end_with_the_last_block() -> None:
    assert tapped_blocks(12, 4) == (3, 6, 9, 12)
    assert tapped_blocks(10, 4) == (3, 5, 8, 10)
    assert tapped_blocks(4, 4) == (1, 2, 3, 4)
    with pytest.raises(ValueError, match="3 blocks cannot have 4 taps"):
        tapped_blocks(3, 4)


def test_positions_are_exact_on_their_grid_and_interpolated_elsewhere() -> None:
    encoding = PositionalEncoding(2, (2, 4))
    with torch.no_grad():
        encoding.positions.copy_(torch.arange(4.0).expand(1, 2, 2, 4))
    assert torch.equal(encoding(torch.zeros(3, 2, 2, 4))[2, 1, 0], torch.arange(4.0))
    wider = encoding(torch.zeros(1, 2, 5, 8))[0, 0]
    assert wider.shape == (5, 8) and torch.allclose(wider[0, 1:3], torch.tensor([0.25, 0.75]))


def test_a_block_by_hand() -> None:
    block = TransformerBlock(4, 2, 8).eval()
    tokens = torch.randn(3, 5, 4)
    out, attention = block(tokens, with_attention=True)
    assert attention is not None and attention.shape == (3, 2, 5, 5)
    assert torch.allclose(attention.sum(-1), torch.ones(3, 2, 5))
    normed = block.norm_attention(tokens)
    q, k, v = (normed @ block.attention.in_proj_weight.T + block.attention.in_proj_bias).chunk(3, -1)
    q, k, v = (each.unflatten(2, (2, 2)).transpose(1, 2) for each in (q, k, v))
    expected = (q @ k.transpose(2, 3) / 2**0.5).softmax(-1)  # Eq. (1)
    assert torch.allclose(attention, expected, atol=1e-6)
    middle = tokens + block.attention.out_proj((expected @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(out, middle + block.perceptron(block.norm_perceptron(middle)), atol=1e-6)
    without, nothing = block(tokens)
    assert nothing is None and torch.allclose(without, out, atol=1e-6)


@pytest.mark.parametrize(("dimension", "size"), [(2, (8, 12)), (3, (8, 4, 4))])
def test_tapped_tokens_are_maps(dimension: int, size: tuple[int, ...]) -> None:
    conv: type[nn.Module] = {2: nn.Conv2d, 3: nn.Conv3d}[dimension]
    grid = tuple(edge // 2 for edge in size)
    transformer = TappedTransformer(conv, 3, grid, (2,) * dimension, depth=5, taps=2, width=6, heads=2)
    tapped = transformer(torch.randn(2, 3, *size), with_attention=True)
    assert transformer.taps == (3, 5)
    assert [tuple(each.shape) for each in tapped.tokens] == [(2, 6, *grid)] * 2
    tokens = torch.tensor(grid).prod()
    assert [tuple(each.shape) for each in tapped.attention] == [(2, 2, tokens, tokens)] * 2
    assert transformer(torch.randn(2, 3, *size)).attention == ()
    larger = transformer(torch.randn(1, 3, *(2 * edge for edge in size)))
    assert larger.tokens[0].shape[2:] == tuple(2 * edge for edge in grid)


def test_a_map_keeps_the_positions_of_its_tokens() -> None:
    transformer = TappedTransformer(nn.Conv2d, 1, (3, 4), (2, 2), depth=1, taps=1, width=4, heads=1).eval()
    x = torch.randn(1, 1, 6, 8)
    embedded = transformer.position(transformer.embedding(x))
    tokens, _ = transformer.blocks[0](embedded.flatten(2).transpose(1, 2))
    assert torch.allclose(transformer(x).tokens[0][0, :, 2, 1], transformer.norm(tokens)[0, 2 * 4 + 1], atol=1e-6)
