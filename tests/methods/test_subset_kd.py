"""SubsetKD as a method: the average by hand, both terms by hand, who gets gradients, weights, ramp, switches, state."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import Tensor, nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.losses.balanced import balanced_kl, soft_dice_distance, teacher_dice
from nnunetv2_mmkd.methods.base import Batch, ExtraNetwork, MembershipClasses, MissingRates, TrainingContext
from nnunetv2_mmkd.methods.subset_kd import SubsetKD, SubsetKDConfig, decay_of, sample_weights, scale_weights
from nnunetv2_mmkd.networks.availability import condition_norms
from nnunetv2_mmkd.networks.masking import mask_inputs

NAMES = ("t1", "t1ce", "flair")
AT_ONCE = SubsetKDConfig(ramp=(0.0, 0.0))


def tiny_network() -> nn.Module:
    planned = PlainConvUNet(
        3, 4, [4, 6, 8, 8], nn.Conv2d, 3, [1, 2, 2, 2], 1, 3, 1, True, nn.InstanceNorm2d, {"affine": True},
        nonlin=nn.LeakyReLU, deep_supervision=True,
    )  # fmt: skip
    return mask_inputs(condition_norms(planned, 3), NAMES, "norms")


def task_loss(outputs: list[Tensor], target: list[Tensor]) -> Tensor:
    return nn.functional.cross_entropy(outputs[0], target[0])


def classes(target: Tensor) -> tuple[Tensor, int]:
    return target, 3


def prepared(
    config: SubsetKDConfig = AT_ONCE,
    rates: tuple[float, ...] = (0.0, 0.0, 0.0),
    iterations: int = 0,
    classes: Any = classes,
    exclusive: bool = True,
) -> tuple[SubsetKD, nn.Module]:
    torch.manual_seed(0)
    network = tiny_network()
    method = SubsetKD(config)
    method.setup(
        TrainingContext(
            NAMES,
            torch.device("cpu"),
            iterations=iterations,
            exclusive=exclusive,
            capabilities={
                MissingRates: lambda: rates,
                ExtraNetwork: tiny_network,
                **({} if classes is None else {MembershipClasses: classes}),
            },
        )
    )
    method.begin()
    return method, network


def a_batch(masks: list[list[int]], present: list[list[int]] | None = None, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    available = torch.tensor(masks).bool()
    there = torch.ones_like(available) if present is None else torch.tensor(present).bool()
    images = torch.randn(len(masks), 3, 16, 16, generator=generator)
    images = torch.where(there[:, :, None, None], images, float("nan"))
    target = torch.randint(0, 3, (len(masks), 16, 16), generator=generator)
    return Batch(images, available, there, [target, target[:, ::2, ::2], target[:, ::4, ::4]])


MIXED = [[1, 0, 1], [0, 1, 0]]


def sgd_step(method: SubsetKD, network: nn.Module, batch: Batch, iteration: int) -> None:
    method.start_iteration(network, task_loss, iteration)
    network.zero_grad(set_to_none=True)
    method.step(network, batch, task_loss)["loss"].backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    method.end_iteration(network, iteration)


def test_the_average_by_hand() -> None:
    method, network = prepared(replace(AT_ONCE, window=1 / 0.85 / 4), iterations=4)
    start = copy.deepcopy(network.state_dict())
    expected = {key: value.clone() for key, value in start.items()}
    for iteration, decay in enumerate((1 / 10, 0.15, 0.15, 0.15)):  # 2 / 11 would be more than 0.15
        sgd_step(method, network, a_batch(MIXED, seed=iteration), iteration)
        expected = {key: decay * expected[key] + (1 - decay) * value for key, value in network.state_dict().items()}
        for key, value in method.ema.state_dict().items():
            torch.testing.assert_close(value, expected[key])
    assert method.updates == 4
    assert [decay_of(t, 1000) for t in (0, 1, 90, 10**6)] == [0.1, 2 / 11, 91 / 100, 0.999]
    assert [decay_of(50, window) for window in (0.1, 1, 4)] == [0, 0, 0.75]


def test_before_the_first_step_the_average_is_the_network_and_nothing_else_is_deployed() -> None:
    method, network = prepared()
    assert method.deployed(network) is None
    network.load_state_dict(tiny_network().state_dict())  # as pretrained weights, after the setup
    method.start_iteration(network, task_loss, 0)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in method.ema.state_dict().items())
    assert method.deployed(network) is None
    method.end_iteration(network, 0)
    assert method.deployed(network) is not None


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("distance", ["kl", "dice"])
def test_the_terms_by_hand(exclusive: bool, distance: str) -> None:
    """Incomplete cases, too: the second lacks t1, so its teacher does without."""
    rates = (0.5, 0.0, 0.2)
    config = replace(AT_ONCE, distance=distance, tau=2.0, weight=0.7)
    method, network = prepared(config, rates, exclusive=exclusive)
    sgd_step(method, network, a_batch(MIXED, seed=5), 0)
    batch = a_batch(MIXED, [[1, 1, 1], [0, 1, 1]])
    method.start_iteration(network, task_loss, 1)
    result = method.step(network, batch, task_loss)
    student = network(batch.images, batch.available)
    teacher = [each.detach() for each in method.ema(batch.images, batch.present)]
    mean = (0.5 + 1.0 + 0.8) / 3
    weights = torch.tensor([(mean / 0.5 + mean / 0.8) / 2, mean / 1.0])
    total = 0.0
    for omega, scale in ((2 / 3, 0), (1 / 3, 1)):  # 1, 1/2, and nothing for the smallest
        arguments = {"exclusive": exclusive, "only_right": True}
        pair = teacher[scale], student[scale], batch.target[scale]
        if distance == "dice":
            values = soft_dice_distance(*pair, **arguments)
        else:
            values = balanced_kl(*pair, 3, tau=2.0, **arguments)
        total += omega * float((weights * values).mean())
    assert len(student) == 3
    assert float(result["parts"]["task"]) == pytest.approx(float(task_loss(student, batch.target)), rel=1e-5)
    assert float(result["loss"]) == pytest.approx(sum(float(part) for part in result["parts"].values()), rel=1e-6)
    assert float(result["parts"]["distillation"]) == pytest.approx(0.7 * total, rel=1e-4)


@pytest.mark.parametrize("teacher", ["ema", "current"])
def test_distillation_moves_the_student_and_never_the_teacher(teacher: str) -> None:
    method, network = prepared(replace(AT_ONCE, teacher=teacher))
    sgd_step(method, network, a_batch(MIXED), 0)
    before = copy.deepcopy(method.ema.state_dict())
    batch = a_batch(MIXED)
    method.start_iteration(network, task_loss, 1)
    student = [each.detach().requires_grad_() for each in network(batch.images, batch.available)]
    expected = method._teach(network, batch)
    assert not any(each.requires_grad for each in expected)
    method.distance(expected, student, batch).backward()
    assert student[0].grad is not None and student[0].grad.abs().sum() > 0
    network.zero_grad(set_to_none=True)
    method.step(network, batch, task_loss)["loss"].backward()
    assert all(parameter.grad is None for parameter in method.ema.parameters())
    assert all(torch.equal(value, before[key]) for key, value in method.ema.state_dict().items())
    assert method.trainable() == ()


def test_a_subset_that_is_all_there_is_still_taught() -> None:
    method, network = prepared()
    for iteration in range(2):
        sgd_step(method, network, a_batch(MIXED), iteration)
    batch = a_batch([[1, 1, 1], [1, 1, 1]])
    method.start_iteration(network, task_loss, 2)
    assert float(method.step(network, batch, task_loss)["parts"]["distillation"]) > 1e-6


def test_one_scale_without_deep_supervision() -> None:
    method, network = prepared()
    network.decoder.deep_supervision = method.ema.decoder.deep_supervision = False
    batch = replace(a_batch(MIXED), target=a_batch(MIXED).target[0])
    result = method.step(network, batch, nn.functional.cross_entropy)
    assert float(result["parts"]["distillation"]) > 0


def test_weights_of_samples_and_scales() -> None:
    factors = 1 / (1 - torch.tensor([0.5, 0.0, 0.75]))
    mean = 1.75 / 3
    subsets = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 1]]).bool()
    assert sample_weights(subsets, factors).tolist() == pytest.approx(
        [mean / 0.5, (mean + mean / 0.25) / 2, (mean / 0.5 + mean + mean / 0.25) / 3]
    )
    present = torch.tensor([[0, 1, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1]]).bool()  # cases with just these rates
    pairs = torch.cat([sample_weights(torch.eye(3).bool()[case.nonzero()[:, 0]], factors) for case in present])
    assert float(pairs.mean()) == pytest.approx(1.0)  # over all that there is
    assert sample_weights(subsets, torch.full((3,), 1.7)).tolist() == pytest.approx([1, 1, 1])
    assert scale_weights(1) == (1.0,) and scale_weights(2) == (1.0, 0.0)
    assert scale_weights(4) == pytest.approx((4 / 7, 2 / 7, 1 / 7, 0))


def test_rebalancing_can_be_switched_off_and_refuses_a_modality_that_never_is() -> None:
    method, _ = prepared(replace(AT_ONCE, rebalance=False), (0.5, 0.0, 1.0))
    assert method._sample_weights(torch.eye(3).bool()).tolist() == [1, 1, 1]
    with pytest.raises(InputError, match="flair"):
        prepared(AT_ONCE, (0.5, 0.0, 1.0))


def test_the_ramp_and_no_teacher_before_it() -> None:
    method, network = prepared(SubsetKDConfig(weight=0.8, ramp=(0.2, 0.6)), iterations=10)
    calls = []
    method.ema.register_forward_hook(lambda *_: calls.append(1))
    found = []
    for iteration in range(8):
        method.start_iteration(network, task_loss, iteration)
        found.append(method.weight)
        method.step(network, a_batch(MIXED), task_loss)
    assert found == pytest.approx([0, 0, 0, 0.2, 0.4, 0.6, 0.8, 0.8])
    assert len(calls) == 5 and method.warmup_until == 6
    steep, _ = prepared(SubsetKDConfig(weight=0.8, ramp=(0.2, 0.2)), iterations=10)
    for iteration, expected in ((1, 0.0), (2, 0.8)):
        steep.start_iteration(network, task_loss, iteration)
        assert steep.weight == expected
    unknown, _ = prepared(SubsetKDConfig(weight=0.8), iterations=0)
    unknown.start_iteration(network, task_loss, 0)
    assert unknown.weight == 0.8


def test_switches() -> None:
    batch = a_batch(MIXED)
    values = {}
    for name, config in {
        "default": AT_ONCE,
        "all": replace(AT_ONCE, confidence="none"),
        "kl": replace(AT_ONCE, distance="kl"),
        "voxels": replace(AT_ONCE, distance="kl", balance="voxels"),
        "graded": replace(AT_ONCE, confidence="graded"),
        "graded kl": replace(AT_ONCE, distance="kl", confidence="graded"),
        "tau": replace(AT_ONCE, distance="kl", tau=4.0),
        "current": replace(AT_ONCE, teacher="current"),
        "half": replace(AT_ONCE, weight=0.25),
    }.items():
        method, network = prepared(config)
        sgd_step(method, network, a_batch(MIXED, seed=3), 0)
        method.start_iteration(network, task_loss, 1)
        values[name] = float(method.step(network, batch, task_loss)["parts"]["distillation"])
    assert len({round(value, 7) for value in values.values()}) == len(values), values
    assert 0 < values["default"] < values["all"]
    method, network = prepared(SubsetKDConfig(teacher="none"))
    assert (
        set(method.step(network, batch, task_loss)["parts"])
        == {"task"}
        == {name.removeprefix("loss/") for name in method.curve_names()}
    )
    bare, network = prepared(SubsetKDConfig(teacher="none", deploy="student"))
    sgd_step(bare, network, batch, 0)
    assert bare.ema is None and bare.deployed(network) is None
    student, network = prepared(replace(AT_ONCE, deploy="student"))
    sgd_step(student, network, batch, 0)
    assert student.ema is not None and student.deployed(network) is None


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("distance", ["dice", "kl"])
def test_a_graded_teacher_by_hand(exclusive: bool, distance: str) -> None:
    batch = a_batch(MIXED)
    method, network = prepared(replace(AT_ONCE, distance=distance, confidence="graded"), exclusive=exclusive)
    with torch.no_grad():
        teacher, student = network(batch.images, batch.present), network(batch.images, batch.available)
        total = 0.0
        for omega, scale in ((2 / 3, 0), (1 / 3, 1)):
            pair, classes = (teacher[scale], student[scale]), batch.target[scale]
            region_weights = teacher_dice(pair[0], classes, exclusive=exclusive)
            arguments = {"exclusive": exclusive, "only_right": True, "region_weights": region_weights}
            if distance == "dice":
                total += omega * float(soft_dice_distance(*pair, classes, **arguments).mean())
            else:
                total += omega * float(balanced_kl(*pair, classes, 3, tau=1.0, **arguments).mean())
        assert float(method.distance(teacher, student, batch)) == pytest.approx(total, rel=1e-5)


def test_the_average_draws_no_random_numbers() -> None:
    states = []
    for config in (AT_ONCE, SubsetKDConfig(teacher="none", deploy="student")):
        prepared(config)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_state() -> None:
    method, network = prepared(iterations=10)
    for iteration in range(3):
        sgd_step(method, network, a_batch(MIXED, seed=iteration), iteration)
    other, _ = prepared(iterations=10)
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    second = copy.deepcopy(network)
    for each, own in ((method, network), (other, second)):
        sgd_step(each, own, a_batch(MIXED, seed=9), 3)
    assert method.updates == other.updates == 4
    assert all(torch.equal(value, other.ema.state_dict()[key]) for key, value in method.ema.state_dict().items())
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in network.state_dict().items())
    assert set(method.curves()) == set(method.curve_names())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"teacher": "emma"}, "teacher must be one of ema, current, none, not 'emma'"),
        ({"balance": "regions"}, "balance must be one of classes, voxels"),
        ({"distance": "mse"}, "distance must be one of dice, kl"),
        ({"confidence": "high"}, "confidence must be one of graded, right, none"),
        ({"deploy": "teacher"}, "deploy must be one of ema, student"),
        ({"availability": "plane"}, "choose from none, planes, norms"),
        ({"tau": 0.0}, "tau must be above 0"),
        ({"weight": -1.0}, "weight must not be negative"),
        ({"ramp": (0.5, 0.2)}, "ramp must be two rising shares"),
        ({"window": 1.5}, r"window must be a share in \[0, 1\]"),
    ],
)
def test_refused_hyper_parameters(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SubsetKDConfig(**wrong)


def test_without_membership_classes_there_is_no_distillation() -> None:
    with pytest.raises(NotImplementedError, match=r"SubsetKD needs MembershipClasses, .*: the class of each voxel"):
        prepared(classes=None)
    method, network = prepared(SubsetKDConfig(teacher="none"), classes=None)
    assert float(method.step(network, a_batch(MIXED), task_loss)["loss"]) > 0
