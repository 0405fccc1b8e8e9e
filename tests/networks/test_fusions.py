"""What holds for every fusion: no trace of what is missing, samples by themselves, any grid, gradients everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from fusion_networks import everything, network, random_streams, specs
from tiny_nnunet import differences

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.modalities import all_subsets
from nnunetv2_mmkd.networks.fusion.gated import GatedFusion
from nnunetv2_mmkd.networks.fusion.hemis import HeMISFusion
from nnunetv2_mmkd.networks.fusion.hved import HVEDFusion
from nnunetv2_mmkd.networks.fusion.m2ftrans import M2FTransConfig, M2FTransFusion
from nnunetv2_mmkd.networks.fusion.masked_concat import MaskedConcat
from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFill
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerConfig, MMFormerFusion
from nnunetv2_mmkd.networks.fusion.rfnet import RFNetConfig, RFNetFusion
from nnunetv2_mmkd.networks.fusion.scale_spec import own_features
from nnunetv2_mmkd.networks.fusion.sfusion import SFusion
from nnunetv2_mmkd.networks.fusion.shared_specific import SharedSpecificFusion
from nnunetv2_mmkd.networks.streams import Fused, Streams

FUSIONS = [
    MMFormerFusion,
    RFNetFusion,
    M2FTransFusion,
    SharedSpecificFusion,
    HeMISFusion,
    HVEDFusion,
    GatedFusion,
    SFusion,
]
each_fusion = pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: fusion.__name__)


@each_fusion
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
@torch.no_grad()
def test_a_missing_channel_changes_no_bit(one_thread: None, fusion: Callable[..., Any], value: float) -> None:
    net = network(fusion)
    x, available = torch.randn(2, 3, 16, 16), torch.tensor([[True, False, True], [False, True, False]])
    spoilt = torch.where(available[:, :, None, None], x, torch.tensor(value))
    for training in (True, False):
        net.train(training)
        clean = everything(net, x, available)
        assert all(torch.isfinite(each).all() for each in clean)
        assert differences(clean, everything(net, spoilt, available)) == []


@each_fusion
@torch.no_grad()
def test_a_subset_is_the_same_whatever_else_was_encoded(one_thread: None, fusion: Callable[..., Any]) -> None:
    net = network(fusion).eval()
    x = torch.randn(2, 3, 16, 16)
    streams = net.encode(x, torch.ones(2, 3, dtype=torch.bool))
    results = []
    for subset in all_subsets(3):
        chosen = net.fuse(streams.narrowed(subset))
        assert differences(net.fuse(net.encode(x, subset)), chosen) == []
        results.append(chosen[0])
    for scale in range(3):  # subsets differ at every scale
        assert len({tuple(skips[scale].flatten().tolist()) for skips in results}) == 7


@each_fusion
@torch.no_grad()
def test_a_sample_does_not_know_of_the_batch(one_thread: None, fusion: Callable[..., Any]) -> None:
    scales = specs()
    block = fusion(scales).eval()
    available = torch.tensor([[True, False, True], [False, True, False], [True, True, True]])
    streams = random_streams(scales, available)
    together = block(streams)
    for sample in range(3):
        alone = streams.of_sample(sample)
        assert [modality for _, modality in alone.pairs] == torch.nonzero(available[sample]).flatten().tolist()
        own = [[each[sample : sample + 1] for each in kind] for kind in together]
        assert differences(own, block(alone)) == []


@each_fusion
@pytest.mark.parametrize(("dimension", "exclusive"), [(2, True), (2, False), (3, True)])
def test_gradients_reach_every_parameter(fusion: Callable[..., Any], dimension: int, exclusive: bool) -> None:
    net = network(fusion, dimension, exclusive=exclusive)
    x = torch.randn(2, 3, *[16] * dimension)
    available = torch.tensor([[True, True, True], [True, False, True]])
    skips, maps = net.fuse(net.encode(x, available))
    outputs = net.decode(skips)
    assert bool(maps) == net.predicts_maps
    torch.stack([(each * torch.randn_like(each)).sum() for each in (*outputs, *maps)]).sum().backward()
    named = dict(net.fusions.named_parameters())
    assert [name for name, weight in named.items() if weight.grad is None or not weight.grad.abs().sum() > 0] == []
    assert all(torch.isfinite(weight.grad).all() for weight in named.values() if weight.grad is not None)


@each_fusion
def test_recomputation_changes_no_gradient_and_stores_less(fusion: Callable[..., Any]) -> None:
    net = network(fusion).double().train()
    x, available = torch.randn(2, 3, 16, 16).double(), torch.tensor([[True, False, True], [False, True, True]])
    found, stored = [], []
    for stages in (0, 3):
        net.recomputed_stages = stages
        net.zero_grad(set_to_none=True)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            outputs = everything(net, x, available)
        torch.stack([each.square().mean() for each in outputs]).sum().backward()
        found.append([weight.grad for weight in net.parameters() if weight.grad is not None])
        stored.append(sum(sizes))
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-10)
    assert stored[1] < stored[0]


@each_fusion
def test_mixed_precision_is_close_and_finite(one_thread: None, fusion: Callable[..., Any]) -> None:
    net = network(fusion)
    x, available = torch.randn(2, 3, 16, 16), torch.tensor([[True, False, True], [True, True, True]])
    with torch.no_grad():
        exact = everything(net, x, available)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = everything(net, x, available)
    for first, second in zip(exact, rough, strict=True):
        assert second.dtype == torch.bfloat16
        assert (first - second.detach().float()).abs().max() < 0.1 * first.abs().max()
    torch.stack([each.float().square().mean() for each in rough]).sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in net.fusions.parameters() if weight.grad is not None)


@each_fusion
@pytest.mark.parametrize(("dimension", "size"), [(2, (24, 12)), (2, (20, 36)), (3, (16, 8, 20))])
@torch.no_grad()
def test_any_grid(fusion: Callable[..., Any], dimension: int, size: tuple[int, ...]) -> None:
    """Planned for 16, where a token is a cell, and for 32, where it is a patch of cells."""
    for planned_size in (16, 32):
        net = network(fusion, dimension, size=planned_size).eval()
        skips = net.fuse(net.encode(torch.randn(1, 3, *size), torch.tensor([True, False, True]))).skips
        for scale, skip in enumerate(skips):
            assert skip.shape == (1, (4, 6, 8)[scale], *(edge // 2**scale for edge in size))
            assert torch.isfinite(skip).all()


@each_fusion
@pytest.mark.parametrize("modalities", [2, 4])
@pytest.mark.parametrize("features", [(4, 6), (4, 6, 8, 10)])
@torch.no_grad()
def test_any_number_of_modalities_and_scales(
    fusion: Callable[..., Any], modalities: int, features: tuple[int, ...]
) -> None:
    net = network(fusion, modalities=modalities, features=features, heads=3)
    x, available = torch.randn(2, modalities, 16, 16), torch.ones(2, modalities, dtype=torch.bool)
    skips, maps = net.fuse(net.encode(x, available))
    outputs = net.decode(skips)
    assert [each.shape for each in outputs] == [(2, 3, *skip.shape[2:]) for skip in skips[:-1]]
    if maps:
        assert [each.shape for each in maps] == [each.shape for each in outputs]


@pytest.mark.parametrize("fusion", [MeanFill, *FUSIONS], ids=lambda fusion: fusion.__name__)
@torch.no_grad()
def test_weights_multiply_the_features_of_a_modality_at_a_scale(one_thread: None, fusion: Callable[..., Any]) -> None:
    net = network(fusion).eval()
    mask = torch.tensor([[True, True, True], [True, False, True]])
    streams = net.encode(torch.randn(2, 3, 16, 16), mask)
    plain = net.fuse(streams)
    assert differences(net.fuse(streams, weights=[torch.ones(3)] * 3), plain) == []
    assert differences(net.fuse(streams, weights=[None] * 3), plain) == []
    complete = streams.narrowed(torch.tensor([True, False, True]))  # no modality is filled in two ways
    for scale in range(3):
        factors = torch.tensor([0.5, 1.0, 2.0])
        weights = [factors if own == scale else None for own in range(3)]
        features = list(complete.scales)
        rows = zip(features[scale], complete.pairs, strict=True)
        features[scale] = tuple(each * factors[modality] for each, (_, modality) in rows)
        by_hand = net.fuse(replace(complete, scales=tuple(features)))
        found = net.fuse(complete, weights=weights)
        assert not torch.equal(found.skips[scale], net.fuse(complete).skips[scale])
        if fusion not in (MeanFill, SharedSpecificFusion):  # they weight what is filled, too: test_mean_fill.py
            assert differences(found, by_hand) == []


@torch.no_grad()
def test_features_of_a_compiled_decoder_are_those_of_the_planned_one(one_thread: None) -> None:
    net = network(MeanFill).eval()
    skips = net.fuse(net.encode(torch.randn(2, 3, 16, 16), torch.ones(3, dtype=torch.bool))).skips
    planned: list[Any] = []
    hook = net.decoder.stages[-1].register_forward_hook(lambda *args: planned.append(args[-1]))
    outputs = net.decode(skips)
    hook.remove()
    assert differences(net.decode_with_features(skips), (outputs, planned[0])) == []
    net.decoder.deep_supervision = False
    assert differences(net.decode_with_features(skips), ([net.decode(skips)], planned[0])) == []
    net.decoder.deep_supervision = True
    net.compile_parts(backend="eager")
    assert differences(net.decode_with_features(skips), (outputs, planned[0])) == []


@torch.no_grad()
def test_masked_concat_is_a_convolution_of_zeros_and_features(one_thread: None) -> None:
    spec = specs()[0]
    block = MaskedConcat(spec)
    streams = random_streams([spec], torch.tensor([[True, False, True]]))
    own = own_features(streams, 0, 0)
    assert [modality for modality, _ in own] == [0, 2]
    whole = torch.cat([own[0][1], torch.zeros(4, 16, 16), own[1][1]])[None]
    kernel = block.project.weight.permute(1, 0, 2).flatten(1)[:, :, None, None]
    expected = torch.nn.functional.conv2d(whole, kernel)
    torch.testing.assert_close(block.project(own), expected)
    torch.testing.assert_close(block(own), block.finish(expected))
    half = [torch.full((16, 16), 0.5), torch.full((16, 16), 0.5)]
    torch.testing.assert_close(block.project(own, half), expected / 2)


def test_only_rfnet_predicts_maps() -> None:
    x, available = torch.randn(1, 3, 16, 16), torch.ones(3, dtype=torch.bool)
    for fusion in (MeanFill, *FUSIONS):
        maps = 2 if fusion is RFNetFusion else 0
        net = network(fusion)
        assert len(net.fuse(net.encode(x, available)).maps) == maps and net.predicts_maps == bool(maps)
    assert list(network(MeanFill).fusions.state_dict()) == [f"{n}.{k}" for n in range(3) for k in ("weight", "bias")]


@pytest.mark.parametrize(
    ("config", "arguments"),
    [
        (MMFormerConfig, {"depth": 0}),
        (MMFormerConfig, {"expansion": 0}),
        (M2FTransConfig, {"depth": 0}),
        (M2FTransConfig, {"width": -1}),
        (RFNetConfig, {"hidden": 0}),
        (RFNetConfig, {"map_share": 0.0}),
        (RFNetConfig, {"map_share": 1.5}),
    ],
)
def test_impossible_shapes_are_refused(config: Callable[..., Any], arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        config(**arguments)


@pytest.mark.parametrize(("wider", "fewer"), [(1, 0), (0, 1)])
def test_skips_that_do_not_fit_the_decoder_are_named(wider: int, fewer: int) -> None:
    class Wide(MeanFill):
        def forward(self, streams: Streams, **how: Any) -> Fused:
            skips = super().forward(streams, **how).skips
            return Fused([torch.cat([skip, skip[:, :wider]], 1) for skip in skips[fewer:]], [])

    with pytest.raises(InputError, match=r"Wide returned \[.*: expected Fused with a skip of each scale"):
        network(Wide)(torch.ones(1, 3, 16, 16), torch.ones(1, 3, dtype=torch.bool))
