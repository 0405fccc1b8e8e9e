"""Flex-MoE: the bank, the router, the mixture and both losses by hand; who learns from what."""

from __future__ import annotations

import math

import pytest
import torch
from toy_subjects import FlexMoEForToy, rival

from nnunetv2_mmkd.classification.encoders import TabularEncoder
from nnunetv2_mmkd.classification.flex_moe import FlexMoE, FlexMoEClassifier, combination_of, specialisation_loss
from nnunetv2_mmkd.classification.sparse_experts import (
    ExpertLayer,
    NoisyTopKRouter,
    Routing,
    balance_loss,
    squared_variation,
)
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.base import Batch

INPUTS = {"a": torch.linspace(-1, 1, 9).view(3, 3), "b": torch.linspace(-2, 1, 15).view(3, 5)}
AVAILABLE = torch.tensor([[True, True], [False, True], [True, False]])


def test_combinations_have_numbers() -> None:
    assert combination_of(torch.tensor([[True, False], [False, True], [True, True]])).tolist() == [0, 1, 2]
    assert combination_of(torch.tensor([[True, False, True, True]])).tolist() == [0b1101 - 1]


@torch.no_grad()
def test_the_bank_stands_in_for_what_is_missing() -> None:
    net = rival(FlexMoEForToy).eval()
    net.attention.out_proj.weight.zero_()
    net.attention.out_proj.bias.zero_()
    for expert in net.mixture.experts:
        expert[3].weight.zero_()
        expert[3].bias.zero_()
    (fused,) = net.fuse(net.encode(INPUTS, AVAILABLE)).skips  # nothing but the residual path is left
    a, b = (net.encoders[name](INPUTS[name]) for name in "ab")
    torch.testing.assert_close(fused[0], torch.stack([a[0], b[0]]))
    torch.testing.assert_close(fused[1], torch.stack([net.bank[1, 0], b[1]]))
    torch.testing.assert_close(fused[2], torch.stack([a[2], net.bank[0, 1]]))


@torch.no_grad()
def test_the_router_by_hand() -> None:
    router = NoisyTopKRouter(1, 3, 2)
    router.gate.weight.copy_(torch.tensor([[0.0], [math.log(3)], [-1.0]]))
    routing = router.eval()(torch.ones(1, 1))
    torch.testing.assert_close(routing.gates, torch.tensor([[0.25, 0.75, 0.0]]))
    assert routing.load.tolist() == [[1, 1, 0]]
    torch.manual_seed(0)
    routing = router.train()(torch.ones(1, 1))
    spread = math.log(2) + 1e-2
    ranked = routing.logits[0].sort(descending=True)
    for place, expert in enumerate(ranked.indices.tolist()):
        other = ranked.values[2 if place < 2 else 1]  # the second best without this one
        expected = 0.5 * (1 + math.erf(float(router.gate.weight[expert, 0] - other) / spread / math.sqrt(2)))
        assert float(routing.load[0, expert]) == pytest.approx(expected, abs=1e-6)
    assert int((routing.gates > 0).sum()) == 2 and float(routing.gates.sum()) == pytest.approx(1)


@torch.no_grad()
def test_the_mixture_by_hand() -> None:
    torch.manual_seed(0)
    layer = ExpertLayer(4, 3, 2, 0.0).eval()
    layer.router.gate.weight.normal_()
    x = torch.randn(5, 4)
    mixed, routing = layer(x)
    expected = sum(routing.gates[:, [i]] * expert(x) for i, expert in enumerate(layer.experts))
    torch.testing.assert_close(mixed, expected)
    assert (routing.gates > 0).sum(1).tolist() == [2] * 5


def test_the_losses_by_hand() -> None:
    assert float(squared_variation(torch.tensor([1.0, 2.0, 3.0]))) == pytest.approx(0.25)
    gates = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    load = torch.tensor([[1.0, 0.5], [1.0, 0.5]])
    assert float(balance_loss(Routing(gates, gates, gates))) == pytest.approx(0)
    assert float(balance_loss(Routing(gates, gates, load))) == pytest.approx(0.5 / 1.5**2)
    logits = torch.tensor([[0.0, math.log(3)]])
    assert float(specialisation_loss(logits, torch.tensor([0]))) == pytest.approx(math.log(4))


def test_complete_subjects_balance_and_others_specialise() -> None:
    net = rival(FlexMoEForToy)
    for rows, expected in (([0], "balance"), ([1, 2], "specialisation")):
        available = AVAILABLE[rows]
        batch = Batch({name: x[rows] for name, x in INPUTS.items()}, available, available, None)
        parts = FlexMoE().step(net, batch, lambda output, _: output.sum() * 0)["parts"]
        assert {name for name, value in parts.items() if value != 0} == {expected}


def test_every_part_learns() -> None:
    net = rival(FlexMoEForToy)
    batch = Batch(INPUTS, AVAILABLE, AVAILABLE, None)
    FlexMoE().step(net, batch, lambda output, _: output.square().sum())["loss"].backward()
    moved = {name.split(".")[0] for name, w in net.named_parameters() if w.grad is not None and w.grad.any()}
    assert moved == {"encoders", "head", "bank", "before", "attention", "between", "mixture"}
    assert net.bank.grad is not None  # only what is missing in a combination is embedded
    assert net.bank.grad[0, 1].any() and not net.bank.grad[0, 0].any() and not net.bank.grad[2].any()


def test_bad_sizes_are_named() -> None:
    encoders = {"a": TabularEncoder(3, 6), "b": TabularEncoder(5, 6)}
    with pytest.raises(InputError, match="2 experts, 1 for each token: expected at least 3"):
        FlexMoEClassifier(encoders, 2, experts=2, k=1, heads=2)
    with pytest.raises(InputError, match="4 heads do not divide the width 6"):
        FlexMoEClassifier(encoders, 2)
