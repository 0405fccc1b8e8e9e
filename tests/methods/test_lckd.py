"""LCKD's training step and its elections, on a small multi-stream network of plain torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_metakd import NAMES, batch, network
from torch import Tensor
from torch.nn.functional import mse_loss

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.base import Batch, SingleModalityDice, TrainingContext
from nnunetv2_mmkd.methods.lckd import LCKD
from nnunetv2_mmkd.methods.lckd_config import LCKDConfig

REGIONS = ("whole", "core")
CPU = torch.device("cpu")


class Booth:
    """In place of a trainer's elections: a table of Dice for each, the last one from then on."""

    def __init__(self, *tables: list[list[float]]) -> None:
        self.tables = [torch.tensor(table)[None] for table in tables]
        self.asked: list[dict[str, Any]] = []

    def __call__(self, **asked: Any) -> Tensor:
        self.asked.append(asked)
        return self.tables[min(len(self.asked), len(self.tables)) - 1]


A_AND_C = [[0.9, 0.1], [0.1, 0.1], [0.5, 0.8], [0.2, 0.3]]
B_ALONE = [[0.1, 0.1], [0.6, 0.7], [0.5, 0.2], [0.2, 0.3]]


def method(config: LCKDConfig | None = None, *tables: list[list[float]], **context: Any) -> LCKD:
    made = LCKD(config)
    capabilities = {SingleModalityDice: Booth(*tables)}
    made.setup(TrainingContext(NAMES, CPU, regions=REGIONS, capabilities=capabilities, **context))
    return made


def elected(config: LCKDConfig | None = None, *tables: list[list[float]]) -> LCKD:
    made = method(config, *(tables or (A_AND_C,)))
    made.start_iteration(network(), mse_loss, 0)
    return made


def features(net: Any, data: Batch, sample: int) -> list[Tensor]:
    """Bottleneck of each modality, by hand."""
    return [net.encoders[0].stages(data.images[sample : sample + 1, m : m + 1])[0] for m in range(4)]


@pytest.mark.parametrize("p", [1, 2])
def test_the_loss_is_eq_7(p: int) -> None:
    net, made = network(), elected(LCKDConfig(alpha=0.3, p=p))
    assert made.teachers == (0, 2)
    available = torch.tensor([[True, True, True, False], [True, True, False, True]])
    data = batch(available=available)
    result = made.step(net, data, mse_loss)

    power = (lambda d: d.abs()) if p == 1 else (lambda d: d**2)
    f, g = features(net, data, 0), features(net, data, 1)
    first = sum(power(f[i] - f[j]).mean() for i in (0, 2) for j in (0, 1, 2))  # Eq. (4): both teachers, i = j is 0
    second = sum(power(g[0] - g[j]).mean() for j in (0, 1, 3))  # the teacher c is missing there
    task = mse_loss(net(data.images, available), data.target)
    assert torch.allclose(result["loss"], task + 0.3 * (first + second) / 2, rtol=1e-5)
    assert torch.allclose(result["parts"]["task"], task)
    assert torch.allclose(result["parts"]["distillation"], 0.3 * (first + second) / 2, rtol=1e-5)
    assert result["parts"]["distillation"] > 0


def test_a_batch_without_its_teachers_has_no_distillation() -> None:
    net, made = network(), elected()
    available = torch.tensor([[False, True, False, True], [False, False, False, True]])
    result = made.step(net, batch(available=available), mse_loss)
    assert result["parts"]["distillation"] == 0
    result["loss"].backward()
    assert torch.isfinite(net.encoders[0].stages[0].weight.grad).all()
    curves = made.curves()
    assert curves["teacher there/share of samples"] == 0
    assert curves["distillation per pair/mean"] != curves["distillation per pair/mean"]  # NaN: there were no pairs


def test_a_teacher_alone_teaches_nobody() -> None:
    made = elected()
    only = torch.tensor([[True, False, False, False]] * 2)
    result = made.step(network(), batch(available=only), mse_loss)
    assert result["parts"]["distillation"] == 0 and made.curves()["teacher there/share of samples"] == 1


def pull(made: LCKD, available: list[bool]) -> list[float]:
    """Size of the gradient of Eq. (4) with respect to each available modality's feature."""
    net = network()
    streams = net.encode(batch(b=1).images, torch.tensor([available]))
    leaves = [f.detach().requires_grad_(True) for f in streams.bottleneck]
    streams = type(streams)(streams.available, streams.pairs, (*streams.scales[:-1], tuple(leaves)))
    made.distillation(streams, None)[0].backward()
    return [float(leaf.grad.abs().sum()) for leaf in leaves]


def test_the_gradient_reaches_students_and_not_a_lone_teacher() -> None:
    teacher, *students = pull(elected(None, [[0.9, 0.9], [0.1, 0.1], [0.1, 0.1], [0.1, 0.1]]), [True] * 4)
    assert teacher == 0 and all(student == pytest.approx(1, rel=1e-4) for student in students)  # mean |.| has slope 1


def test_two_teachers_pull_each_other_with_equal_force() -> None:
    a, b, c, d = pull(elected(), [True] * 4)
    assert a == pytest.approx(c, rel=1e-5) and a > 0
    assert max(b, d) > 0  # students get both


def test_the_gradient_is_that_of_finite_differences() -> None:
    net, made = network().double(), elected(LCKDConfig(alpha=0.7, p=2))
    data = batch()
    data = Batch(data.images.double(), data.available, data.present, data.target.double())
    frozen = [[f.detach() for f in features(net, data, sample)] for sample in range(2)]
    weight = net.encoders[0].stages[0].weight

    def objective() -> float:
        with torch.no_grad():
            total = mse_loss(net(data.images, data.available), data.target)
            for sample in range(2):
                own = features(net, data, sample)
                for i in (0, 2):
                    total = total + 0.7 / 2 * sum((frozen[sample][i] - own[j]).square().mean() for j in range(4))
            return float(total)

    made.step(net, data, mse_loss)["loss"].backward()
    for index in range(3):
        with torch.no_grad():
            weight[index] += 1e-6
        high = objective()
        with torch.no_grad():
            weight[index] -= 2e-6
        low = objective()
        with torch.no_grad():
            weight[index] += 1e-6
        # own pairs i = j have no gradient at the frozen point, up to second order; distances are taken in float32
        assert float(weight.grad[index].sum()) == pytest.approx((high - low) / 2e-6, rel=1e-4, abs=1e-6)


def test_distillation_reaches_the_encoder_and_nothing_else() -> None:
    net, made = network(), elected()
    made.distillation(net.encode(batch().images), None)[0].backward()
    assert net.encoders[0].stages[0].weight.grad.abs().sum() > 0
    assert net.fusions[0].weight.grad is None and net.decoder.head.weight.grad is None


def test_alpha_zero_is_the_task_loss_bit_for_bit() -> None:
    data = batch()
    loss = elected(LCKDConfig(alpha=0.0)).step(network(), data, mse_loss)["loss"]
    assert torch.equal(loss, mse_loss(network()(data.images, data.available), data.target))


def test_ignored_positions_are_left_out_of_the_distillation() -> None:
    net, made = network(), elected()
    data = batch(b=1)
    valid = torch.ones(1, 1, 8, dtype=torch.bool)
    valid[..., 4:] = False
    term = made.distillation(net.encode(data.images), valid)[0]
    data.images[..., 4:] += 100 * torch.randn(4, 4)
    assert torch.allclose(made.distillation(net.encode(data.images), valid)[0], term)


# -- elections -------------------------------------------------------------------------------------------------------


def test_all_winners_teach_or_the_most_frequent_one() -> None:
    assert elected().teachers == (0, 2)
    made = method(LCKDConfig(teachers="most_frequent", first_election=0, election_interval=1), A_AND_C, B_ALONE)
    made.start_iteration(network(), mse_loss, 0)
    assert made.winners == (0, 2) and made.teachers == (2,)  # one region each; c is better overall
    made.start_iteration(network(), mse_loss, 1)
    assert made.winners == (1, 1) and made.teachers == (1,)


def test_the_schedule() -> None:
    def held(config: LCKDConfig, last: int, **context: Any) -> list[int]:
        made = method(config, A_AND_C, **context)
        for iteration in range(last + 1):
            made.start_iteration(network(), mse_loss, iteration)
        return [election.iteration for election in made.elections]

    assert held(LCKDConfig(election_interval=3), 7) == [0, 3, 6]
    assert held(LCKDConfig(election_interval=3, first_election=2), 9) == [2, 5, 8]
    assert held(LCKDConfig(least_elections=4), 19, iterations=20) == [0, 5, 10, 15]  # a short run
    assert held(LCKDConfig(least_elections=0), 19, iterations=20) == [0]
    assert held(LCKDConfig(), 2, iterations=3) == [0, 1, 2]
    for length in (50_000, 115_000, 250_000):
        assert method(LCKDConfig(), iterations=length).interval == 5000


def test_what_is_asked_for() -> None:
    made = method(LCKDConfig(election_interval=1, most_cases=7, window_step=0.5), A_AND_C)
    made.start_iteration(network(), mse_loss, 0)
    made.start_iteration(network(), mse_loss, 1)
    asked = made.context.need(SingleModalityDice).asked
    assert asked == [{"number": n, "most_cases": 7, "soft": False, "window_step": 0.5} for n in range(2)]
    code = elected(LCKDConfig.released_code())
    assert code.context.need(SingleModalityDice).asked[0]["soft"] and code.held_out.overlap


def test_the_split_that_is_held_out() -> None:
    split = LCKD().held_out
    assert (split.kind, split.share, split.most, split.overlap) == ("election", 0.2, None, False)
    assert LCKD(LCKDConfig(election_overlap=True)).held_out.overlap
    assert not LCKD().needs_meta_split


@pytest.mark.parametrize(("name", "teachers"), [("auto", ()), ("none", ()), ("c", (2,)), (" D", (3,))])
def test_the_initial_teacher(name: str, teachers: tuple[int, ...]) -> None:
    made = method(LCKDConfig(initial_teacher=name))
    assert made.teachers == teachers
    assert (made.step(network(), batch(), mse_loss)["parts"]["distillation"] > 0) == bool(teachers)


def test_the_initial_teacher_is_flair_where_there_is_one() -> None:
    made = LCKD()
    context = TrainingContext(("t1", "flair"), CPU, regions=REGIONS, capabilities={SingleModalityDice: Booth()})
    made.setup(context)
    assert made.teachers == (1,) and made.winners == (1, 1)
    wrong = LCKD(LCKDConfig(initial_teacher="dwi"))
    with pytest.raises(InputError, match="unknown modality 'dwi'"):
        wrong.setup(context)


def test_an_election_is_told_with_its_reasons() -> None:
    told: list[str] = []
    table = [[0.9, float("nan")], [0.1, float("nan")], [0.5, float("nan")], [0.2, float("nan")]]
    made = method(LCKDConfig(initial_teacher="d"), table, log=told.append)
    made.start_iteration(network(), mse_loss, 0)
    assert "election 1 before iteration 0, 1 cases" in told[0]
    assert "whole: a 0.900, b 0.100, c 0.500, d 0.200 -> a" in told[0]
    assert "core: no election case has it, the teacher stays d" in told[0] and "teachers: a, d" in told[0]


def test_curves() -> None:
    made = elected()
    made.step(network(), batch(), mse_loss)
    curves = made.curves()
    assert set(made.curve_names()) == set(curves)
    assert [curves[f"teaches (share of regions)/{name}"] for name in NAMES] == [0.5, 0, 0.5, 0]
    assert curves["single-modality Dice of whole/a"] == pytest.approx(0.9)
    assert curves["single-modality Dice of core/c"] == pytest.approx(0.8)
    assert curves["loss/distillation"] > 0 and curves["distillation per pair/mean"] > 0
    again = made.curves()
    assert again["single-modality Dice of whole/a"] != again["single-modality Dice of whole/a"]  # NaN: none since
    assert again["teaches (share of regions)/a"] == 0.5 and again["elections/so far"] == 1
    single = elected(LCKDConfig(teachers="most_frequent"))
    assert [single.curves()[f"teaches (share of regions)/{name}"] for name in NAMES] == [0, 0, 1, 0]


@pytest.mark.parametrize("teachers", ["unique", "most_frequent"])
def test_elections_are_saved_and_restored(teachers: str) -> None:
    config = LCKDConfig(teachers=teachers, election_interval=1)
    made = method(config, A_AND_C, B_ALONE, A_AND_C)
    for iteration in range(2):
        made.start_iteration(network(), mse_loss, iteration)
    state = made.state_dict()
    other = method(config, A_AND_C)
    other.load_state_dict(state)
    assert (other.winners, other.teachers) == (made.winners, made.teachers)
    assert other.curves() == pytest.approx(made.curves(), nan_ok=True)
    assert [e.iteration for e in other.elections] == [0, 1]
    other.start_iteration(network(), mse_loss, 2)
    assert other.context.need(SingleModalityDice).asked[0]["number"] == 2  # cases go on taking turns
    made.start_iteration(network(), mse_loss, 2)
    assert (other.winners, other.teachers) == (made.winners, made.teachers)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("teachers", "all"), ("p", 3), ("election_interval", 0), ("most_cases", 0),
        ("first_election", -1), ("election_share", 0.0), ("window_step", 1.5),
    ],
)  # fmt: skip
def test_bad_configurations(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        LCKDConfig(**{field: value})
