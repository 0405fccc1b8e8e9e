"""Tokens of a feature map and the way back; attention to a context; scales of a fusion in an anisotropic plan."""

from __future__ import annotations

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from nnunetv2_mmkd.networks.fusion.scale_spec import scale_specs
from nnunetv2_mmkd.networks.transformers import TokenEmbedding, TokenProjection, TransformerBlock, as_maps, as_sequence


@pytest.mark.parametrize(("size", "patch", "grid"), [((4, 6), (1, 1), (4, 6)), ((16, 8), (4, 2), (4, 4))])
@torch.no_grad()
def test_tokens_are_patches_with_positions(
    size: tuple[int, ...], patch: tuple[int, ...], grid: tuple[int, ...]
) -> None:
    embed = TokenEmbedding(nn.Conv2d, 3, 5, size)
    assert (embed.patch, embed.grid) == (patch, grid)
    features = torch.randn(2, 3, *size)
    tokens = embed(features)
    assert tokens.shape == (2, 5, *grid)
    first = (embed.embedding.weight * features[0, None, :, : patch[0], : patch[1]]).sum((1, 2, 3))
    expected = first + embed.embedding.bias + embed.position.positions[0, :, 0, 0]
    torch.testing.assert_close(tokens[0, :, 0, 0], expected)


@torch.no_grad()
def test_what_is_no_whole_patch_is_padded_and_cut_off() -> None:
    embed, back = TokenEmbedding(nn.Conv2d, 1, 1, (16, 16)), TokenProjection(nn.Conv2d, 1, 1, (4, 4))
    nn.init.zeros_(embed.position.positions)
    nn.init.zeros_(embed.embedding.bias)
    nn.init.ones_(embed.embedding.weight)
    nn.init.ones_(back.rise.weight)
    tokens = embed(torch.ones(1, 1, 6, 8))
    assert torch.equal(tokens[0, 0], torch.tensor([[16.0, 16.0], [8.0, 8.0]]))
    maps = back(tokens, (6, 8))
    assert maps.shape == (1, 1, 6, 8) and maps[0, 0, 3, 0] == 16 and maps[0, 0, 5, 7] == 8


def test_a_sequence_goes_back_to_its_positions() -> None:
    maps = torch.randn(2, 3, 4, 5)
    assert torch.equal(as_maps(as_sequence(maps), (4, 5)), maps)
    assert torch.equal(as_sequence(maps)[1, 2 * 5 + 3], maps[1, :, 2, 3])


@torch.no_grad()
def test_a_context_is_attended_to_and_not_transformed() -> None:
    block = TransformerBlock(4, 2, 8).eval()
    tokens, context = torch.randn(1, 3, 4), torch.randn(1, 5, 4)
    out, attention = block(tokens, with_attention=True, context=context)
    assert attention is not None and attention.shape == (1, 2, 3, 8) and out.shape == (1, 3, 4)
    whole, everyone = block(torch.cat([context, tokens], 1), with_attention=True)
    torch.testing.assert_close(out, whole[:, 5:])  # every token sees all, so its result is the same
    assert everyone is not None
    torch.testing.assert_close(attention, everyone[:, :, 5:])
    assert not torch.allclose(out, block(tokens)[0])


def test_positions_follow_an_anisotropic_plan() -> None:
    net = PlainConvUNet(
        1, 3, [4, 6, 8], nn.Conv3d, [[1, 3, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2], [2, 2, 2]], 1, 2, 1,
        True, nn.InstanceNorm3d, {"affine": True}, nonlin=nn.LeakyReLU,
    )  # fmt: skip
    specs = scale_specs(net.encoder, (8, 20, 16), modalities=3, heads=2, exclusive=False)
    assert [spec.size for spec in specs] == [(8, 20, 16), (8, 10, 8), (4, 5, 4)]
    assert [tuple(each.shape[2:]) for each in net.encoder(torch.randn(1, 1, 8, 20, 16))] == [p.size for p in specs]
    assert [(spec.index, spec.channels) for spec in specs] == [(0, 4), (1, 6), (2, 8)]
    assert not specs[0].exclusive and (specs[0].modalities, specs[0].heads) == (3, 2)
    kernel = specs[0].convolution(4, 2, planned_kernel=True)
    assert kernel.kernel_size == (1, 3, 3) and kernel(torch.randn(1, 4, 8, 20, 16)).shape == (1, 2, 8, 20, 16)
    assert [type(each) for each in specs[1].norm_and_nonlinearity(6)] == [nn.InstanceNorm3d, nn.LeakyReLU]
