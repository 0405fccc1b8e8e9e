"""Logit distillation: closed forms, what standardisation takes out, voxels that do not count."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nnunetv2_mmkd.losses.logit import bernoulli_kl, logit_distance, released_kl, softened_kl, standardised_kl


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def softmax(logits: list[float]) -> list[float]:
    weights = [math.exp(value) for value in logits]
    return [weight / sum(weights) for weight in weights]


def column(*values: float) -> Tensor:
    """One voxel: ``[1, K, 1]``."""
    return torch.tensor(values)[None, :, None]


def test_logit_distance_by_hand() -> None:
    teacher, student = torch.tensor([[[1.0, 2.0], [0.0, -1.0]]]), torch.tensor([[[0.0, 2.0], [2.0, 1.0]]])
    assert float(logit_distance(teacher, student)) == (1 + 0 + 4 + 4) / 4
    assert float(logit_distance(teacher, student, torch.tensor([[[True, False]]]))) == (1 + 4) / 2
    assert float(logit_distance(teacher, student, torch.zeros(1, 1, 2, dtype=torch.bool))) == 0


def test_classes_by_hand() -> None:
    tau = 2.0
    teacher, student = column(1.0, 2.0, 6.0), column(0.0, 3.0, 0.0)
    z = [
        [(value - 3) / math.sqrt(14 / 3) / tau for value in (1, 2, 6)],
        [(v - 1) / math.sqrt(2) / tau for v in (0, 3, 0)],
    ]
    expected = kl(softmax(z[0]), softmax(z[1]))
    assert float(standardised_kl(teacher, student, exclusive=True, tau=tau)) == pytest.approx(expected, rel=1e-5)


def test_regions_by_hand() -> None:
    tau = 3.0
    teacher, student = torch.tensor([[[0.0, 2.0, 4.0]]]), torch.tensor([[[5.0, 5.0, 8.0]]])
    z = [[-1.2247449, 0, 1.2247449], [-0.7071068, -0.7071068, 1.4142136]]
    p, q = ([1 / (1 + math.exp(-value / tau)) for value in each] for each in z)
    expected = sum(kl([a, 1 - a], [b, 1 - b]) for a, b in zip(p, q, strict=True)) / 3
    found = standardised_kl(teacher, student, exclusive=False, tau=tau)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    both = standardised_kl(teacher.repeat(1, 2, 1), torch.cat([student, teacher], 1), exclusive=False, tau=tau)
    assert float(both) == pytest.approx(expected / 2, rel=1e-5)  # mean over regions


def test_two_classes_are_one_region() -> None:
    teacher, student = torch.randn(2, 2, 5, 4), torch.randn(2, 2, 5, 4)
    as_region = standardised_kl(
        teacher[:, 1:] - teacher[:, :1], student[:, 1:] - student[:, :1], exclusive=False, tau=2
    )
    assert torch.allclose(standardised_kl(teacher, student, exclusive=True, tau=2), as_region)
    assert as_region > 0


@pytest.mark.parametrize(("exclusive", "heads"), [(True, 4), (True, 2), (False, 3), (False, 1)])
def test_location_and_scale_do_not_matter(exclusive: bool, heads: int) -> None:
    teacher, student = torch.randn(2, heads, 6, 6), torch.randn(2, heads, 6, 6)
    before = standardised_kl(teacher, student, exclusive=exclusive, tau=2)
    after = standardised_kl(3 * teacher + 5, 0.5 * student - 1, exclusive=exclusive, tau=2)
    assert torch.allclose(before, after, rtol=1e-3) and before > 0
    assert standardised_kl(teacher, 2 * teacher + 1, exclusive=exclusive, tau=2) < 1e-6


@pytest.mark.parametrize(("exclusive", "heads"), [(True, 4), (True, 2), (False, 3)])
def test_voxels_that_do_not_count(exclusive: bool, heads: int) -> None:
    teacher, student = torch.randn(1, heads, 10), torch.randn(1, heads, 10)
    valid = torch.arange(10)[None, None] < 7
    expected = standardised_kl(teacher[..., :7], student[..., :7], exclusive=exclusive, tau=2)
    assert torch.allclose(standardised_kl(teacher, student, exclusive=exclusive, tau=2, valid=valid), expected)
    student[..., 7:] = 100.0
    student.requires_grad_()
    found = standardised_kl(teacher, student, exclusive=exclusive, tau=2, valid=valid)
    assert torch.allclose(found, expected)
    found.backward()
    assert student.grad is not None and student.grad[..., 7:].abs().max() == 0 and student.grad.abs().max() > 0
    none = standardised_kl(teacher, student, exclusive=exclusive, tau=2, valid=torch.zeros(1, 1, 10).bool())
    assert float(none.detach()) == 0


@pytest.mark.parametrize(("exclusive", "heads"), [(True, 3), (True, 2), (False, 2)])
def test_constant_logits_have_finite_gradients(exclusive: bool, heads: int) -> None:
    student = torch.zeros(1, heads, 4, requires_grad=True)
    standardised_kl(torch.randn(1, heads, 4), student, exclusive=exclusive, tau=1).backward()
    assert student.grad is not None and torch.isfinite(student.grad).all()


def test_bernoulli_divergence_is_torchs() -> None:
    teacher, student = torch.randn(50) * 5, torch.randn(50) * 5
    pair = (torch.distributions.Bernoulli(logits=each) for each in (teacher, student))
    assert torch.allclose(bernoulli_kl(teacher, student), torch.distributions.kl_divergence(*pair), atol=1e-5)
    assert torch.isfinite(bernoulli_kl(torch.tensor(200.0), torch.tensor(-200.0)))


def test_released_divergence_is_reversed() -> None:
    teacher, student = torch.randn(1, 3, 4, 5), torch.randn(1, 3, 4, 5)
    z = [(each - each.mean(-1, True)) / each.std(-1, keepdim=True) / 7 for each in (teacher, student)]
    q = [each.softmax(1) for each in z]
    expected = (q[1] * (q[1].log() - q[0].log())).sum(1).mean() / 3
    assert torch.allclose(released_kl(teacher, student, tau=7.0), expected, rtol=1e-4)


def test_softened_divergence_of_classes_by_hand() -> None:
    teacher, student, tau = column(4.0, 0.0, -4.0), column(0.0, 2.0, 0.0), 4.0
    p, q = (softmax([value / tau for value in each.flatten().tolist()]) for each in (student, teacher))
    assert float(softened_kl(teacher, student, exclusive=True, tau=tau)) == pytest.approx(16 * kl(p, q) / 3, rel=1e-5)
    other = softened_kl(teacher, student, exclusive=True, tau=tau, of_student=False)
    assert float(other) == pytest.approx(16 * kl(q, p) / 3, rel=1e-5)


def test_softened_divergence_of_regions_is_that_of_two_classes() -> None:
    teacher, student = torch.randn(2, 1, 6), torch.randn(2, 1, 6)
    zero = torch.zeros_like(teacher)
    expected = softened_kl(torch.cat([teacher, zero], 1), torch.cat([student, zero], 1), exclusive=True, tau=3.0)
    assert torch.allclose(softened_kl(teacher, student, exclusive=False, tau=3.0), expected, atol=1e-6)
    assert expected.shape == (2,) and (expected > 0).all()


def test_softened_divergence_leaves_out_what_does_not_count() -> None:
    teacher, student = torch.randn(2, 3, 10), torch.randn(2, 3, 10)
    valid = torch.arange(10).expand(2, 1, 10) < torch.tensor([4, 0])[:, None, None]
    found = softened_kl(teacher, student, exclusive=True, tau=2.0, valid=valid)
    expected = softened_kl(teacher[:1, :, :4], student[:1, :, :4], exclusive=True, tau=2.0)
    assert torch.allclose(found[:1], expected) and float(found[1]) == 0


def test_float32_outside_autocast() -> None:
    teacher, student = (torch.randn(1, 3, 8).bfloat16() * 100 for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for value in (
            logit_distance(teacher, student),
            standardised_kl(teacher, student, exclusive=True, tau=7),
            standardised_kl(teacher, student, exclusive=False, tau=7),
            released_kl(teacher, student, tau=7),
        ):
            assert value.dtype == torch.float32 and torch.isfinite(value)
