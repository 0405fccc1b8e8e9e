"""MST-KDNet as a method: every term reaches the student and not the teacher, switches, discriminator, state."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import Tensor, nn

from nnunetv2_mmkd.losses.style import discriminator_loss
from nnunetv2_mmkd.methods.base import Batch, ExtraNetwork, TrainingContext
from nnunetv2_mmkd.methods.mst_kdnet import MSTKDNet
from nnunetv2_mmkd.methods.mst_kdnet_config import TERMS, MSTKDNetConfig, TermWeights
from nnunetv2_mmkd.networks.transformer_unet import TransformerUNet

NAMES = ("t1", "t1ce", "flair")
PAPERS = TERMS[:-1]
EVEN = TermWeights(**dict.fromkeys(PAPERS, 1.0))


def tiny_network() -> TransformerUNet:
    planned = PlainConvUNet(
        3, 3, [4, 6, 8], nn.Conv2d, 3, [1, 2, 2], 1, 3, 1, True, nn.InstanceNorm2d, {"affine": True},
        nonlin=nn.LeakyReLU, deep_supervision=True,
    )  # fmt: skip
    return TransformerUNet(planned.encoder, planned.decoder, NAMES, (4, 4))


def task_loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs[0], target)


def prepared(config: MSTKDNetConfig, iterations: int = 100, **context: Any) -> tuple[MSTKDNet, TransformerUNet]:
    torch.manual_seed(0)
    network = tiny_network()
    method = MSTKDNet(config)
    method.setup(
        TrainingContext(
            NAMES,
            torch.device("cpu"),
            iterations=iterations,
            capabilities={ExtraNetwork: tiny_network},
            **{"exclusive": True, **context},
        )
    )
    method.start_iteration(network, task_loss, 0)
    return method, network


def a_batch(seed: int = 0, valid: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, 16, 16, generator=generator)
    present = torch.tensor([[True, True, True], [True, True, False]])
    available = torch.tensor([[True, False, False], [False, True, False]])
    target = torch.randint(0, 3, (2, 16, 16), generator=generator)
    mask = torch.rand(2, 1, 16, 16, generator=generator) < 0.7 if valid else None
    return Batch(images, available, present, target, mask)


def total(gradients: Any) -> float:
    return float(sum(g.abs().sum() for g in gradients if g is not None))


@pytest.mark.parametrize("exclusive", [True, False], ids=["classes", "regions"])
@pytest.mark.parametrize("term", PAPERS)
def test_each_term_reaches_the_student_and_not_the_teacher(term: str, exclusive: bool) -> None:
    method, network = prepared(MSTKDNetConfig(weights=EVEN), exclusive=exclusive)
    batch = a_batch()
    teacher, student = method.teacher.trace(batch.images, batch.present), network.trace(batch.images, batch.available)
    values = method.distances(teacher, student)
    assert tuple(values) == PAPERS
    assert float(values[term]) > 0
    values[term].backward()
    assert total(p.grad for p in network.parameters()) > 0
    assert total(p.grad for p in method.teacher.parameters()) == 0
    assert total(p.grad for p in method.adversary.discriminator.parameters()) == 0


@pytest.mark.parametrize("term", [term for term in PAPERS if term != "adversarial"])
def test_with_gradients_the_teacher_moves_too(term: str) -> None:
    method, network = prepared(MSTKDNetConfig(weights=EVEN, teacher_gradients=True))
    batch = a_batch()
    teacher, student = method.teacher.trace(batch.images, batch.present), network.trace(batch.images, batch.available)
    method.distances(teacher, student)[term].backward()
    assert total(p.grad for p in method.teacher.parameters()) > 0


def test_the_adversarial_term_never_moves_the_teacher() -> None:
    method, network = prepared(MSTKDNetConfig(weights=EVEN, teacher_gradients=True))
    batch = a_batch()
    teacher, student = method.teacher.trace(batch.images, batch.present), network.trace(batch.images, batch.available)
    method.distances(teacher, student)["adversarial"].backward()
    assert total(p.grad for p in method.teacher.parameters()) == 0


def test_equal_networks_on_equal_images_differ_in_nothing() -> None:
    method, network = prepared(MSTKDNetConfig(weights=EVEN, adversarial=False))
    network.load_state_dict(method.teacher.state_dict())
    batch = a_batch()
    traces = [each.trace(batch.images, batch.present) for each in (method.teacher, network)]
    assert all(abs(float(value.detach())) < 1e-6 for value in method.distances(*traces).values())


def test_the_loss_is_the_weighted_sum() -> None:
    weights = TermWeights(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.0, 0.7, 0.8)
    method, network = prepared(MSTKDNetConfig(weights=weights, tau=3))
    batch = a_batch()
    result = method.step(network, batch, task_loss)
    teacher, student = method.teacher.trace(batch.images, batch.present), network.trace(batch.images, batch.available)
    values = {name: float(value.detach()) for name, value in method.distances(teacher, student).items()}
    expected = 0.7 * task_loss(student.output, batch.target) + 0.8 * task_loss(teacher.output, batch.target)
    expected = float(expected.detach()) + 0.1 * values["attention"] + 0.2 * values["tokens"] + 0.3 * values["logit_mse"]
    expected += 0.4 * 9 * values["kl"] + 0.5 * values["style"] + 0.6 * values["adversarial"]  # Eqs. (8), (12)
    assert float(result["loss"].detach()) == pytest.approx(expected, rel=1e-5)
    assert set(result["parts"]) == {"student", "teacher", *PAPERS}
    result["loss"].backward()
    assert total(p.grad for p in method.teacher.parameters()) > 0
    curves = method.curves()
    assert curves["weighted loss/kl"] == pytest.approx(3.6 * values["kl"], rel=1e-5)
    assert set(curves) == set(method.curve_names())


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        ("ms_tkd", {"attention", "tokens"}),
        ("logit_mse", {"logit_mse"}),
        ("standardised_kl", {"kl"}),
        ("style", {"style"}),
        ("adversarial", {"adversarial"}),
    ],
)
def test_switches_are_independent(switch: str, gone: set[str]) -> None:
    method, network = prepared(MSTKDNetConfig(weights=EVEN, **{switch: False}))
    parts = method.step(network, a_batch(), task_loss)["parts"]
    assert set(parts) == {"student", "teacher", *PAPERS} - gone
    assert {name.split("/")[1] for name in method.curve_names() if name.startswith("weighted")} == set(parts)


def test_nothing_on_is_two_trainings_apart() -> None:
    off = dict.fromkeys(("ms_tkd", "logit_mse", "standardised_kl", "style", "adversarial"), False)
    method, network = prepared(MSTKDNetConfig(**off))
    alone = copy.deepcopy(network)
    batch = a_batch()
    method.step(network, batch, task_loss)["loss"].backward()
    task_loss(alone(batch.images, batch.available), batch.target).backward()
    for ours, plain in zip(network.parameters(), alone.parameters(), strict=True):
        assert ours.grad is plain.grad is None or torch.allclose(ours.grad, plain.grad, atol=1e-6)
    method.end_iteration(network, 0)
    assert "discriminator/accuracy" not in method.curve_names()


def test_what_is_not_present_is_seen_by_nobody() -> None:
    method, network = prepared(MSTKDNetConfig(weights=EVEN))
    batch = a_batch()
    images = batch.images.clone()
    images[1, 2] = float("nan")
    losses = [
        float(method.step(network, replace(batch, images=each), task_loss)["loss"].detach())
        for each in (batch.images, images)
    ]
    assert losses[0] == losses[1]


def test_voxels_that_do_not_count_are_left_out_of_the_logit_terms() -> None:
    method, network = prepared(MSTKDNetConfig(weights=EVEN))
    batch = a_batch(valid=True)
    teacher, student = method.teacher.trace(batch.images, batch.present), network.trace(batch.images, batch.available)
    assert batch.valid is not None
    spoilt = replace(student, output=[torch.where(batch.valid, student.logits, 50.0)])
    for term in ("logit_mse", "kl"):
        values = [method.distances(teacher, each, batch.valid)[term].detach() for each in (student, spoilt)]
        assert torch.allclose(*values) and not torch.allclose(
            values[0], method.distances(teacher, spoilt)[term].detach()
        )


def test_a_step_passes_on_which_voxels_count() -> None:
    method, network = prepared(MSTKDNetConfig(weights=EVEN))
    batch = a_batch(valid=True)
    parts = method.step(network, batch, task_loss)["parts"]
    with torch.no_grad():
        traces = method.teacher.trace(batch.images, batch.present), network.trace(batch.images, batch.available)
        expected, everywhere = method.distances(*traces, batch.valid), method.distances(*traces)
    for term in ("logit_mse", "kl"):
        assert torch.allclose(parts[term], method._weight(term) * expected[term], rtol=1e-4)
        assert not torch.allclose(expected[term], everywhere[term], rtol=1e-3)


@pytest.mark.parametrize("moved", [False, True])
def test_recomputing_the_teacher_changes_nothing(moved: bool) -> None:
    gradients = []
    for recomputes in (False, True):
        method, network = prepared(MSTKDNetConfig(weights=EVEN, teacher_gradients=moved))
        method.recomputes = recomputes
        method.step(network, a_batch(), task_loss)["loss"].backward()
        gradients.append([p.grad for p in (*network.parameters(), *method.teacher.parameters())])
    for stored, recomputed in zip(*gradients, strict=True):
        assert stored is recomputed is None or torch.equal(stored, recomputed)


# -- a frozen teacher ------------------------------------------------------------------------------------------------


def test_a_frozen_teacher_learns_first_and_teaches_then() -> None:
    method, network = prepared(MSTKDNetConfig(weights=EVEN, teacher="frozen", teacher_share=0.3), iterations=10)
    batch = a_batch()
    for iteration in range(10):
        method.start_iteration(network, task_loss, iteration)
        result = method.step(network, batch, task_loss)
        method.teacher.zero_grad()
        result["loss"].backward()
        method.end_iteration(network, iteration)
        if iteration < 3:
            assert set(result["parts"]) == {"student", "teacher"}
            assert total(p.grad for p in method.teacher.parameters()) > 0 and method.teacher.training
        else:
            assert set(result["parts"]) == {"student", *PAPERS}
            assert total(p.grad for p in method.teacher.parameters()) == 0 and not method.teacher.training
    with pytest.raises(ValueError, match="length of the training must be known"):
        prepared(MSTKDNetConfig(teacher="frozen"), iterations=0)


# -- the discriminator -----------------------------------------------------------------------------------------------


def accuracy(method: MSTKDNet, network: Any, seeds: range) -> float:
    right = []
    with torch.no_grad():
        for seed in seeds:
            batch = a_batch(seed)
            complete = method.adversary.discriminator(method.teacher.trace(batch.images, batch.present).fused)
            incomplete = method.adversary.discriminator(network.trace(batch.images, batch.available).fused)
            right += [(complete < 0).float().mean(), (incomplete > 0).float().mean()]
    return float(torch.stack(right).mean())


def test_the_discriminator_learns_and_the_student_learns_to_fool_it() -> None:
    only = TermWeights(0, 0, 0, 0, 0, 1.0, 0, student=0.0, teacher=0.0)
    method, network = prepared(MSTKDNetConfig(weights=only, discriminator_rate=5e-3))
    before, unseen = copy.deepcopy(network.state_dict()), range(1000, 1020)
    for iteration in range(30):  # the networks stand still
        method.step(network, a_batch(iteration), task_loss)
        method.end_iteration(network, iteration)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    told = accuracy(method, network, unseen)
    assert told > 0.95
    method.curves()
    method.adversary.optimizer.param_groups[0]["lr"] = 1e-4
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for iteration in range(30, 80):
        if iteration == 55:
            method.curves()
        optimizer.zero_grad()
        method.step(network, a_batch(iteration), task_loss)["loss"].backward()
        optimizer.step()
        method.end_iteration(network, iteration)
    assert method.curves()["discriminator/accuracy"] < 0.65  # it goes on learning, so this swings about one half


def test_a_discriminator_step_by_hand() -> None:
    method, network = prepared(MSTKDNetConfig(weights=EVEN))
    batch = a_batch()
    discriminator = copy.deepcopy(method.adversary.discriminator)
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-4, (0.9, 0.99))
    method.step(network, batch, task_loss)["loss"].backward()
    method.end_iteration(network, 0)
    features = [
        each.fused.detach()
        for each in (method.teacher.trace(batch.images, batch.present), network.trace(batch.images, batch.available))
    ]
    discriminator_loss(*(discriminator(each) for each in features)).backward()
    optimizer.step()
    for ours, expected in zip(method.adversary.discriminator.parameters(), discriminator.parameters(), strict=True):
        assert torch.allclose(ours, expected, atol=1e-7)
    assert method.curves()["discriminator/accuracy"] >= 0


def test_the_optimiser_keeps_its_moments_and_everything_is_saved() -> None:
    method, network = prepared(MSTKDNetConfig(weights=EVEN))
    for iteration in range(3):
        method.step(network, a_batch(iteration), task_loss)
        method.end_iteration(network, iteration)
    state = copy.deepcopy(method.state_dict())
    assert float(state["discriminator_optimizer"]["state"][0]["step"]) == 3
    other, _ = prepared(MSTKDNetConfig(weights=EVEN))
    nn.init.ones_(other.teacher.project.weight)
    other.load_state_dict(state)
    for part in ("teacher", "discriminator"):
        assert all(torch.equal(value, state[part][key]) for key, value in other.state_dict()[part].items())
    for each in (method, other):
        each.step(network, a_batch(7), task_loss)
        each.end_iteration(network, 3)
    pairs = zip(method.adversary.discriminator.parameters(), other.adversary.discriminator.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


# -- the released code's choices, and what is refused ----------------------------------------------------------------


def test_the_released_codes_choices() -> None:
    config = MSTKDNetConfig.released_code()
    assert config.weights == TermWeights.released_code() and config.teacher_gradients and config.terms == TERMS
    assert config.weights.attention == pytest.approx(0.4823, rel=1e-4)
    paper, network = prepared(MSTKDNetConfig(weights=EVEN))
    code, _ = prepared(replace(config, weights=replace(EVEN, content=1.0)))
    code.teacher.load_state_dict(paper.teacher.state_dict())
    batch = a_batch()
    traces = paper.teacher.trace(batch.images, batch.present), network.trace(batch.images, batch.available)
    ours, theirs = paper.distances(*traces), code.distances(*traces)
    first = (traces[0].levels[0] - traces[1].levels[0]).square().mean()
    assert torch.allclose(theirs["tokens"], ours["tokens"] + first)  # four levels for three
    probabilities = [trace.logits.softmax(1) for trace in traces]
    assert torch.allclose(theirs["logit_mse"], (probabilities[0] - probabilities[1]).square().mean())
    assert not torch.allclose(theirs["attention"], ours["attention"]) and not torch.allclose(theirs["kl"], ours["kl"])
    assert float(theirs["content"].detach()) > 0 and "content" not in ours


def test_the_released_codes_weight_of_the_logit_term_rises() -> None:
    method, network = prepared(MSTKDNetConfig.released_code(), iterations=300)
    weights = []
    for iteration in (0, 10, 20, 299):
        method.start_iteration(network, task_loss, iteration)
        weights.append(method._weight("logit_mse"))
    assert weights == pytest.approx([10 * 2.718281828**-5, 10 * 2.718281828**-1.25, 10, 10], rel=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"teacher": "none"}, "teacher must be one of co-trained, frozen"),
        ({"divergence": "both"}, "divergence must be one of standardised, released"),
        ({"logit_ramp": -0.1}, "logit_ramp must lie in"),
        ({"tau": 0.0}, "tau must be above 0"),
        ({"teacher_share": 1.0}, "teacher_share must lie between 0 and 1"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MSTKDNetConfig(**wrong)
    with pytest.raises(ValueError, match="weight style must not be negative"):
        TermWeights(style=-1)
