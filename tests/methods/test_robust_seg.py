"""RobustSeg on a small network: each term by hand, what it reaches, what leaves no trace."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from fusion_networks import NAMES, network
from test_auxiliary import deep_loss
from test_uhved import AVAILABLE, PRESENT, M, a_batch
from tiny_nnunet import differences
from torch.distributions import Normal, kl_divergence

from nnunetv2_mmkd.methods.base import Batch, ExtraNetwork, TrainingContext
from nnunetv2_mmkd.methods.robust_seg import RobustSeg, RobustSegConfig
from nnunetv2_mmkd.networks.fusion.gated import GatedFusion
from nnunetv2_mmkd.networks.fusion.sfusion import SFusion


def made(fusion: Any = GatedFusion, **config: Any) -> tuple[Any, RobustSeg]:
    torch.manual_seed(0)
    net, method = network(fusion), RobustSeg(RobustSegConfig(**config))
    make = {ExtraNetwork: lambda: network(fusion)}
    method.setup(TrainingContext(NAMES[:M], torch.device("cpu"), iterations=9, capabilities=make))
    return net, method


@pytest.mark.parametrize("fusion", [GatedFusion, SFusion])
@torch.no_grad()
def test_the_parts_by_hand(one_thread: None, fusion: Any) -> None:
    net, method = made(fusion)
    batch = a_batch()
    found = method.step(net, batch, deep_loss)
    skips = net.fuse(net.encode(batch.images, AVAILABLE)).skips
    torch.testing.assert_close(found["parts"]["task"], deep_loss(net.decode(skips), batch.target))
    errors, priors = [], []
    for n in range(2):
        for m in range(M):
            if PRESENT[n, m]:
                encoder, decoder = method.appearance[m], method.decoders[m]
                style = decoder.style(encoder(batch.images[n, m][None, None]))
                image = decoder(skips[-1][n, None], style, [skip.shape[2:] for skip in skips])
                errors.append((image[0, 0] - batch.images[n, m]).abs().mean())
                norms = Normal(style[0], (style[1].square() + 1e-5).sqrt())
                priors.append(kl_divergence(norms, Normal(0.0, 1.0)).sum())
    torch.testing.assert_close(
        found["parts"]["reconstruction"], 0.1 * torch.stack(errors).sum() / 2, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(found["parts"]["prior"], 0.1 * torch.stack(priors).sum() / 2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["loss"], sum(found["parts"].values()))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            "reconstruction",
            {"content 0", "content 1", "gates", *(f"{p} {m}" for m in range(M) for p in ("look", "image"))},
        ),
        ("prior", {*(f"{p} {m}" for m in range(M) for p in ("look", "image"))}),
    ],
)
def test_what_each_part_trains(one_thread: None, part: str, expected: set[str]) -> None:
    """The prior knows appearances alone; nothing but the task trains the decoder of segmentations."""
    net, method = made()
    batch = a_batch()
    skips = net.fuse(net.encode(batch.images, AVAILABLE)).skips
    method.tables(skips, batch)[part == "prior"].sum().backward()
    modules = {f"content {m}": encoder.stages for m, encoder in enumerate(net.encoders)}
    modules |= {"gates": net.fusions[-1], "decoder": net.decoder.stages}
    modules |= {f"look {m}": each for m, each in enumerate(method.appearance)}
    modules |= {f"image {m}": each.perceptron for m, each in enumerate(method.decoders)}
    reached = {
        name
        for name, module in modules.items()
        if any(weight.grad is not None and bool(weight.grad.any()) for weight in module.parameters())
    }
    assert reached == expected


def test_ignored_voxels_and_missing_channels_leave_no_trace(one_thread: None) -> None:
    valid = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    valid[:, :, :8] = False
    net, method = made()
    batch = a_batch(valid)  # NaN in what is missing
    parts = method.step(net, batch, deep_loss)["parts"]
    assert all(torch.isfinite(value) and float(value) != 0 for value in parts.values())
    assert float(parts["reconstruction"]) != float(method.step(net, a_batch(), deep_loss)["parts"]["reconstruction"])
    other = Batch(batch.images.nan_to_num(7.0), AVAILABLE, PRESENT, batch.target, valid)
    assert differences(parts, method.step(net, other, deep_loss)["parts"]) == []


def test_recomputation_gives_the_same_gradients(one_thread: None) -> None:
    found = []
    for stages in (0, 2):
        net, method = made()
        net.recomputed_stages, method.recomputes = stages, stages > 0
        method.step(net, a_batch(), deep_loss)["loss"].backward()
        weights = [weight for module in (net, *method.trainable()) for weight in module.parameters()]
        found.append([weight.grad for weight in weights if weight.grad is not None])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_without_reconstruction_nothing_further_exists_and_the_state_is_what_is_trained(one_thread: None) -> None:
    net, method = made(reconstruction=0.0, prior=0.0)
    assert method.step(net, a_batch(), deep_loss)["parts"].keys() == {"task"} and method.trainable() == ()
    assert set(method.curves()) == {"loss/task"}
    net, method = made(prior=0.0)
    assert method.step(net, a_batch(), deep_loss)["parts"].keys() == {"task", "reconstruction"}
    assert set(method.curves()) == set(method.curve_names())
    state = copy.deepcopy(method.state_dict())
    with torch.no_grad():
        for module in method.trainable():
            next(module.parameters()).add_(1)
    assert len(differences(state, method.state_dict())) == 2 * M
    method.load_state_dict(state)
    assert differences(state, method.state_dict()) == []


@pytest.mark.parametrize(("name", "value"), [("reconstruction", -1.0), ("prior", float("nan"))])
def test_impossible_values_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        RobustSegConfig(**{name: value})
    with pytest.raises(ValueError, match="trains nothing"):
        RobustSegConfig(reconstruction=0.0)
