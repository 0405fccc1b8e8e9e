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

from nnunetv2_mmkd.methods import robust_seg
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


def step(net: Any, method: RobustSeg, batch: Batch) -> Any:
    torch.manual_seed(5)  # of the codes
    return method.step(net, batch, deep_loss)["parts"]


@pytest.mark.parametrize("prior_of", ["code", "norms"])
@pytest.mark.parametrize("fusion", [GatedFusion, SFusion])
@torch.no_grad()
def test_the_parts_by_hand(one_thread: None, fusion: Any, prior_of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code's sample is half a standard deviation above its mean, that it can be told by hand."""
    monkeypatch.setattr(robust_seg, "sample", lambda own: own.mean + 0.5 * (own.log_variance / 2).exp())
    net, method = made(fusion, prior_of=prior_of)
    batch = a_batch()
    found = method.step(net, batch, deep_loss)
    skips = net.fuse(net.encode(batch.images, AVAILABLE)).skips
    torch.testing.assert_close(found["parts"]["task"], deep_loss(net.decode(skips), batch.target))
    errors, priors = [], []
    for n in range(2):
        for m in range(M):
            if PRESENT[n, m]:
                encoder, decoder = method.appearance[m], method.decoders[m]
                code = encoder(batch.images[n, m][None, None])
                assert code.shape == (1, 16 if prior_of == "code" else 8)
                if prior_of == "code":
                    of_code = Normal(code[:, :8], (code[:, 8:] / 2).exp())
                    code = of_code.mean + 0.5 * of_code.stddev
                style = decoder.style(code)
                image = decoder(skips[-1][n, None], style, [skip.shape[2:] for skip in skips])
                errors.append((image[0, 0] - batch.images[n, m]).abs().mean())
                norms = Normal(style[0], (style[1].square() + 1e-5).sqrt())
                of = of_code if prior_of == "code" else norms
                priors.append(kl_divergence(of, Normal(0.0, 1.0)).sum())
    torch.testing.assert_close(
        found["parts"]["reconstruction"], 0.1 * torch.stack(errors).sum() / 2, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(found["parts"]["prior"], 0.1 * torch.stack(priors).sum() / 2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["loss"], sum(found["parts"].values()))


LOOKS, IMAGES = ({f"{part} {m}" for m in range(M)} for part in ("look", "image"))


@pytest.mark.parametrize(
    ("prior_of", "part", "expected"),
    [
        ("code", "reconstruction", {"content 0", "content 1", "gates"} | LOOKS | IMAGES),
        ("norms", "reconstruction", {"content 0", "content 1", "gates"} | LOOKS | IMAGES),
        ("code", "prior", LOOKS),
        ("norms", "prior", LOOKS | IMAGES),
    ],
)
def test_what_each_part_trains(one_thread: None, prior_of: str, part: str, expected: set[str]) -> None:
    """The prior knows appearances alone; nothing but the task trains the decoder of segmentations."""
    net, method = made(prior_of=prior_of)
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


def test_a_code_is_drawn_anew_in_each_step_and_the_released_one_is_not(one_thread: None) -> None:
    """Images are reconstructed from a sample; both of its halves learn from them."""
    for config, drawn in ((RobustSegConfig(), True), (RobustSegConfig.released_code(), False)):
        net, method = made(prior_of=config.prior_of)
        batch = a_batch()
        skips = net.fuse(net.encode(batch.images, AVAILABLE)).skips
        (first, priors), (second, again) = method.tables(skips, batch), method.tables(skips, batch)
        assert bool((first != second)[PRESENT].all()) == drawn and torch.equal(priors, again)
        first.sum().backward()
        rows = method.appearance[0].code.weight.grad.abs().sum(1)
        assert len(rows) == (16 if drawn else 8) and bool((rows > 0).all())
    assert RobustSegConfig.released_code() == RobustSegConfig(prior_of="norms")


def test_ignored_voxels_and_missing_channels_leave_no_trace(one_thread: None) -> None:
    valid = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    valid[:, :, :8] = False
    net, method = made()
    batch = a_batch(valid)  # NaN in what is missing
    parts = step(net, method, batch)
    assert all(torch.isfinite(value) and float(value) != 0 for value in parts.values())
    assert float(parts["reconstruction"]) != float(step(net, method, a_batch())["reconstruction"])
    other = Batch(batch.images.nan_to_num(7.0), AVAILABLE, PRESENT, batch.target, valid)
    assert differences(parts, step(net, method, other)) == []


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
    with pytest.raises(ValueError, match="prior_of must be one of code, norms, not 'styles'"):
        RobustSegConfig(prior_of="styles")
    with pytest.raises(ValueError, match="trains nothing"):
        RobustSegConfig(reconstruction=0.0)
