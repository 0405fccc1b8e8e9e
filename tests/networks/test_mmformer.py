"""mmFormer's bottleneck by hand: tokens within a modality, then across those that are there."""

from __future__ import annotations

import torch
from fusion_networks import random_streams, specs

from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerConfig, MMFormerFusion
from nnunetv2_mmkd.networks.fusion.scale_spec import own_features
from nnunetv2_mmkd.networks.transformers import TransformerBlock


def silent(block: TransformerBlock) -> None:
    """Let a block hand on what comes in."""
    for weight in (*block.attention.out_proj.parameters(), *block.perceptron[-1].parameters()):
        torch.nn.init.zeros_(weight)


@torch.no_grad()
def test_without_transformers_it_is_a_masked_projection(one_thread: None) -> None:
    scales = specs()
    fusion = MMFormerFusion(scales, MMFormerConfig(depth=2))
    for transformer in (*fusion.intra, fusion.inter):
        for block in transformer:
            silent(block)
    streams = random_streams(scales, torch.tensor([[False, True, True]]))
    own = own_features(streams, 0, 2)
    total = sum(
        fusion.project[m].rise(
            fusion.embed[m].embedding(f[None]) + fusion.embed[m].position.positions + fusion.position[m].positions
        )
        for m, f in own
    )
    torch.testing.assert_close(fusion(streams).skips[2], fusion.finish(total))


@torch.no_grad()
def test_tokens_of_one_modality_reach_another_only_across(one_thread: None) -> None:
    """With the inter-modal transformer silent, the projections of two modalities add up; with it, they do not."""
    scales = specs()
    fusion = MMFormerFusion(scales)
    fusion.finish = torch.nn.Sequential()
    streams = random_streams(scales, torch.tensor([[True, False, True]]))

    def gap() -> float:
        both = fusion(streams).skips[2]
        alone = [fusion(streams.narrowed(torch.eye(3, dtype=torch.bool)[m])).skips[2] for m in (0, 2)]
        return float((both - alone[0] - alone[1]).abs().max())

    assert gap() > 1e-3
    silent(fusion.inter[0])
    assert gap() < 1e-5


@torch.no_grad()
def test_the_intra_modal_transformer_relates_distant_positions(one_thread: None) -> None:
    scales = specs()
    fusion = MMFormerFusion(scales)
    fusion.finish = torch.nn.Sequential()
    streams = random_streams(scales, torch.tensor([[True, False, False]]))
    moved = [each.clone() for each in streams.bottleneck]
    moved[0][:, 0, 0] += 1
    other = type(streams)(streams.available, streams.pairs, (*streams.scales[:-1], tuple(moved)))

    def reach() -> float:
        return float((fusion(streams).skips[2] - fusion(other).skips[2])[:, :, 3, 3].abs().max())

    silent(fusion.inter[0])
    assert reach() > 1e-4
    silent(fusion.intra[0][0])
    assert reach() == 0


def test_the_planned_width_is_the_default_and_another_can_be_chosen() -> None:
    scales = specs()
    assert MMFormerFusion(scales).embed[0].embedding.out_channels == 8
    fusion = MMFormerFusion(scales, MMFormerConfig(width=16, depth=3, expansion=2))
    assert fusion.embed[0].embedding.out_channels == 16 and len(fusion.inter) == 3
    assert fusion.inter[0].perceptron[0].out_features == 32
