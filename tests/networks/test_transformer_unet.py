"""MST-KDNet's network on planned encoders and decoders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_nnunet import PLAIN, RESIDUAL, Home, differences
from torch.nn.functional import adaptive_max_pool2d

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.networks.discriminator import FeatureDiscriminator
from nnunetv2_mmkd.networks.from_plans import planned_network
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.networks.transformer_unet import MultiScaleMerge
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMSTKDNet import nnUNetTrainerMSTKDNet


def build(home: Home, modalities: int, configuration: str, identifier: str = PLAIN) -> tuple[Any, Any]:
    """The network, in eval mode, and its trainer."""
    trainer = home.trainer(
        nnUNetTrainerMSTKDNet, home.dataset(modalities, "regions"), configuration, identifier=identifier
    )
    trainer.initialize()
    return trainer.network.eval(), trainer


@pytest.mark.parametrize(
    ("modalities", "configuration", "identifier"),
    [(4, "3d_fullres", PLAIN), (2, "2d", PLAIN), (3, "3d_fullres", RESIDUAL)],
)
def test_a_trace_is_the_forward_pass(home: Home, modalities: int, configuration: str, identifier: str) -> None:
    network, trainer = build(home, modalities, configuration, identifier)
    patch = trainer.configuration_manager.patch_size
    x = torch.randn(2, modalities, *patch)
    mask = torch.ones(2, modalities, dtype=torch.bool)
    mask[1, 0] = False
    with torch.no_grad():
        trace, output = network.trace(x, mask), network(x, mask)
    assert torch.allclose(trace.logits, output[0], atol=1e-5) and trace.logits is trace.output[0]
    assert len(trace.attention) == 4 and len(trace.levels) == 4
    tokens = network.transformer.position.positions[0, 0].numel()
    assert all(each.shape == (2, 2, tokens, tokens) for each in trace.attention)
    bottleneck = trace.fused.shape[2:]
    assert trace.encoder.shape[2:] == trace.transformer.shape[2:] == trace.decoder.shape[2:] == bottleneck
    assert trace.levels[-1].shape[2:] == bottleneck
    assert trace.fused.shape[1] == network.fused_channels and network.dimensions == len(patch)
    spoilt = x.clone()
    spoilt[1, 0] = float("nan")
    with torch.no_grad():
        assert differences(output, network(spoilt, mask)) == []
        assert differences(list(trace.levels), list(network.trace(spoilt, mask).levels)) == []
        assert not torch.equal(output[0][1], network(x)[0][1])
    network.decoder.deep_supervision = False
    with torch.no_grad():
        assert torch.equal(network(x, mask), output[0])
        assert torch.equal(network.trace(x, mask).logits, trace.logits)
    assert not network.decoder.stages[0]._forward_hooks


def test_what_the_maps_are(home: Home) -> None:
    network, _ = build(home, 2, "2d")
    x = torch.randn(1, 2, 16, 16)
    with torch.no_grad():
        trace = network.trace(x)
        skips = network.encoder(x)
        levels = network.multi_scale(network.transformer(skips[-1]).tokens)
        transformer = skips[-1] + network.project(levels[-1])
        fused = network.fuse_style(torch.cat([adaptive_max_pool2d(skips[-2], 4), transformer], 1))
        risen = network.decoder.transpconvs[0](fused)
        first = network.decoder.stages[0](torch.cat([risen, skips[-2]], 1))
    assert torch.allclose(trace.encoder, adaptive_max_pool2d(skips[-2], 4), atol=1e-5)
    assert torch.allclose(trace.transformer, transformer, atol=1e-5)
    assert torch.allclose(trace.fused, fused, atol=1e-5)
    assert torch.allclose(trace.decoder, adaptive_max_pool2d(first, 4), atol=1e-4)


def test_every_part_has_a_say_and_a_gradient(home: Home) -> None:
    network, _ = build(home, 3, "3d_fullres")
    x = torch.randn(2, 3, 16, 16, 16)
    sum(each.square().mean() for each in network.train()(x)).backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # a key's bias shifts all scores of a row, and a bias before an instance norm is taken out again
    assert [name for name in silent if "in_proj_bias" not in name and not name.endswith("conv.bias")] == []


def test_the_planned_parts_are_the_planned_ones(home: Home) -> None:
    network, trainer = build(home, 3, "3d_fullres")
    planned = planned_network(
        NetworkRequest(trainer.configuration_manager, ("t1", "t1ce", "t2"), 2, True), 3
    ).state_dict()
    ours = network.state_dict()
    assert all(ours[key].shape == value.shape for key, value in planned.items())
    with pytest.raises(InputError, match="2 channels"):
        network(torch.zeros(1, 2, 16, 16, 16))


@pytest.mark.parametrize(
    ("patch", "grid", "sizes"),
    [
        ((4, 4), (5, 6), [(5, 6), (10, 12), (20, 24), (20, 24)]),
        ((2, 1), (4, 5), [(4, 5), (8, 5), (8, 5), (8, 5)]),
        ((1, 1), (4, 4), [(4, 4)] * 4),
    ],
)
def test_taps_rise_to_the_map(
    home: Home, patch: tuple[int, int], grid: tuple[int, int], sizes: list[tuple[int, int]]
) -> None:
    network, _ = build(home, 2, "2d")
    merge = MultiScaleMerge(network.encoder, 8, patch, 4)
    levels = merge([torch.randn(1, 8, *grid) for _ in range(4)])
    assert [tuple(level.shape[2:]) for level in levels] == sizes


@torch.no_grad()
def test_deep_taps_come_first(home: Home) -> None:
    """UNETR's way back: the deepest tap rises, and the next deepest joins it first."""
    network, _ = build(home, 2, "2d")
    merge = MultiScaleMerge(network.encoder, 8, (4, 4), 4)
    taps = [torch.randn(1, 8, 3, 3) for _ in range(4)]
    expected = [taps[3]]
    for step, tap in enumerate((taps[2], taps[1], taps[0])):
        joined = torch.cat([merge.rise[step](expected[-1]), merge.skip[step](tap)], 1)
        expected.append(merge.merge[step](joined))
    assert differences(merge(taps), expected) == []


@pytest.mark.parametrize("size", [(1, 1), (4, 4, 4), (20, 24, 16), (3, 1, 5)])
def test_a_discriminator_for_any_size(size: tuple[int, ...]) -> None:
    discriminator = FeatureDiscriminator(5, len(size))
    logits = discriminator(torch.randn(2, 5, *size))
    positions = torch.tensor([-(-edge // 8) for edge in size]).prod()
    assert logits.shape == (2, positions)
