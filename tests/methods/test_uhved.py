"""U-HVED on a small network: each term by hand, what it reaches, what leaves no trace."""

from __future__ import annotations

import copy
from itertools import product as every
from typing import Any

import pytest
import torch
from fusion_networks import NAMES, network
from test_auxiliary import deep_loss
from tiny_nnunet import differences
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import interpolate

from nnunetv2_mmkd.losses.gaussian import gaussian_from
from nnunetv2_mmkd.methods.base import Batch, ExtraNetwork, TrainingContext
from nnunetv2_mmkd.methods.uhved import UHVED, UHVEDConfig
from nnunetv2_mmkd.networks.fusion.hved import HVEDFusion

M = 3
AVAILABLE = torch.tensor([[True, False, False], [False, True, False]])
PRESENT = torch.tensor([[True, True, False], [True, True, True]])


def a_batch(valid: Tensor | None = None) -> Batch:
    torch.manual_seed(3)
    target = torch.randint(0, 2, (2, 16, 16))
    smaller = interpolate(target[:, None].float(), (8, 8))[:, 0].long()
    images = torch.where(PRESENT[:, :, None, None], torch.randn(2, M, 16, 16), torch.tensor(float("nan")))
    return Batch(images, AVAILABLE, PRESENT, [target, smaller], valid)


def made(**config: Any) -> tuple[Any, UHVED]:
    torch.manual_seed(0)
    net, method = network(HVEDFusion), UHVED(UHVEDConfig(**config))
    make = {ExtraNetwork: lambda: network(HVEDFusion)}
    method.setup(TrainingContext(NAMES[:M], torch.device("cpu"), iterations=9, capabilities=make))
    return net, method


def total(net: Any, method: UHVED, batch: Batch) -> Any:
    torch.manual_seed(5)  # of the sample
    return method.step(net, batch, deep_loss)


def normal(gaussians: list[Tensor]) -> Normal:
    """Product with the prior, in double precision."""
    means, log_variances = gaussian_from(torch.stack(gaussians))
    precisions = (-log_variances.double()).exp()
    variance = 1 / (1 + precisions.sum(0))
    return Normal(variance * (precisions * means).sum(0), variance.sqrt())


@pytest.mark.parametrize("reference", ["complete", "drawn"])
@torch.no_grad()
def test_divergences_by_hand(one_thread: None, reference: str) -> None:
    """All subsets of what a case has, from PyTorch's distributions."""
    net, method = made(reference=reference)
    batch = a_batch()
    gaussians = net.fusions.gaussians(net.encode(batch.images, PRESENT))
    between, prior = [], []
    for scale, n in every(gaussians.scales, range(2)):
        own = {m: each for each, (b, m) in zip(scale, gaussians.pairs, strict=True) if b == n}
        subsets = [s for s in every(*[(False, True)] * len(own)) if any(s)]
        of = {s: normal([each for each, there in zip(own.values(), s, strict=True) if there]) for s in subsets}
        first = tuple(reference == "complete" or bool(AVAILABLE[n, m]) for m in own)
        apart = [kl_divergence(of[first], of[s]).mean() for s in subsets if s != first]
        between.append(torch.stack(apart).sum() / (len(subsets) - 1))
        standard = Normal(torch.zeros(()).double(), torch.ones(()).double())
        prior.append(torch.stack([kl_divergence(of[s], standard).mean() for s in subsets]).mean())
    parts = total(net, method, batch)["parts"]
    torch.testing.assert_close(parts["subsets"].double(), 0.1 * torch.stack(between).mean(), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(parts["prior"].double(), 0.1 * torch.stack(prior).mean(), rtol=1e-4, atol=1e-7)


@torch.no_grad()
def test_task_and_reconstruction_by_hand(one_thread: None) -> None:
    net, method = made()
    batch = a_batch()
    gaussians = net.fusions.gaussians(net.encode(batch.images, AVAILABLE))
    torch.manual_seed(5)
    latents = []
    for scale in gaussians.scales:  # each sample has one modality
        own = [normal([each]) for each in scale]
        mean, deviation = (torch.stack([getattr(each, part) for each in own]).float() for part in ("mean", "stddev"))
        latents.append(mean + deviation * torch.randn_like(mean))
    skips = net.fusions.widen(latents)
    result = total(net, method, batch)
    parts = result["parts"]
    assert set(parts) == {"task", "subsets", "prior", "reconstruction"}
    torch.testing.assert_close(result["loss"], torch.stack(list(parts.values())).sum())
    torch.testing.assert_close(parts["task"], deep_loss(net.decode(skips), batch.target), rtol=1e-4, atol=1e-5)
    errors = []
    for n in range(2):
        squares = [
            (decoder([skip[n, None] for skip in skips])[0, 0] - batch.images[n, m]).square().mean()
            for m, decoder in enumerate(method.decoders)
            if PRESENT[n, m]
        ]
        errors.append(torch.stack(squares).mean())
    torch.testing.assert_close(parts["reconstruction"], 0.1 * torch.stack(errors).mean(), rtol=1e-4, atol=1e-5)


def reached(net: Any, method: UHVED, batch: Batch, part: str) -> dict[str, bool]:
    """Which modules a part alone sends gradients to."""
    if part == "reconstruction":
        skips = net.fuse(net.encode(batch.images, batch.available)).skips
        method.errors(skips, batch).sum().backward()
    else:
        gaussians = net.fusions.gaussians(net.encode(batch.images, batch.present))
        method.divergences(gaussians, batch)[part == "prior"].backward()
    modules = {f"encoder {m}": encoder.stages for m, encoder in enumerate(net.encoders)}
    modules |= {
        "heads": net.fusions[0].heads,
        "project": net.fusions[0].project,
        "decoder": net.decoder.stages,
    }
    modules |= {f"image {m}": decoder for m, decoder in enumerate(method.decoders)}
    return {
        name: any(weight.grad is not None and bool(weight.grad.any()) for weight in module.parameters())
        for name, module in modules.items()
    }


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("subsets", {"encoder 0", "encoder 1", "encoder 2", "heads"}),
        ("prior", {"encoder 0", "encoder 1", "encoder 2", "heads"}),
        ("reconstruction", {"encoder 0", "encoder 1", "heads", "project", "image 0", "image 1", "image 2"}),
    ],
)
def test_what_each_part_trains(one_thread: None, part: str, expected: set[str]) -> None:
    found = reached(*made(), a_batch(), part)
    assert {name for name, there in found.items() if there} == expected


def test_ignored_voxels_and_missing_channels_leave_no_trace(one_thread: None) -> None:
    valid = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    valid[:, :, :8] = False
    net, method = made()
    batch = a_batch(valid)
    found = total(net, method, batch)["parts"]
    assert all(torch.isfinite(value) and float(value) != 0 for value in found.values())  # NaN in what is missing
    skips = net.fuse(net.encode(batch.images, AVAILABLE)).skips
    before = method.errors(skips, batch)
    spoilt = Batch(torch.where(valid, batch.images, 1e6), AVAILABLE, PRESENT, batch.target, valid)
    assert torch.equal(before, method.errors(skips, spoilt))
    assert total(net, method, a_batch())["parts"]["subsets"] != found["subsets"]


def test_recomputation_gives_the_same_gradients(one_thread: None) -> None:
    found = []
    for stages in (0, 2):
        net, method = made()
        net.recomputed_stages, method.recomputes = stages, stages > 0
        total(net, method, a_batch())["loss"].backward()
        weights = [*net.parameters(), *method.decoders.parameters()]
        found.append([weight.grad for weight in weights if weight.grad is not None])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_many_subsets_are_drawn(one_thread: None) -> None:
    _, method = made(most_subsets=4)
    drawn = method._subsets(3)
    assert len(drawn.unique(dim=0)) == 4 and bool(drawn.any(1).all())
    assert len(method._subsets(2)) == 3


def test_without_a_term_its_modules_do_not_exist_and_the_state_is_the_decoders(one_thread: None) -> None:
    net, method = made(divergence=0.0, reconstruction=0.0)
    assert total(net, method, a_batch())["parts"].keys() == {"task"} and method.trainable() == ()
    assert method.curve_names() == ("loss/task",)
    net, method = made()
    assert set(method.curves()) == set(method.curve_names())
    state = copy.deepcopy(method.state_dict())
    assert not any("encoder" in key for key in state["decoders"])
    with torch.no_grad():
        next(method.decoders.parameters()).add_(1)
    assert differences(state, method.state_dict()) != []
    method.load_state_dict(state)
    assert differences(state, method.state_dict()) == []


@pytest.mark.parametrize(
    ("name", "value"), [("divergence", -1.0), ("reconstruction", float("nan")), ("reference", "x"), ("most_subsets", 0)]
)
def test_impossible_values_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        UHVEDConfig(**{name: value})
    assert UHVEDConfig.released_code().reference == "drawn"
