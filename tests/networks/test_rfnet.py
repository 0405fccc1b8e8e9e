"""RFNet's region-aware fusion by hand."""

from __future__ import annotations

import pytest
import torch
from fusion_networks import random_streams, specs
from torch.nn.functional import leaky_relu

from nnunetv2_mmkd.networks.fusion.rfnet import (
    RegionAwareFusion,
    RegionMaps,
    RFNetConfig,
    RFNetFusion,
    region_probabilities,
)
from nnunetv2_mmkd.networks.fusion.scale_spec import Own, own_features
from nnunetv2_mmkd.networks.resize import linear_resize


def an_own(subset: list[bool]) -> Own:
    spec = specs()[0]
    return own_features(random_streams([spec], torch.tensor([subset])), 0, 0)


def test_probabilities_of_classes_and_of_regions() -> None:
    logits = torch.randn(1, 3, 4, 4, dtype=torch.float16)
    classes = region_probabilities(logits, exclusive=True)
    assert classes.shape == (3, 4, 4) and classes.dtype == torch.float32
    torch.testing.assert_close(classes.sum(0), torch.ones(4, 4))
    regions = region_probabilities(logits, exclusive=False)
    assert regions.shape == (4, 4, 4)
    torch.testing.assert_close(regions[1:], logits[0].float().sigmoid())
    torch.testing.assert_close(regions[0], (1 - regions[1]) * (1 - regions[2]) * (1 - regions[3]))


@pytest.mark.parametrize("subset", [[True, True, True], [True, False, True], [False, True, False]])
@torch.no_grad()
def test_the_weights_are_the_equation(one_thread: None, subset: list[bool]) -> None:
    block = RegionAwareFusion(specs()[0], RFNetConfig(hidden=5))
    own = an_own(subset)
    regions = torch.rand(2, 16, 16)
    rows = []
    for k in range(2):
        hidden = block.from_share[k] * regions[k].mean() + block.hidden_bias[k]
        for m, f in own:
            v = (f * regions[k]).sum((1, 2)) / regions[k].sum()
            hidden = hidden + block.from_means[k, m] @ v
        hidden = leaky_relu(hidden, 0.01)
        rows.append(
            torch.stack([(block.to_weights[k, m] @ hidden + block.weight_bias[k, m]).sigmoid() for m, _ in own])
        )
    torch.testing.assert_close(block.weights(own, regions), torch.stack(rows))


@torch.no_grad()
def test_the_fusion_is_the_equation(one_thread: None) -> None:
    block = RegionAwareFusion(specs()[0], RFNetConfig(hidden=5))
    own, regions = an_own([True, False, True]), torch.rand(2, 16, 16)
    weights = block.weights(own, regions)
    regional = torch.zeros(2, 16, 16)
    for k in range(2):
        mixed = sum(weights[k, index] * regions[k] * f for index, (_, f) in enumerate(own))
        regional += torch.einsum("oc,cxy->oxy", block.regional[k], mixed)
    expected = torch.cat([regional[None], block.shortcut(own)], 1)
    torch.testing.assert_close(block(own, regions), block.finish(expected))


@torch.no_grad()
def test_regions_weigh_modalities_apart(one_thread: None) -> None:
    """The weights of a region depend on what lies in it, and on nothing outside."""
    block = RegionAwareFusion(specs()[0], RFNetConfig())
    own = an_own([True, True, False])
    left = torch.zeros(16, 16)
    left[:, :8] = 1
    regions = torch.stack([left, 1 - left])
    changed = [(m, torch.where(left.bool(), f, 3 * f + 1)) for m, f in own]
    before, after = block.weights(own, regions), block.weights(changed, regions)
    assert torch.equal(before[0], after[0]) and not torch.allclose(before[1], after[1])


@torch.no_grad()
def test_an_empty_region_and_half_precision_stay_finite(one_thread: None) -> None:
    block = RegionAwareFusion(specs()[0], RFNetConfig())
    regions = torch.stack([torch.zeros(256, 256), torch.ones(256, 256)])
    own = [(0, (torch.randn(4, 256, 256) + 2).half()), (2, torch.randn(4, 256, 256).half())]
    weights = block.weights(own, regions)
    assert torch.isfinite(weights).all()
    exact = block.weights([(m, f.float()) for m, f in own], regions)
    torch.testing.assert_close(weights, exact, atol=2e-3, rtol=0)


def test_maps_rest_on_the_scale_below(one_thread: None) -> None:
    spec, below = specs()[:2]
    maps = RegionMaps(spec, below, RFNetConfig())
    own = an_own([True, True, True])
    fused, coarser = torch.randn(1, 6, 8, 8, requires_grad=True), torch.randn(1, 2, 8, 8, requires_grad=True)
    logits = maps(own, (fused, coarser))
    assert logits.shape == (1, 2, 16, 16)
    with torch.no_grad():
        shifted = maps(own, (fused, coarser + 1))
    torch.testing.assert_close(shifted, logits + 1)
    torch.testing.assert_close(logits - maps(own, (fused, 0 * coarser)), linear_resize(coarser, (16, 16)))
    logits.sum().backward()
    assert fused.grad is not None and fused.grad.abs().sum() > 0


def test_maps_get_no_gradient_from_what_is_fused_with_them(one_thread: None) -> None:
    """They are detached where they weigh; the largest scale's map has no other way to the skips."""
    scales = specs()
    fusion = RFNetFusion(scales)
    skips, maps = fusion(random_streams(scales, torch.tensor([[True, False, True]])))
    torch.stack([(each * torch.randn_like(each)).sum() for each in skips]).sum().backward(retain_graph=True)
    assert all(weight.grad is None for weight in fusion.maps.parameters())
    maps[0].square().sum().backward()
    assert all(weight.grad is not None for weight in fusion.maps.parameters())  # the bottleneck's, too
