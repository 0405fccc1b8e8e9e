"""SFusion's modal attention by hand."""

from __future__ import annotations

import pytest
import torch
from fusion_networks import random_streams, specs
from torch.nn.functional import adaptive_avg_pool2d

from nnunetv2_mmkd.networks.fusion.scale_spec import Own, own_features
from nnunetv2_mmkd.networks.fusion.sfusion import ModalAttention, SFusionConfig


def an_own(subset: list[bool], scale: int = 0) -> Own:
    scales = specs()
    return own_features(random_streams(scales, torch.tensor([subset])), 0, scale)


def a_block(scale: int = 0) -> ModalAttention:
    torch.manual_seed(0)
    return ModalAttention(specs()[scale], SFusionConfig(depth=2))


@torch.no_grad()
def test_the_fusion_is_the_equation(one_thread: None) -> None:
    """Tokens are means of patches, one sequence for all modalities, a softmax over modalities."""
    block, own = a_block(), an_own([True, False, True])
    assert block.patch == (2, 2)
    tokens = [adaptive_avg_pool2d(f[None], 8) + block.position[m].positions for m, f in own]
    sequence = torch.cat([each.flatten(2).transpose(1, 2) for each in tokens], 1)
    assert sequence.shape == (1, 2 * 64, 4)
    for each in block.blocks:
        sequence, _ = each(sequence)
    first, second = (part.transpose(1, 2).reshape(1, 4, 8, 8) for part in (sequence[:, :64], sequence[:, 64:]))
    maps = torch.cat([block.rise.rise(first), block.rise.rise(second)])
    weights = maps.exp() / maps.exp().sum(0)
    torch.testing.assert_close(block.weights(own), weights)
    expected = weights[0] * own[0][1] + weights[1] * own[1][1]
    torch.testing.assert_close(block(own), expected[None])


@torch.no_grad()
def test_a_modality_alone_passes_as_it_is() -> None:
    own = an_own([False, True, False], scale=1)
    assert torch.equal(a_block(1)(own)[0], own[0][1])


@torch.no_grad()
def test_modalities_attend_to_each_other(one_thread: None) -> None:
    """The weight of one between two equal others changes with a far voxel of a third."""
    block, own = a_block(), an_own([True, True, True])
    changed = [*own[:2], (2, own[2][1].clone())]
    changed[2][1][0, 15, 15] += 50
    before, after = block.weights(own), block.weights(changed)
    torch.testing.assert_close(before.sum(0), torch.ones_like(before[0]))
    assert not torch.equal(before[0, :, 0, 0] / before[1, :, 0, 0], after[0, :, 0, 0] / after[1, :, 0, 0])


@pytest.mark.parametrize("name", ["depth", "expansion", "tokens"])
def test_impossible_shapes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        SFusionConfig(**{name: 0})
