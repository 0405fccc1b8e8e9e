"""DeMoSeg's network: which modality lends which channels, the channel exchange, no trace of what is missing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from fusion_networks import KINDS, planned
from tiny_nnunet import differences
from torch import nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.demoseg import PUBLISHED_LENDERS
from nnunetv2_mmkd.modalities import all_subsets, names_of
from nnunetv2_mmkd.networks.decoupled import DecoupledUNet
from nnunetv2_mmkd.networks.decoupled_stem import ChannelExchange
from nnunetv2_mmkd.networks.lending import lending_order

NAMES = ("t1", "t1ce", "t2", "flair")
RELEASED = {
    "t1": {"t1ce": "t1", "t2": "t1", "flair": "t1"},
    "t1ce": {"t1": "t1ce", "t2": "t1ce", "flair": "t1ce"},
    "t2": {"t1": "t2", "t1ce": "t2", "flair": "t2"},
    "flair": {"t1": "flair", "t1ce": "flair", "t2": "flair"},
    "t1 t1ce": {"t2": "t1", "flair": "t1ce"},
    "t1 t2": {"t1ce": "t1", "flair": "t2"},
    "t1 flair": {"t1ce": "t1", "t2": "flair"},
    "t1ce t2": {"t1": "t1ce", "flair": "t2"},
    "t1ce flair": {"t1": "t1ce", "t2": "flair"},
    "t2 flair": {"t1": "t2", "t1ce": "flair"},
    "t1 t1ce t2": {"flair": "t2"},
    "t1 t1ce flair": {"t2": "flair"},
    "t1 t2 flair": {"t1ce": "t1"},
    "t1ce t2 flair": {"t1": "t1ce"},
    "t1 t1ce t2 flair": {},
}
"""Subset -> missing modality -> who lends, in the released code."""


def residual(dimension: int = 2) -> Any:
    convolution, norm = KINDS[dimension]
    return ResidualEncoderUNet(
        3, 3, [4, 6, 8], convolution, 3, [1, 2, 2], [1, 2, 2], 2, [1, 1], True, norm, {"affine": True},
        nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}, deep_supervision=True,
    )  # fmt: skip


def decoupled(plan: str = "plain", dimension: int = 2, modalities: int = 3, **how: Any) -> DecoupledUNet:
    network = residual(dimension) if plan == "residual" else planned(dimension)
    names = (*NAMES, "pd")[:modalities]
    return DecoupledUNet(network.encoder, network.decoder, names, lending_order(names, PUBLISHED_LENDERS), **how)


def test_the_lists_of_lenders_are_the_released_table() -> None:
    order = lending_order(NAMES, PUBLISHED_LENDERS)
    for subset in all_subsets(4):
        there = names_of(subset, NAMES)
        lent = {
            name: next(NAMES[each] for each in order[number] if NAMES[each] in there)
            for number, name in enumerate(NAMES)
            if name not in there
        }
        assert lent == RELEASED[" ".join(there)]


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("t1", "flair"), ((1,), (0,))),
        (("flair", "t2", "t1"), ((1, 2), (0, 2), (1, 0))),
        (("adc", "dwi", "b0"), ((1, 2), (2, 0), (0, 1))),  # channel order, in a cycle
        (("pd", "t1", "t1ce", "t2"), ((1, 2, 3), (2, 3, 0), (1, 3, 0), (1, 2, 0))),
    ],
)
def test_lenders_of_any_modalities(names: tuple[str, ...], order: tuple[tuple[int, ...], ...]) -> None:
    assert lending_order(names, PUBLISHED_LENDERS) == order


@torch.no_grad()
def test_slots_hold_self_features_and_what_is_lent(one_thread: None) -> None:
    net = decoupled().eval()  # t1, t1ce, t2
    x = torch.randn(2, 3, 16, 16)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    found = net.subspaces(x, mask)
    assert found.rows == {0: [0], 1: [1], 2: [0]} and found.features[0].shape == (1, 3, 2, 16, 16)
    slots = net.lend(found, mask).unflatten(1, (3, 2))
    assert torch.equal(slots[0, 0], found.features[0][0, 0])
    assert torch.equal(slots[0, 1], found.features[0][0, 1])  # t1 lends how it expresses t1ce
    assert torch.equal(slots[0, 2], found.features[2][0, 2])
    assert all(torch.equal(slots[1, slot], found.features[1][0, slot]) for slot in range(3))
    assert net.stems[0](x[:1, :1]).unflatten(1, (3, 2)).equal(found.features[0])


@torch.no_grad()
def test_channel_exchange_by_hand() -> None:
    block = ChannelExchange(3, gated=True)
    x = torch.rand(1, 3, 4, 4)
    block.score = nn.Sequential(nn.Identity())  # scores are the means
    x[0, 0] += 1
    x[0, 1] += 2
    score = x.mean((2, 3)).sigmoid()[0]
    expected = torch.stack([x[0, c] + score[o] * x[0, o] for c, o in enumerate((1, 0, 2))])  # largest score first
    torch.testing.assert_close(block(x)[0], expected)
    block.gated = False
    torch.testing.assert_close(block(x)[0], torch.stack([x[0, c] + x[0, o] for c, o in enumerate((1, 0, 2))]))


@pytest.mark.parametrize("gated", [True, False])
def test_the_perceptron_learns_where_it_can(gated: bool) -> None:
    block = ChannelExchange(4, gated)
    block(torch.randn(2, 4, 3, 3, requires_grad=True)).square().sum().backward()
    assert all((weight.grad is not None) == gated == weight.requires_grad for weight in block.parameters())


@pytest.mark.parametrize("plan", ["plain", "residual"])
@pytest.mark.parametrize(("dimension", "modalities"), [(2, 2), (2, 5), (3, 3)])
def test_a_missing_channel_changes_no_bit_and_all_parameters_learn(
    one_thread: None, plan: str, dimension: int, modalities: int
) -> None:
    net = decoupled(plan, dimension, modalities)
    x = torch.randn(2, modalities, *[16] * dimension)
    mask = torch.ones(2, modalities, dtype=torch.bool)
    mask[0, 1] = mask[1, 0] = False
    spoilt = torch.where(mask.reshape(*mask.shape, *[1] * dimension), x, torch.tensor(float("nan")))
    outputs = net(spoilt, mask)
    assert differences(net(x, mask), outputs) == []
    torch.stack([each.square().mean() for each in outputs]).sum().backward()
    silent = [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.abs().sum()]
    assert [name for name in silent if "seg_layers" not in name and "all_modules" not in name] == []


@torch.no_grad()
def test_a_sample_and_a_subset_by_themselves(one_thread: None) -> None:
    net = decoupled().eval()
    net.decoder.deep_supervision = False
    x = torch.randn(2, 3, 16, 16)
    results = [net(x[:1], subset) for subset in all_subsets(3)]
    assert len({tuple(each.flatten().tolist()) for each in results}) == 7
    zeroed = torch.where(torch.tensor([True, False, True])[None, :, None, None], x, torch.tensor(0.0))
    assert torch.equal(net(zeroed), net(x, torch.tensor([True, False, True])))  # found by looking


def test_recomputation_changes_no_gradient() -> None:
    net = decoupled().double().train()
    x, found = torch.randn(2, 3, 16, 16).double(), []
    for stages in (0, 2):
        net.recomputed_stages = stages
        net.zero_grad(set_to_none=True)
        torch.stack([each.square().mean() for each in net(x, torch.ones(3, dtype=torch.bool))]).sum().backward()
        found.append([weight.grad for weight in net.stems.parameters()])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("lenders", "message"),
    [
        ([[1, 2], [0, 2]], "lenders of 2 modalities, but there are t1, t1ce, t2"),
        ([[1, 2], [0, 0], [0, 1]], "the lenders of t1ce must be all other modalities, each once, not t1, t1"),
        ([[1, 2], [0, 2], [0, 7]], "the lenders of t2 must be all other modalities, each once, not t1, 7"),
    ],
)
def test_wrong_lenders_are_refused(lenders: list[list[int]], message: str) -> None:
    network = planned()
    with pytest.raises(InputError, match=message):
        DecoupledUNet(network.encoder, network.decoder, NAMES[:3], lenders)
