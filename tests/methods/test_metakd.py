"""MetaKD: its two problems, on a small multi-stream network of plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
import torch
from fusion_networks import network as fusion_network
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from nnunetv2_mmkd.methods.base import Batch, NextMetaBatch, TrainingContext
from nnunetv2_mmkd.methods.metakd import MetaKD
from nnunetv2_mmkd.methods.metakd_config import MetaKDConfig
from nnunetv2_mmkd.networks.frozen_norms import InstanceStatistics
from nnunetv2_mmkd.networks.fusion.m2ftrans import M2FTransFusion
from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFill
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.networks.fusion.rfnet import RFNetFusion
from nnunetv2_mmkd.networks.fusion.scale_spec import ScaleSpec
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet
from nnunetv2_mmkd.networks.tied import tied_encoders

NAMES = ("a", "b", "c", "d")


class Encoder(nn.Module):
    """Two stages, for 1-d signals."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.stages = nn.Sequential(nn.Conv1d(1, width, 1), nn.Conv1d(width, width, 2, 2))


class Decoder(nn.Module):
    """Upsamples the bottleneck and adds the skip; no activation, so that the network is linear."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.head = nn.Conv1d(width, 1, 1)

    def forward(self, skips: list[Tensor]) -> Tensor:
        return self.head(skips[0] + skips[1].repeat_interleave(2, -1))


def network(m: int = 4, seed: int = 0) -> MultiStreamUNet:
    torch.manual_seed(seed)
    scales = [ScaleSpec(m, index, 3, (8 >> index,), 1, True, None) for index in range(2)]
    return MultiStreamUNet([Encoder()], MeanFill(scales), Decoder(), NAMES[:m])


def batch(b: int = 2, m: int = 4, available: Tensor | None = None, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    there = torch.ones(b, m, dtype=torch.bool)
    images = torch.randn(b, m, 8, generator=generator)
    return Batch(images, there if available is None else available, there, torch.randn(b, 1, 8, generator=generator))


def method(config: MetaKDConfig, meta: Callable[[], Batch] = batch, m: int = 4) -> MetaKD:
    made = MetaKD(config)
    made.setup(TrainingContext(NAMES[:m], torch.device("cpu"), capabilities={NextMetaBatch: meta}))
    return made


@pytest.mark.parametrize("p", [1, 2])
def test_the_loss_is_eq_4(p: int) -> None:
    net, made = network(), method(MetaKDConfig(alpha=0.3, p=p))
    available = torch.tensor([[True, True, False, True], [False, False, True, False]])
    data = batch(available=available)
    result = made.step(net, data, mse_loss)

    w = made.importance.normalised().detach()
    f = {m: net.encoders[0].stages(data.images[:1, m : m + 1])[0] for m in (0, 1, 3)}
    power = (lambda d: d.abs()) if p == 1 else (lambda d: d**2)
    pairs = sum(w[i] / w[j] * power(f[i] - f[j]).mean() for i, j in permutations((0, 1, 3), 2))
    task = mse_loss(net(data.images, available), data.target)
    assert torch.allclose(result["loss"], task + 0.3 * pairs / 2, rtol=1e-5)  # the second sample has no pair
    assert result["parts"]["distillation"] > 0


def test_ratios_push_the_less_important_harder() -> None:
    net, made = network(), method(MetaKDConfig(alpha=1.0))
    with torch.no_grad():
        made.importance.w.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    available = torch.tensor([[True, True, False, False]])
    streams = net.encode(batch(b=1).images, available)
    features = [f.detach().requires_grad_(True) for f in streams.bottleneck]
    streams = type(streams)(streams.available, streams.pairs, (*streams.scales[:-1], tuple(features)))
    made.distillation(streams, None)[0].backward()
    pull_on_important, pull_on_other = (f.grad.abs().sum() for f in features)
    assert pull_on_other / pull_on_important == pytest.approx(torch.tensor(2.0).exp().item(), rel=1e-4)


def test_distillation_reaches_the_encoder_and_not_the_importance_weights() -> None:
    net, made = network(), method(MetaKDConfig())
    streams = net.encode(batch().images)
    made.distillation(streams, None)[0].backward()
    assert net.encoders[0].stages[0].weight.grad.abs().sum() > 0
    assert made.importance.w.grad is None
    assert net.fusions[0].weight.grad is None


def test_alpha_zero_is_the_task_loss_bit_for_bit() -> None:
    data = batch()
    losses = [
        method(MetaKDConfig(alpha=0.0, ratios=kind)).step(network(), data, mse_loss)["loss"]
        for kind in ("learned", "equal")
    ]
    plain = mse_loss(network()(data.images, data.available), data.target)
    assert torch.equal(losses[0], plain) and torch.equal(losses[1], plain)


def test_equal_ratios_are_a_plain_sum_over_pairs() -> None:
    net, made = network(), method(MetaKDConfig(alpha=1.0, ratios="equal"))
    data = batch(b=1)
    f = [net.encoders[0].stages(data.images[:, m : m + 1])[0] for m in range(4)]
    expected = sum((f[i] - f[j]).abs().mean() for i, j in permutations(range(4), 2))
    assert torch.allclose(made.distillation(net.encode(data.images), None)[0], expected)
    assert made.state_dict() == {} and not made.needs_meta_split


@pytest.mark.parametrize("scales", ["bottleneck", "all"])
def test_the_meta_gradient_is_that_of_the_printed_objective(scales: str) -> None:
    """Finite differences of the outer loss of Eq. (4), features times softmax(w)."""
    net = network().double()
    made = method(MetaKDConfig(meta_scales=scales, init="zeros", meta_steps=1, meta_interval=1))
    data = batch()
    data = Batch(data.images.double(), data.available, data.present, data.target.double())
    w = torch.tensor([0.3, -0.2, 0.1, 0.0], dtype=torch.double)

    def outer(w: Tensor) -> float:
        s = w.softmax(0)
        skips = []
        for scale in range(2):
            rows = []
            for b in range(2):
                feats = [net.encoded(net.encoders[0], [data.images[b, m]])[scale][0] for m in range(4)]
                scaled = scale == 1 or scales == "all"
                fusion = net.fusions[scale]
                total = sum(fusion.weight[m] @ (feats[m] * (s[m] if scaled else 1)) for m in range(4))
                rows.append(total + fusion.bias[:, None])
            skips.append(torch.stack(rows))
        return float(mse_loss(net.decoder(skips), data.target))

    numeric = torch.zeros(4)
    for m in range(4):
        step = torch.zeros(4, dtype=torch.double)
        step[m] = 1e-5
        numeric[m] = (outer(w + step) - outer(w - step)) / 2e-5
    seen: list[Tensor] = []
    made.importance.w.data = w.clone()
    made.importance.apply = seen.append
    made.context = TrainingContext(NAMES, torch.device("cpu"), capabilities={NextMetaBatch: lambda: data})
    made.start_iteration(net, mse_loss, 0)
    assert torch.allclose(seen[0].float(), numeric, atol=1e-6)


def test_a_meta_update_changes_the_importance_weights_and_nothing_else() -> None:
    net, made = network(), method(MetaKDConfig(meta_steps=5))
    net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    w = made.importance.w.detach().clone()
    made.start_iteration(net, mse_loss, 0)
    assert not torch.equal(w, made.importance.w)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert net.training and made.meta_updates == 5


def test_the_interval() -> None:
    made = method(MetaKDConfig(meta_steps=2, meta_interval=3))
    net = network()
    for iteration in range(7):
        made.start_iteration(net, mse_loss, iteration)
    assert made.meta_updates == 6  # at 0, 3 and 6
    code = MetaKD(replace(MetaKDConfig.released_code(), meta_steps=1))
    code.setup(TrainingContext(NAMES, torch.device("cpu"), capabilities={NextMetaBatch: batch}, warmup_iterations=300))
    for iteration in range(1001):
        code.start_iteration(net, mse_loss, iteration)
    assert code.meta_updates == 3 + 2  # 0, 100, 200; then 500 and 1000


def test_a_held_out_batch_is_encoded_once_and_serves_several_steps() -> None:
    """The same importance weights, bit for bit, as from a meta split that repeats its batches at every step."""
    found, encoded = [], []
    for batches, order in ((5, (1, 1, 1, 2, 2)), (2, (1, 2))):
        net, seeds = network(), iter(order)
        net.decoder = Normed()
        made = method(MetaKDConfig(meta_steps=5, meta_batches=batches), meta=lambda left=seeds: batch(seed=next(left)))
        calls: list[int] = []
        encode = net.encode
        net.encode = lambda *args, own=encode, kept=calls: kept.append(1) or own(*args)  # type: ignore[func-returns-value]
        made.start_iteration(net, mse_loss, 0)
        assert next(seeds, None) is None and made.meta_updates == 5
        found.append(made.importance.w.detach())
        encoded.append(len(calls))
    assert torch.equal(*found) and encoded == [5, 2]


@pytest.mark.parametrize(("steps", "batches", "served"), [(20, 2, (10, 10)), (5, 3, (2, 2, 1)), (2, 4, (1, 1))])
def test_steps_are_spread_over_the_batches(steps: int, batches: int, served: tuple[int, ...]) -> None:
    assert MetaKDConfig(meta_steps=steps, meta_batches=batches).steps_of_batches() == served


@pytest.mark.parametrize(("config", "penalty"), [(MetaKDConfig(), 5e-5), (MetaKDConfig.released_code(), 5e-4)])
def test_the_l2_penalty_of_the_importance_weights(config: MetaKDConfig, penalty: float) -> None:
    made = method(config)
    assert made.importance is not None
    (group,) = made.importance.optimizer.param_groups
    assert group["weight_decay"] == penalty


def test_a_gradient_that_is_not_finite_is_skipped() -> None:
    net = network()
    data = batch()
    bad = Batch(data.images * float("nan"), data.available, data.present, data.target)
    made = method(MetaKDConfig(meta_steps=1), meta=lambda: bad)
    w = made.importance.w.detach().clone()
    made.start_iteration(net, mse_loss, 0)
    assert torch.equal(w, made.importance.w) and made.meta_updates == 0


def test_ends_on_the_informative_modality() -> None:
    """A linear case: the target is modality 2; a decoder trained with all features at 1 is then asked for weights."""
    torch.manual_seed(0)
    net, generator = network(), torch.Generator().manual_seed(5)

    def informative() -> Batch:
        images = torch.randn(8, 4, 8, generator=generator)
        target = images[:, 2:3, ::2].repeat_interleave(2, -1)  # what the bottleneck can say
        there = torch.ones(8, 4, dtype=torch.bool)
        return Batch(images, there, there, target)

    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(400):
        data = informative()
        optimizer.zero_grad()
        skips = net.fuse(net.encode(data.images, data.available)).skips
        mse_loss(net.decode([skips[0] * 0, skips[1]]), data.target).backward()
        optimizer.step()
    with torch.no_grad():
        net.fusions[0].weight.zero_()
        net.fusions[0].bias.zero_()
    made = method(MetaKDConfig(init="zeros", meta_steps=300, meta_scales="bottleneck"), meta=informative)
    made.start_iteration(net, mse_loss, 0)
    weights = made.importance.normalised()
    assert weights.argmax() == 2
    assert weights[2] > 0.5


def test_ignored_positions_are_left_out_of_the_distillation() -> None:
    net, made = network(), method(MetaKDConfig())
    data = batch(b=1)
    valid = torch.ones(1, 1, 8, dtype=torch.bool)
    valid[..., 4:] = False
    term = made.distillation(net.encode(data.images), valid)[0]
    data.images[..., 4:] += 100
    assert torch.allclose(made.distillation(net.encode(data.images), valid)[0], term)


def test_a_step_leaves_ignored_positions_out_of_the_distillation() -> None:
    net, made = network(), method(MetaKDConfig())
    valid = torch.ones(2, 1, 8, dtype=torch.bool)
    valid[..., 4:] = False
    data = replace(batch(), valid=valid)
    clean = made.step(net, data, mse_loss)["parts"]["distillation"]
    data.images[..., 4:] += torch.arange(4)[:, None] * 100.0
    assert torch.allclose(made.step(net, data, mse_loss)["parts"]["distillation"], clean)
    assert not torch.allclose(made.step(net, replace(data, valid=None), mse_loss)["parts"]["distillation"], clean)


def test_the_distillation_per_pair_is_a_mean_over_pairs() -> None:
    """Whatever the size of the batch and what its samples lack: 6 ordered pairs of one sample, 2 of another."""
    net, made = network(), method(MetaKDConfig(ratios="equal", alpha=0.3))
    available = torch.tensor([[True, True, True, False], [False, True, False, True], [True, False, False, False]])
    data = batch(3, available=available)
    made.step(net, data, mse_loss)
    distances = []
    for _, features in net.encode(data.images, available).by_sample():
        pairs = permutations(features.detach(), 2)
        distances += [float((first - second).abs().mean()) for first, second in pairs]
    assert len(distances) == 8
    assert made.curves()["distillation per pair/mean"] == pytest.approx(sum(distances) / 8, rel=1e-5)


def test_curves_are_complete_and_start_anew() -> None:
    net, made = network(), method(MetaKDConfig(meta_steps=1))
    made.start_iteration(net, mse_loss, 0)
    made.step(net, batch(), mse_loss)
    curves = made.curves()
    assert set(made.curve_names()) == set(curves)
    assert sum(curves[f"importance/{name}"] for name in NAMES) == pytest.approx(1)
    assert all(value == value for value in curves.values())
    again = made.curves()
    assert again["loss/task"] != again["loss/task"]  # NaN: nothing since
    assert again["importance/a"] == curves["importance/a"]


def test_bad_configurations() -> None:
    with pytest.raises(ValueError, match="ratios"):
        MetaKDConfig(ratios="learnt")
    with pytest.raises(ValueError, match="meta_interval"):
        MetaKDConfig(meta_interval=0)
    with pytest.raises(ValueError, match="meta_batches must be at least 1, not 0"):
        MetaKDConfig(meta_batches=0)
    with pytest.raises(ValueError, match="after_warmup must be at least 1"):
        MetaKDConfig(meta_interval_after_warmup=-1)


class Normed(Decoder):
    """The same decoder behind instance norms, as a planned U-Net has them."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.InstanceNorm1d(3, eps=1e-8) for _ in range(2))

    def forward(self, skips: list[Tensor]) -> Tensor:
        return super().forward([norm(skip) for norm, skip in zip(self.norms, skips, strict=True)])


def meta_gradient(config: MetaKDConfig, net: MultiStreamUNet, data: Batch) -> Tensor:
    made = method(config, meta=lambda: data)
    assert made.importance is not None
    made.importance.w.data = torch.tensor([0.3, -0.2, 0.1, 0.0])
    seen: list[Tensor] = []
    made.importance.apply = seen.append  # type: ignore[method-assign]
    made.start_iteration(net, mse_loss, 0)
    return seen[0]


@pytest.mark.parametrize("statistics", ["reference", "own"])
def test_norms_keep_the_statistics_of_the_unweighted_features(statistics: str) -> None:
    """The gradient, by autograd of the objective written out: norm(s·f) by the moments of f, or by its own."""
    net, data = network(), batch()
    net.decoder = Normed()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = meta_gradient(MetaKDConfig(init="zeros", meta_steps=1, meta_statistics=statistics), net, data)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())

    w = torch.tensor([0.3, -0.2, 0.1, 0.0], requires_grad=True)
    with torch.no_grad():
        streams = net.encode(data.images)
        plain = net.fuse(streams).skips
    skips = []
    for weighted, reference in zip(net.fuse(streams, weights=[w.softmax(0)] * 2).skips, plain, strict=True):
        moments = reference if statistics == "reference" else weighted
        mean, variance = moments.mean(-1, keepdim=True), moments.var(-1, correction=0, keepdim=True)
        skips.append((weighted - mean) / (variance + 1e-8).sqrt())
    mse_loss(Decoder.forward(net.decoder, skips), data.target).backward()
    assert w.grad is not None and w.grad.abs().max() > 1e-3
    assert torch.allclose(found, w.grad, atol=1e-5)


@pytest.mark.parametrize("fusion", [MeanFill, MMFormerFusion, RFNetFusion, M2FTransFusion], ids=lambda f: f.__name__)
@pytest.mark.parametrize("scales", ["all", "bottleneck"])
@pytest.mark.parametrize("statistics", ["reference", "own"])
def test_a_meta_update_on_every_fusion(fusion: Any, scales: str, statistics: str) -> None:
    """A finite gradient, not zero, for every modality; incomplete samples, real and filled features."""
    torch.manual_seed(0)
    net = fusion_network(fusion)
    available = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    data = Batch(torch.randn(3, 3, 16, 16), available, available, torch.randint(0, 2, (3, 16, 16)))
    made = method(MetaKDConfig(meta_steps=1, meta_scales=scales, meta_statistics=statistics), meta=lambda: data, m=3)
    seen: list[Tensor] = []
    made.importance.apply = seen.append  # type: ignore[method-assign, union-attr]
    made.start_iteration(net, lambda outputs, target: nn.functional.cross_entropy(outputs[0], target), 0)
    assert torch.isfinite(seen[0]).all() and (seen[0].abs() > 1e-7).all()


def test_tied_encoders_take_meta_updates() -> None:
    torch.manual_seed(0)
    planned = fusion_network(MeanFill)
    net = MultiStreamUNet(tied_encoders(planned.encoders[0], 3), planned.fusions, planned.decoder, NAMES[:3])
    data = Batch(torch.randn(2, 3, 16, 16), *[torch.ones(2, 3).bool()] * 2, torch.randint(0, 2, (2, 16, 16)))
    made = method(MetaKDConfig(meta_steps=1), meta=lambda: data, m=3)
    seen: list[Tensor] = []
    made.importance.apply = seen.append  # type: ignore[method-assign, union-attr]
    made.start_iteration(net, lambda outputs, target: nn.functional.cross_entropy(outputs[0], target), 0)
    assert torch.isfinite(seen[0]).all() and (seen[0].abs() > 1e-7).all()


@torch.no_grad()
@pytest.mark.parametrize("fusion", [MMFormerFusion, RFNetFusion, M2FTransFusion], ids=lambda f: f.__name__)
def test_statistics_of_norms_are_those_of_each_sample(fusion: Any) -> None:
    """A fusion calls its norms for each sample: with equal features, recorded statistics change nothing."""
    torch.manual_seed(0)
    net = fusion_network(fusion).eval()
    streams = net.encode(torch.randn(3, 3, 16, 16), torch.tensor([True, False, True]))
    statistics = InstanceStatistics(net)
    with statistics.record():
        plain = net.decode(net.fuse(streams).skips)
    with statistics.reuse():
        again = net.decode(net.fuse(streams, weights=[torch.ones(3)] * 3).skips)
    for first, second in zip(plain, again, strict=True):
        torch.testing.assert_close(first, second)


def test_the_released_code_has_norms_of_their_own() -> None:
    net, data = network(), batch()
    net.decoder = Normed()
    code = meta_gradient(replace(MetaKDConfig.released_code(), meta_steps=1), net, data)
    own = meta_gradient(MetaKDConfig(meta_steps=1, meta_scales="bottleneck", meta_statistics="own"), net, data)
    assert torch.equal(code, own)
