"""SMIL: reconstruction, perturbation, priors and the inner step by hand; who learns from what."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import softplus
from toy_subjects import SMILForToy, rival

from nnunetv2_mmkd.classification.smil import SMIL, inner_update
from nnunetv2_mmkd.methods.base import Batch, TrainingContext

INPUTS = {"a": torch.linspace(-1, 1, 9).view(3, 3), "b": torch.linspace(-2, 1, 15).view(3, 5)}
AVAILABLE = torch.tensor([[True, True], [False, True], [True, True]])


def with_priors() -> SMILForToy:
    net = rival(SMILForToy)
    net.set_priors(torch.arange(24.0).view(2, 2, 6) / 10)
    return net


@torch.no_grad()
def test_without_priors_the_mean_fills() -> None:
    net = rival(SMILForToy).eval()
    (fused,) = net.fuse(net.encode(INPUTS, AVAILABLE)).skips
    torch.testing.assert_close(fused[1], net.encoders["b"](INPUTS["b"])[1].expand(2, 6))


@torch.no_grad()
def test_reconstruction_and_perturbation_by_hand() -> None:
    net = with_priors().eval()
    net.perturb.weight.normal_(std=0.1)
    (fused,) = net.fuse(net.encode(INPUTS, AVAILABLE)).skips
    a, b = (net.encoders[name](INPUTS[name]) for name in "ab")
    torch.testing.assert_close(fused[[0, 2]], torch.stack([a, b], 1)[[0, 2]])  # complete: as they are
    scores = softplus(net.reconstruct(torch.cat([torch.zeros(6), b[1]])))[:2]
    first = (scores[0] * net.priors[0, 0] + scores[1] * net.priors[0, 1]) / scores.sum()
    filled = torch.cat([first, b[1]])
    torch.testing.assert_close(fused[1].flatten(), filled * softplus(net.perturb(filled)))


@torch.no_grad()
def test_perturbations_are_drawn_in_training_and_start_around_one() -> None:
    net = with_priors()
    net.encoders.eval()
    streams = net.encode(INPUTS, AVAILABLE)
    evaluated = net.eval().fuse(streams).skips[0]
    torch.manual_seed(0)
    r = math.log(math.e - 1) + torch.randn(3, 2, 6)
    torch.manual_seed(0)
    (drawn,) = net.train().fuse(streams).skips
    torch.testing.assert_close(drawn[1], evaluated[1] * softplus(r[1]))
    torch.testing.assert_close(drawn[0], evaluated[0])


def test_priors_are_cluster_centres() -> None:
    net = rival(SMILForToy)
    groups = torch.cat([torch.full((3, 2, 6), -1.0), torch.full((5, 2, 6), 2.0)])
    net.set_priors(groups)
    assert sorted(net.priors[0, :, 0].tolist()) == pytest.approx([-1, 2]) and bool(net.has_priors)
    before = net.priors.clone()
    net.set_priors(groups + 0.1)  # each stays what it was
    torch.testing.assert_close(net.priors, before + 0.1)
    net.set_priors(groups[:1])
    assert net.priors.unique().tolist() == [-1]


def test_the_inner_step_by_hand() -> None:
    theta, psi = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    starred = inner_update({"theta": theta, "unused": psi}, theta.square() * psi.detach(), 0.1)
    assert starred["theta"].item() == pytest.approx(2 - 0.1 * 2 * 2 * 3) and starred["unused"] is psi
    starred = inner_update({"theta": theta}, theta.square() * psi, 0.1)
    (gradient,) = torch.autograd.grad(starred["theta"].square(), psi)
    assert gradient.item() == pytest.approx(2 * 0.8 * (-0.1 * 2 * 2))  # through the step


def made(net: SMILForToy, iterations: int = 30) -> SMIL:
    method = SMIL()
    method.setup(TrainingContext(net.modalities, torch.device("cpu"), iterations=iterations))
    return method


def test_every_term_is_there_and_every_part_learns() -> None:
    net = with_priors()
    batch = Batch(INPUTS, AVAILABLE, AVAILABLE, torch.tensor([0, 1, 1]))
    result = made(net).step(net, batch, torch.nn.functional.cross_entropy)
    assert set(result["parts"]) == {"task", "complete", "hidden", "align"} and all(result["parts"].values())
    torch.testing.assert_close(result["loss"], torch.stack(list(result["parts"].values())).sum())
    result["loss"].backward()
    moved = {name.split(".")[0] for name, w in net.named_parameters() if w.grad is not None and w.grad.any()}
    assert moved == {"encoders", "head", "reconstruct", "perturb"}


def test_the_first_priors_come_after_the_warm_up() -> None:
    net = rival(SMILForToy)
    method = made(net)
    batch = Batch(INPUTS, AVAILABLE, AVAILABLE, torch.tensor([0, 1, 1]))
    for iteration, expected in ((8, False), (9, True)):
        method.start_iteration(net, torch.nn.functional.cross_entropy, iteration)
        assert set(method.step(net, batch, torch.nn.functional.cross_entropy)["parts"]) == {"task"}
        method.end_epoch(net, 0)
        assert bool(net.has_priors) is expected
