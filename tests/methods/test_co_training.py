"""ACN and SMU-Net as methods: terms by hand, who is reached, the teacher's input, discriminators, state."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from tiny_nnunet import differences
from torch import Tensor, nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.losses.co_training import consistency, content_distance, entropy_map, gram_distance
from nnunetv2_mmkd.losses.style import adversarial_loss
from nnunetv2_mmkd.methods.acn import ACN, ACNConfig
from nnunetv2_mmkd.methods.base import Batch, FullModalityNetwork, TrainingContext
from nnunetv2_mmkd.methods.smunet import SMUNet, SMUNetConfig
from nnunetv2_mmkd.networks.dedicated import DedicatedUNet, StyleUNet

NAMES, SUBSET = ("t1", "t1ce", "t2"), ("t1", "t2")
RELEASED = "SMU-Net, squared difference"
METHODS: dict[str, tuple[Any, Any, Any]] = {
    "SMU-Net": (SMUNet, SMUNetConfig, StyleUNet),
    RELEASED: (SMUNet, partial(SMUNetConfig, content_term="squared_difference"), StyleUNet),
    "ACN": (ACN, ACNConfig, DedicatedUNet),
}
TERMS = {
    "SMU-Net": ("consistency", "content", "style", "adversarial"),
    RELEASED: ("consistency", "content", "style", "adversarial"),
    "ACN": ("consistency", "entropy_adversarial", "knowledge_adversarial", "mutual_information"),
}
INFORMATION = (("SMU-Net", "content"), ("ACN", "mutual_information"))
"""The terms with a regressor, which the teacher's features are a target of and no more."""
EACH_TERM = [(name, term) for name, terms in TERMS.items() for term in terms]
each_method = pytest.mark.parametrize("name", METHODS)


def tiny_network(kind: Any, subset: tuple[str, ...]) -> Any:
    planned = PlainConvUNet(
        len(subset) or len(NAMES), 3, [4, 6, 8], nn.Conv2d, 3, [1, 2, 2], 1, 3, 1, True, nn.InstanceNorm2d,
        {"affine": True}, nonlin=nn.LeakyReLU, deep_supervision=True,
    )  # fmt: skip
    return kind(planned.encoder, planned.decoder, NAMES, subset)


def task_loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs[0], target)


def prepared(name: str, **how: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    method_class, config, kind = METHODS[name]
    method, network = method_class(config(**{"ramp": 0.0, **how})), tiny_network(kind, SUBSET)
    method.setup(
        TrainingContext(
            NAMES,
            torch.device("cpu"),
            regions=("whole", "core"),
            iterations=100,
            capabilities={FullModalityNetwork: lambda: tiny_network(kind, ())},
        )
    )
    method.start_iteration(network, task_loss, 0)
    return method, network


def a_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 16, 16, generator=generator)
    present = torch.tensor([[True, True, True], [True, False, True]])
    return Batch(images, present, present, torch.randint(0, 3, (2, 16, 16), generator=generator))


def alone(name: str, term: str) -> dict[str, float]:
    """Weights that leave one term."""
    return {other: float(other == term) for other in TERMS[name]}


def reached(module: nn.Module) -> bool:
    return any(weight.grad is not None and bool(weight.grad.abs().sum() > 0) for weight in module.parameters())


@pytest.mark.parametrize(("name", "term"), EACH_TERM)
@pytest.mark.parametrize("co_training", [True, False], ids=["co-trained", "teacher detached"])
def test_each_term_reaches_whom_it_should(name: str, term: str, co_training: bool) -> None:
    method, network = prepared(name, **alone(name, term), student=0.0, teacher_gradients=co_training)
    result = method.step(network, a_batch(), lambda outputs, _: outputs[0].sum() * 0)
    assert set(result["parts"]) == {"student", "teacher", term}
    assert abs(float(result["parts"][term])) > 1e-6
    result["loss"].backward()
    assert reached(network.encoder)
    between = term in ("consistency", "content", "style") and (name, term) not in INFORMATION
    assert reached(method.teacher) == (co_training and between)
    assert not reached(method.adversaries)
    assert (method.regressor is not None) == ((name, term) in INFORMATION)
    assert method.regressor is None or all(each.grad.any() for each in method.regressor.parameters())
    assert list(method.trainable()) == [method.teacher, *[method.regressor] * (method.regressor is not None)]


@each_method
def test_the_loss_is_the_weighted_sum(name: str) -> None:
    weights = dict(zip(TERMS[name], (0.3, 0.4, 0.5, 0.6), strict=True))
    method, network = prepared(name, **weights, student=0.7)
    batch = a_batch()
    result = method.step(network, batch, task_loss)
    f, m = method.teacher.trace(batch.images, batch.present), network.trace(batch.images, batch.available)
    expected = {
        "student": 0.7 * task_loss(m.output, batch.target),
        "teacher": 0.3 * task_loss(f.output, batch.target),
        "consistency": 0.3 * consistency(f.logits, m.logits, exclusive=True),
    }

    def fooled(term: str, features: Tensor) -> Tensor:
        return weights[term] * adversarial_loss(method.adversaries[term].discriminator(features))

    if method.regressor is not None:
        mean, variance = method.regressor(m.content)
        likelihood = ((f.content - mean) ** 2 / variance[:, None, None] + variance.log()[:, None, None]).mean() / 2
        assert torch.allclose(variance, torch.tensor(5.0))
    if name != "ACN":
        content = content_distance(f.content, m.content) if name == RELEASED else likelihood
        expected |= {
            "content": 0.4 * content,
            "style": 0.5 * gram_distance(f.style, m.style),
            "adversarial": fooled("adversarial", m.style),
        }
    else:
        expected |= {
            "entropy_adversarial": fooled("entropy_adversarial", entropy_map(m.logits, exclusive=True)),
            "knowledge_adversarial": fooled("knowledge_adversarial", m.content),
            "mutual_information": 0.6 * likelihood,
        }
    torch.testing.assert_close(result["parts"], {key: value.detach() for key, value in expected.items()})
    torch.testing.assert_close(result["loss"], torch.stack(list(expected.values())).sum())
    method.end_iteration(network, 0)
    curves = method.curves()
    assert set(curves) == set(method.curve_names()) and all(value == value for value in curves.values())


@each_method
@torch.no_grad()
def test_the_student_sees_its_subset_and_the_teacher_what_the_case_has(name: str, one_thread: None) -> None:
    method, network = prepared(name)
    batch = a_batch()
    spoilt = batch.images.clone()
    spoilt[:, 1] = float("nan")  # the student takes t1 and t2
    assert differences(network(batch.images), network(spoilt)) == []
    spoilt[0, 1] = batch.images[0, 1]  # the second case lacks t1ce
    full = method.teacher(batch.images, batch.present)
    assert differences(full, method.teacher(spoilt, batch.present)) == []
    zero = torch.where(batch.present[:, :, None, None], batch.images, torch.tensor(0.0))
    assert differences(full, method.teacher(zero, torch.ones(3, dtype=torch.bool))) == []
    with pytest.raises(InputError, match="t2 is missing: this model is a specialist for t1 "):
        network(batch.images, torch.tensor([True, True, False]))


def test_acns_network_is_the_planned_one() -> None:
    planned = PlainConvUNet(
        2, 3, [4, 6, 8], nn.Conv2d, 3, [1, 2, 2], 1, 3, 1, True, nn.InstanceNorm2d, {"affine": True},
        nonlin=nn.LeakyReLU, deep_supervision=True,
    )  # fmt: skip
    network = tiny_network(DedicatedUNet, SUBSET)
    network.load_state_dict(planned.state_dict())
    x = torch.randn(1, 3, 16, 16)
    assert differences(network(x), planned(x[:, [0, 2]])) == []


@torch.no_grad()
def test_style_and_what_the_decoder_gets_by_hand() -> None:
    network = tiny_network(StyleUNet, SUBSET)
    x = torch.randn(1, 3, 16, 16)
    skips = network.encoder(x[:, [0, 2]])
    pooled = [nn.functional.max_pool2d(skips[0], 4), nn.functional.max_pool2d(skips[1], 2), skips[2]]
    style = network.style(torch.cat(pooled, 1))
    trace = network.trace(x)
    torch.testing.assert_close(trace.style, style)
    torch.testing.assert_close(trace.content, skips[2])
    skips[2] = network.fuse(torch.cat([style, skips[2]], 1))
    torch.testing.assert_close(trace.output, network.decoder(skips))
    torch.testing.assert_close(network(x), trace.output)


@each_method
def test_the_consistency_rises(name: str) -> None:
    method, network = prepared(name, ramp=0.4, consistency=2.0)
    seen = []
    for iteration in range(0, 60, 10):
        method.start_iteration(network, task_loss, iteration)
        seen.append(method.consistency_weight)
    assert all(first < second for first, second in pairwise(seen[:5])) and seen[4:] == [2.0, 2.0]
    assert seen[0] == pytest.approx(2 * math.exp(-5)) and seen[2] == pytest.approx(2 * math.exp(-5 / 4))


@each_method
def test_discriminators_take_a_step_of_their_own_and_state_comes_back(name: str) -> None:
    method, network = prepared(name)
    method.end_iteration(network, 0)  # nothing was seen yet
    before = copy.deepcopy(method.state_dict())
    method.step(network, a_batch(), task_loss)
    method.end_iteration(network, 0)
    after = copy.deepcopy(method.state_dict())
    for term in method.adversaries:
        assert differences(before[term], after[term]) != []
    assert differences(before["teacher"], after["teacher"]) == []
    other, _ = prepared(name)
    for module in other.trainable():
        module.apply(lambda module: module.weight.data.zero_() if isinstance(module, nn.Conv2d) else None)
    other.load_state_dict(after)
    assert differences(other.state_dict(), after) == []
    assert ("regressor" in after) == (name != RELEASED)
    further = ("teacher", "discriminator", "regressor")
    assert not any(each in key for key in network.state_dict() for each in further)


@each_method
def test_a_discriminator_step_by_hand(name: str) -> None:
    """-log(1 - D) of the teacher's map and -log D of the student's, whatever the networks do of it."""
    method, network = prepared(name)
    batch, config = a_batch(), method.config
    traces = method.teacher.trace(batch.images, batch.present), network.trace(batch.images, batch.available)
    complete, incomplete = ({key: each.detach() for key, each in method.maps(t, None).items()} for t in traces)
    known = {term: copy.deepcopy(each.discriminator) for term, each in method.adversaries.items()}
    assert set(known) == set(complete) and known
    method.step(network, batch, task_loss)["loss"].backward()
    method.end_iteration(network, 0)
    for term, discriminator in known.items():
        loss = -torch.log(1 - discriminator(complete[term]).sigmoid()).mean()
        loss = loss - torch.log(discriminator(incomplete[term]).sigmoid()).mean()
        loss.backward()
        torch.optim.Adam(discriminator.parameters(), config.discriminator_rate, config.discriminator_betas).step()
        found = method.adversaries[term].discriminator
        for ours, expected in zip(found.parameters(), discriminator.parameters(), strict=True):
            # Adam's first step is the rate times g / |g|, which is anything where g is rounding
            torch.testing.assert_close(ours, expected, rtol=0, atol=config.discriminator_rate / 10)


@each_method
def test_ignored_voxels_are_left_out_of_predictions(name: str) -> None:
    method, network = prepared(name)
    batch = a_batch()
    f, m = method.teacher.trace(batch.images, batch.present), network.trace(batch.images, batch.available)
    valid = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    torch.testing.assert_close(method.terms(f, m, valid), method.terms(f, m))
    valid[..., 8:] = False
    changed = replace(m, output=[m.output[0].clone(), *m.output[1:]])
    changed.output[0][..., 8:] += 1
    assert torch.equal(method.terms(f, m, valid)["consistency"], method.terms(f, changed, valid)["consistency"])


def test_what_the_content_tells_of_the_teachers_by_hand() -> None:
    """A student that predicts nothing of a teacher of ones: (1 / 5 + log 5) / 2 in the beginning."""
    method, network = prepared("SMU-Net")
    batch = a_batch()
    f, m = method.teacher.trace(batch.images, batch.present), network.trace(batch.images, batch.available)
    for weight in method.regressor.mean.parameters():
        nn.init.zeros_(weight)
    ones = replace(f, content=torch.ones_like(f.content))
    found = method.distances(ones, m, None)["content"].detach()
    assert float(found) == pytest.approx((0.2 + math.log(5)) / 2, rel=1e-5)


def test_smunets_released_code() -> None:
    config = SMUNetConfig.released_code()
    assert config == SMUNetConfig(content_term="squared_difference", style=0.0)
    method, network = prepared("SMU-Net", content_term=config.content_term, style=config.style)
    assert method.regressor is None and set(method.step(network, a_batch(), task_loss)["parts"]) == {
        "student", "teacher", "consistency", "content", "adversarial",
    }  # fmt: skip
    with pytest.raises(ValueError, match="content_term must be one of mutual_information, squared_difference, not"):
        SMUNetConfig(content_term="cosine")


@pytest.mark.parametrize("config", [SMUNetConfig, ACNConfig])
@pytest.mark.parametrize("wrong", [{"student": 1.5}, {"ramp": -0.1}, {"consistency": -1.0}])
def test_impossible_values_are_refused(config: Any, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        config(**wrong)
