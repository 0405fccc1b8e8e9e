"""PASSION as a method: every term reaches the network through the students only, switches, batches, state."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from fusion_networks import network as fusion_network
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_mmkd.losses.logit import softened_kl
from nnunetv2_mmkd.losses.prototype import semantic_gap
from nnunetv2_mmkd.methods.base import Batch, LocalLoss, MembershipClasses, MissingRates, TrainingContext
from nnunetv2_mmkd.methods.passion import PASSION, PASSIONConfig
from nnunetv2_mmkd.methods.preference import relative_preference
from nnunetv2_mmkd.methods.self_distillation import SelfDistillation, Together
from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFill
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.networks.fusion.rfnet import RFNetFusion
from nnunetv2_mmkd.networks.fusion.scale_spec import scale_specs
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet

NAMES = ("t1", "t1ce", "flair")
RATES = (0.5, 0.0, 0.75)


def tiny_network() -> MultiStreamUNet:
    torch.manual_seed(0)
    planned = PlainConvUNet(
        1, 3, [4, 6, 8], nn.Conv2d, 3, [1, 2, 2], 1, 3, 1, True, nn.InstanceNorm2d, {"affine": True},
        nonlin=nn.LeakyReLU, deep_supervision=True,
    )  # fmt: skip
    fusion = MeanFill(scale_specs(planned.encoder, (16, 16), len(NAMES), 3))
    return MultiStreamUNet([planned.encoder], fusion, planned.decoder, NAMES)


def task_loss(outputs: list[Tensor], target: list[Tensor]) -> Tensor:
    return nn.functional.cross_entropy(outputs[0], target[0])


def classes(target: list[Tensor]) -> tuple[Tensor, int]:
    return target[0], 3


def prepared(config: PASSIONConfig | None = None, epochs: int = 300, rates: tuple[float, ...] = RATES) -> PASSION:
    method = PASSION(config)
    method.setup(
        TrainingContext(
            NAMES,
            torch.device("cpu"),
            epochs=epochs,
            capabilities={MissingRates: lambda: rates, MembershipClasses: classes},
        )
    )
    method.begin()
    return method


def predictions(method: PASSION, network: MultiStreamUNet) -> SelfDistillation:
    return SelfDistillation(network, method.config, method.context, task_loss, recomputing=False)


def distances(method: PASSION, network: MultiStreamUNet, batch: Batch) -> Tensor:
    """D of Eq. (9)."""
    with torch.no_grad():
        streams, ours = network.encode(batch.images, batch.available), predictions(method, network)
        return ours.alone(streams, ours.together(streams), batch).distance


def a_batch(masks: list[list[int]], seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    available = torch.tensor(masks).bool()
    images = torch.randn(len(masks), 3, 16, 16, generator=generator)
    images = torch.where(available[:, :, None, None], images, float("nan"))
    target = torch.randint(0, 3, (len(masks), 16, 16), generator=generator)
    return Batch(images, available, available, [target, target[:, ::2, ::2]])


MIXED = [[1, 1, 1], [1, 0, 1], [0, 1, 0]]


def test_the_terms_by_hand() -> None:
    """Each from the public functions, with a forward pass per sample and subset."""
    method, network, batch = prepared(), tiny_network(), a_batch(MIXED)
    parts = method.step(network, batch, task_loss)["parts"]
    pixel = proto = 0.0
    beta = [2.0, 1.0, 4.0]
    for sample, mask in enumerate(batch.available):
        if mask.sum() < 2:
            continue
        image = batch.images[sample, None]
        outputs, features = network.decode_with_features(network.fuse(network.encode(image, mask)).skips)
        distance, terms = torch.zeros(1, 3), {}
        for m in torch.nonzero(mask).flatten().tolist():
            alone = torch.zeros(3, dtype=torch.bool)
            alone[m] = True
            found, own = network.decode_with_features(network.fuse(network.encode(image, alone)).skips)
            gap, terms[m] = semantic_gap(features, own, batch.target[0][sample, None], 3)
            distance[0, m] = gap
            pixel += beta[m] * float(softened_kl(outputs[0], found[0], exclusive=True, tau=4.0).detach())
        preference = relative_preference(distance, mask[None])[0]
        proto += sum(float(value.detach()) for m, value in terms.items() if preference[m] < 0)
    assert float(parts["pixel"]) == pytest.approx(0.5 * pixel / 3, rel=1e-4)
    assert float(parts["proto"]) == pytest.approx(0.1 * proto / 3, rel=1e-4)
    expected = task_loss(network(batch.images, batch.available), batch.target)
    assert float(parts["task"]) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("term", ["pixel", "proto", "regularisation"])
def test_each_term_reaches_the_students_and_no_missing_modality(term: str) -> None:
    off = PASSIONConfig(pixel=False, proto=False, mask=False)
    method, network = prepared(replace(off, **{term: True})), tiny_network()
    batch = a_batch([[1, 1, 0], [1, 1, 0]])
    result = method.step(network, batch, task_loss)
    assert set(result["parts"]) == {"task", term} and float(result["parts"][term]) > 0
    (result["loss"] - task_loss(network(batch.images, batch.available), batch.target)).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 1e-6 for p in network.encoders.parameters())
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_the_teacher_is_not_moved() -> None:
    """With the fused prediction replaced by leaves, distillation has no gradient for them."""
    method, network = prepared(), tiny_network()
    batch = a_batch([[1, 1, 1]])
    streams = network.encode(batch.images, batch.available)
    outputs, features = network.decode_with_features(network.fuse(streams).skips)
    leaves = [each.detach().requires_grad_() for each in (outputs[0], features)]
    alone = predictions(method, network).alone(streams, Together(leaves[:1], leaves[1], []), batch)
    (alone.pixel.sum() + alone.proto.sum()).backward()
    assert all(leaf.grad is None for leaf in leaves)


def test_one_modality_is_its_own_teacher() -> None:
    method, network = prepared(PASSIONConfig(mask=False)), tiny_network()
    calls = []
    decode = network.decode_with_features
    network.decode_with_features = lambda skips: calls.append(1) or decode(skips)  # type: ignore[method-assign]
    parts = method.step(network, a_batch([[0, 1, 0], [1, 0, 0]]), task_loss)["parts"]
    assert parts["pixel"] == parts["proto"] == 0 and len(calls) == 1
    method.step(network, a_batch([[1, 1, 1], [1, 0, 1]]), task_loss)
    assert len(calls) == 1 + 1 + 3  # a decode for all, one for each modality
    method.end_epoch(network, 0)
    assert method.preference is not None and torch.isfinite(method.preference).all()


def test_samples_do_not_depend_on_the_batch() -> None:
    network = tiny_network()
    together = prepared().step(network, a_batch(MIXED), task_loss)["parts"]
    batch = a_batch(MIXED)
    singles = []
    for sample in range(3):
        one = Batch(
            batch.images[sample, None], batch.available[sample, None], batch.present[sample, None],
            [each[sample, None] for each in batch.target],
        )  # fmt: skip
        singles.append(prepared().step(network, one, task_loss)["parts"])
    for term in ("pixel", "proto"):
        mean = torch.stack([each[term] for each in singles]).mean()
        assert torch.allclose(together[term], mean, rtol=1e-4)


def test_switches() -> None:
    network, batch = tiny_network(), a_batch([[1, 1, 1]] * 2)
    full = prepared().step(network, batch, task_loss)["parts"]
    unweighted = prepared(PASSIONConfig(weights=False)).step(network, batch, task_loss)["parts"]
    unmasked = prepared(PASSIONConfig(mask=False)).step(network, batch, task_loss)["parts"]
    assert full["pixel"] > unweighted["pixel"] and full["proto"] == unweighted["proto"]
    assert unmasked["proto"] > full["proto"] and unmasked["pixel"] == full["pixel"]
    method = prepared(PASSIONConfig(weights=False))
    method.step(network, batch, task_loss)
    method.end_epoch(network, 0)
    assert torch.equal(method.beta, method.start)  # type: ignore[arg-type]


def test_the_baseline_can_be_watched_without_gradient() -> None:
    off = PASSIONConfig(pixel=False, proto=False, mask=False, weights=False)
    watched, network, batch = prepared(off), tiny_network(), a_batch(MIXED)
    alone = copy.deepcopy(network)
    result = watched.step(network, batch, task_loss)
    result["loss"].backward()
    task_loss(alone(batch.images, batch.available), batch.target).backward()
    for ours, plain in zip(network.parameters(), alone.parameters(), strict=True):
        assert ours.grad is plain.grad is None or torch.equal(ours.grad, plain.grad)
    watched.end_epoch(network, 0)
    curves = watched.curves()
    assert all(curves[f"distance to the teacher/{name}"] > 0 for name in NAMES)
    assert any(curves[f"relative preference/{name}"] != 0 for name in NAMES)
    assert set(curves) == set(watched.curve_names())


def test_recomputing_the_students_changes_nothing() -> None:
    gradients = []
    for recomputes in (False, True):
        method, network = prepared(PASSIONConfig(regularisation=True)), tiny_network()
        method.recomputes = recomputes
        method.step(network, a_batch(MIXED), task_loss)["loss"].backward()
        gradients.append([p.grad for p in network.parameters()])
    for stored, recomputed in zip(*gradients, strict=True):
        assert stored is recomputed is None or torch.allclose(stored, recomputed, atol=1e-7)


def test_recomputed_decoders_run_one_by_one_and_the_fused_ones_last_in_backward(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So backward is through with the students when it comes to them."""
    method, network = prepared(PASSIONConfig()), tiny_network()
    method.recomputes = True
    calls: list[int] = []
    decode = network.decode_with_features
    network.decode_with_features = lambda s: calls.append(len(s[0])) or decode(s)  # type: ignore[method-assign, func-returns-value]
    order: list[str] = []
    student = SelfDistillation._student
    monkeypatch.setattr(SelfDistillation, "_student", lambda *args: order.append("student") or student(*args))  # type: ignore[func-returns-value]
    loss = method.step(network, a_batch(MIXED), task_loss)["loss"]
    assert calls == [1] * (3 + 5)  # three fused predictions, then five students
    order.clear()
    fuse = network.fuse
    network.fuse = lambda s: order.append("fuse") or fuse(s)  # type: ignore[method-assign, func-returns-value]
    loss.backward()
    assert order == ["student", "fuse"] * 5 + ["fuse"] * 3


def test_a_recomputing_step_can_be_counted() -> None:
    """FLOPs, on a fusion with modules of its own."""
    torch.manual_seed(0)
    method, network = prepared(), fusion_network(MMFormerFusion, heads=3)
    method.recomputes = True
    found = []
    for counts in (False, True):
        network.zero_grad(set_to_none=True)
        with FlopCounterMode(display=False) if counts else nullcontext() as counter:
            method.step(network, a_batch(MIXED), task_loss)["loss"].backward()
        found.append([weight.grad for weight in network.parameters() if weight.grad is not None])
    assert counter is not None and counter.get_total_flops() > 0
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(*found, strict=True))


def test_weights_move_by_the_epochs_preference() -> None:
    method, network = prepared(PASSIONConfig(gamma=1.0)), tiny_network()
    assert torch.equal(method.start, torch.tensor([2.0, 1.0, 4.0]))  # type: ignore[arg-type]
    sums, counts = torch.zeros(3), torch.zeros(3)
    for seed in range(3):
        batch = a_batch(MIXED, seed)
        distance = distances(method, network, batch)
        sums += relative_preference(distance, batch.available).sum(0)
        counts += batch.available.sum(0)
        method.step(network, batch, task_loss)
    method.end_epoch(network, 0)
    assert torch.allclose(method.beta, torch.tensor([2.0, 1.0, 4.0]) - sums / counts, atol=1e-5)  # type: ignore[arg-type]
    assert method._sums.sum() == 0


@pytest.mark.parametrize(("epochs", "rate"), [(0, 0.01), (100, 0.01), (300, 0.01), (1000, 0.003)])
def test_the_rate_is_scaled_to_long_trainings(epochs: int, rate: float) -> None:
    assert prepared(epochs=epochs).rate == pytest.approx(rate)


@pytest.mark.parametrize("config", [PASSIONConfig(regularisation=True), PASSIONConfig.released_code()])
def test_the_task_loss_of_single_modalities(config: PASSIONConfig) -> None:
    """Of each sample by itself, by the loss that exchanges nothing between ranks, under its weight."""
    method, network, batch = prepared(config), tiny_network(), a_batch(MIXED)
    sizes: dict[str, list[int]] = {"all": [], "local": []}

    def watched(name: str) -> Any:
        return lambda outputs, target: sizes[name].append(len(outputs[0])) or task_loss(outputs, target)  # type: ignore[func-returns-value]

    method.context = replace(method.context, capabilities={**method.context.capabilities, LocalLoss: watched("local")})
    found = method.step(network, batch, watched("all"))["parts"]["regularisation"]
    assert sizes == {"all": [3], "local": [1] * 5}
    with torch.no_grad():
        streams = network.encode(batch.images, batch.available)
        distance = distances(method, network, batch)
        preference, total = relative_preference(distance, batch.available), 0.0
        for sample, m in streams.pairs:
            weight = [2.0, 1.0, 4.0][m] * float(preference.sum(0)[m] < 0) if config.weighted_regularisation else 1.0
            if batch.available[sample].sum() > 1:
                own = network.decode(network.fuse(streams.alone(m, [sample])).skips)
                total += weight * float(task_loss(own, [each[sample, None] for each in batch.target]))
    assert float(found) == pytest.approx(total / 3, rel=1e-4)


def test_region_maps_are_part_of_l_seg() -> None:
    """RFNet predicts maps of the regions: they get the task loss, too, and train what predicts them."""
    method, network, batch = prepared(), fusion_network(RFNetFusion, heads=3), a_batch(MIXED)
    result = method.step(network, batch, task_loss)
    with torch.no_grad():
        skips, maps = network.fuse(network.encode(batch.images, batch.available))
        expected = task_loss(network.decode(skips), batch.target) + task_loss(maps, batch.target)
    assert len(maps) == 2
    torch.testing.assert_close(result["parts"]["task"], expected)
    result["loss"].backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.fusions.maps[0].head.parameters())


def test_ignored_voxels_do_not_reach_l_pixel() -> None:
    """At every distilled scale: whatever is predicted where the target is unknown, Eq. (3) stays."""
    method, network = prepared(), fusion_network(MeanFill, heads=3, features=(4, 6, 8, 10))
    valid = torch.ones(3, 1, 16, 16, dtype=torch.bool)
    valid[..., 8:] = False
    batch = replace(a_batch(MIXED), valid=valid)
    decode, calls = network.decode_with_features, []

    def spoilt(skips: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        outputs, features = decode(skips)
        calls.append(len(outputs))
        known = [torch.arange(each.shape[-1]) < each.shape[-1] // 2 for each in outputs]
        noise = [torch.randn_like(each) * 9 for each in outputs]
        return [torch.where(*each) for each in zip(known, outputs, noise, strict=True)], features

    clean = method.step(network, batch, task_loss)["parts"]["pixel"]
    unmasked = method.step(network, replace(batch, valid=None), task_loss)["parts"]["pixel"]
    network.decode_with_features = spoilt  # type: ignore[method-assign]
    found = method.step(network, batch, task_loss)["parts"]["pixel"]
    assert set(calls) == {3}  # two scales are distilled
    torch.testing.assert_close(found, clean)
    assert clean > 0 and not torch.isclose(clean, unmasked)


def test_the_released_code_weights_scales_and_takes_one_mask_for_the_batch() -> None:
    torch.manual_seed(0)
    network = fusion_network(MeanFill, heads=3, features=(4, 6, 8, 10))
    batch = a_batch([[1, 1, 1], [1, 1, 1], [1, 0, 1]], seed=6)
    parts = [
        prepared(PASSIONConfig(scale_factor=factor, mask_of=of)).step(network, batch, task_loss)["parts"]
        for factor, of in ((1.0, "sample"), (0.0, "sample"), (0.5, "batch"))
    ]
    both, largest, halved = (each["pixel"] for each in parts)
    torch.testing.assert_close(halved, largest + (both - largest) / 2)
    assert both > largest > 0 and parts[2]["proto"] < 0.9 * parts[0]["proto"]


def test_the_released_codes_epoch() -> None:
    """RP of mean distances over the cases that have a modality; beta over its start of mean square 1; gamma grows."""
    method, network = prepared(PASSIONConfig.released_code(), epochs=3), tiny_network()
    batch = a_batch(MIXED)
    distance = distances(method, network, batch)
    means = distance.sum(0) / batch.available.sum(0)
    preference, ratio = 1 - means / means.mean(), torch.ones(3)
    for epoch, rate in enumerate((0.015, 0.0225, 0.03375)):
        method.step(network, batch, task_loss)
        method.end_epoch(network, epoch)
        torch.testing.assert_close(method.preference, preference)
        ratio = ratio - rate * preference
        ratio = ratio * 3**0.5 / ratio.norm()
        torch.testing.assert_close(method.beta / method.start, ratio)  # type: ignore[operator]


def test_state() -> None:
    method, network = prepared(PASSIONConfig(gamma=1.0)), tiny_network()
    method.step(network, a_batch(MIXED), task_loss)
    method.end_epoch(network, 0)
    other = prepared(rates=(0.0, 0.0, 0.0))
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    other.begin()  # does not start anew
    assert torch.equal(other.beta, method.beta) and torch.equal(other.start, method.start)  # type: ignore[arg-type]


def test_the_released_codes_choices() -> None:
    network, batch = tiny_network(), a_batch([[1, 1, 1]] * 2)
    half = (0.5, 0.5, 0.5)
    paper = prepared(rates=half).step(network, batch, task_loss)["parts"]
    code = prepared(PASSIONConfig.released_code(), rates=half).step(network, batch, task_loss)["parts"]
    assert set(code) == set(paper) | {"regularisation"} and code["regularisation"] > 0
    assert code["pixel"] != paper["pixel"]  # the other direction
    assert torch.allclose(code["proto"], 2 * paper["proto"])  # 1 / (1 - MR)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"divergence_of": "x"}, "divergence_of must be one of student, teacher"),
        ({"tau": 0.0}, "tau must be above 0"),
        ({"lambda_1": -1.0}, "lambda_1 must not be negative"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PASSIONConfig(**wrong)
