"""M2FTrans by hand: what attends to what, spatial weights, channels that attend to channels."""

from __future__ import annotations

import torch
from fusion_networks import random_streams, specs
from torch import Tensor

from nnunetv2_mmkd.networks.fusion.m2ftrans import (
    ChannelCrossAttention,
    FusionTransformer,
    M2FTransConfig,
    M2FTransFusion,
)
from nnunetv2_mmkd.networks.fusion.scale_spec import Own, own_features
from nnunetv2_mmkd.networks.transformers import as_sequence


def bottleneck(subset: list[bool]) -> Own:
    spec = specs()[-1]
    return own_features(random_streams([spec], torch.tensor([subset])), 0, 0)


@torch.no_grad()
def test_the_transformer_is_masked_attention_over_all_tokens(one_thread: None) -> None:
    """One sequence [t1, t2, fusion] under the paper's mask gives what the blocks compute apart."""
    transformer = FusionTransformer(specs()[-1], M2FTransConfig(depth=3))
    own = bottleneck([True, False, True])
    modal = [as_sequence(transformer.embed[m](f[None])) for m, f in own]
    tokens = torch.cat([*modal, as_sequence(transformer.fusion_tokens.at((4, 4)))], 1)
    kind = torch.arange(3).repeat_interleave(16)
    hidden = (kind[:, None] != kind[None]) & (kind[:, None] != 2)  # True: must not look
    first: Tensor | None = None
    for block in transformer.blocks:
        normed = block.norm_attention(tokens)
        attended, attention = block.attention(normed, normed, normed, attn_mask=hidden, average_attn_weights=False)
        first = attention if first is None else first
        tokens = tokens + attended
        tokens = tokens + block.perceptron(block.norm_perceptron(tokens))
    fusion, attention_maps = transformer(own)
    torch.testing.assert_close(as_sequence(fusion), tokens[:, 32:], atol=1e-5, rtol=1e-4)
    assert first is not None
    share = first[0, :, 32:].sum((0, 1))[:32] / (2 * 16) * 48  # over heads and queries; 48 keys
    for number, each in enumerate(attention_maps):
        torch.testing.assert_close(each.flatten(), share[16 * number : 16 * number + 16], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_even_attention_weighs_nothing(one_thread: None) -> None:
    transformer = FusionTransformer(specs()[-1], M2FTransConfig())
    transformer.blocks[0].attention.in_proj_weight[:16] = 0  # queries and keys of width 8
    transformer.blocks[0].attention.in_proj_bias[:16] = 0
    for subset in ([True, True, True], [False, True, False]):
        for each in transformer(bottleneck(subset))[1]:
            torch.testing.assert_close(each, torch.ones(1, 1, 4, 4))


@torch.no_grad()
def test_spatial_weights_act_at_every_scale(one_thread: None) -> None:
    """Another attention of the first block changes the skips of all scales; its share of a token is repeated."""
    scales = specs()
    fusion = M2FTransFusion(scales)
    streams = random_streams(scales, torch.tensor([[True, True, False]]))
    own = own_features(streams, 0, 0)
    attention_maps = [each[0, 0].repeat_interleave(4, 0).repeat_interleave(4, 1) for each in fusion.transformer(
        own_features(streams, 0, 2)
    )[1]]  # fmt: skip
    torch.testing.assert_close(fusion(streams).skips[0], fusion.skips[0](own, attention_maps))
    before = fusion(streams).skips
    fusion.transformer.blocks[0].attention.in_proj_weight[:8] += torch.randn(8, 8)
    assert all(not torch.allclose(a, b) for a, b in zip(before, fusion(streams).skips, strict=True))


@torch.no_grad()
def test_channel_attention_is_the_equation(one_thread: None) -> None:
    spec = specs()[-1]
    block = ChannelCrossAttention(spec)
    own, query = bottleneck([False, True, True]), torch.randn(1, 8, 4, 4)
    factors = [torch.rand(4, 4), torch.rand(4, 4)]
    weighted = {m: (f * factor).flatten(1) for (m, f), factor in zip(own, factors, strict=True)}
    q = block.query(query)[0].flatten(1)
    rows = []
    for group in range(block.groups):
        width = 8 // block.groups
        part = slice(group * width, (group + 1) * width)
        k = torch.cat([(block.key[m] @ f)[part] for m, f in weighted.items()])
        v = torch.cat([(block.value[m] @ f)[part] for m, f in weighted.items()])
        cosine = torch.nn.functional.cosine_similarity(q[part][:, None], k[None], dim=2)
        rows.append((4 * cosine).softmax(1) @ v)
    concat = sum(block.project.weight[m] @ f for m, f in weighted.items())
    expected = query + (torch.cat(rows) + concat).reshape(1, 8, 4, 4)
    torch.testing.assert_close(block(query, own, factors), block.finish(expected), atol=1e-4, rtol=1e-4)


def test_the_last_block_does_not_update_what_nobody_reads(one_thread: None) -> None:
    """Modality tokens go through depth - 1 blocks, fusion tokens through all."""
    transformer = FusionTransformer(specs()[-1], M2FTransConfig(depth=2))
    calls: list[int] = []
    for number, block in enumerate(transformer.blocks):
        block.register_forward_hook(lambda *_, number=number: calls.append(number))
    transformer(bottleneck([True, True, False]))
    assert calls == [0, 0, 0, 1]


def test_an_old_grid_serves_a_new_one(one_thread: None) -> None:
    scales = specs()
    fusion = M2FTransFusion(scales)
    streams = random_streams(specs(size=32), torch.tensor([[True, False, True]]))
    assert [tuple(each.shape[2:]) for each in fusion(streams).skips] == [(32, 32), (16, 16), (8, 8)]
