"""Terms between a teacher and a dedicated student by hand, and what they reach."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nnunetv2_mmkd.losses.co_training import (
    consistency,
    content_distance,
    entropy_map,
    gram_distance,
    negative_log_likelihood,
)

VALID = torch.tensor([[[True, True, False, False]]])


def test_consistency_by_hand() -> None:
    teacher, student = torch.zeros(1, 2, 2), torch.tensor([[[math.log(3.0), 0.0], [0.0, 0.0]]])
    assert float(consistency(teacher, student, exclusive=False)) == pytest.approx(0.25**2 / 2)
    assert float(consistency(teacher, student, exclusive=True)) == pytest.approx(2 * 0.25**2 / 2)
    first = torch.tensor([[[True, False]]])
    assert float(consistency(teacher, student, exclusive=False, valid=first)) == pytest.approx(0.25**2)
    assert float(consistency(teacher, student, exclusive=False, valid=~first)) == 0


def test_entropies_by_hand() -> None:
    logits = torch.tensor([[[math.log(3.0)], [0.0]]])
    p = 0.75
    found = entropy_map(logits, exclusive=True).flatten().tolist()
    assert found == pytest.approx([-p * math.log2(p), -(1 - p) * math.log2(1 - p)])
    found = entropy_map(logits, exclusive=False).flatten().tolist()
    assert found == pytest.approx([-p * math.log2(p) - (1 - p) * math.log2(1 - p), 1.0])
    assert entropy_map(torch.zeros(1, 4, 1), exclusive=True).sum() == pytest.approx(1.0)
    sure = entropy_map(torch.full((1, 2, 1), 1e4), exclusive=False)
    assert sure.abs().max() == 0 and torch.isfinite(entropy_map(-torch.full((1, 2, 1), 1e4), exclusive=False)).all()


def test_entropy_of_ignored_voxels_is_zero_whatever_stands_there() -> None:
    logits = torch.zeros(1, 2, 4)
    logits[..., 2:] = float("nan")
    found = entropy_map(logits, exclusive=False, valid=VALID)
    assert found[..., 2:].abs().sum() == 0 and torch.equal(found[..., :2], torch.ones(1, 2, 2))


def test_content_by_hand() -> None:
    teacher, student = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 3.0], [0.0, 2.0]]])
    assert float(content_distance(teacher, student)) == pytest.approx((1 + 9 + 4) / 4)
    assert float(content_distance(teacher, student, VALID)) == pytest.approx(1 / 2)  # the second cell does not count
    assert float(content_distance(teacher, student, torch.zeros(1, 1, 4, dtype=torch.bool))) == 0


def test_gram_by_hand() -> None:
    teacher, student = torch.tensor([[[1.0, 1.0], [2.0, 0.0]]]), torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    # products of the teacher: 1, 1, 1, 2; of the student: 1, 0, 0, 0
    assert float(gram_distance(teacher, student)) == pytest.approx((0 + 1 + 1 + 4) / 4 / 4)
    shuffled = student.flip(-1)
    assert float(gram_distance(student, shuffled)) == 0  # a style knows no place


def test_likelihood_by_hand() -> None:
    target, mean = torch.tensor([[[3.0, 1.0], [0.0, 0.0]]]), torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
    variance = torch.tensor([4.0, 1.0])
    values = [(1 + math.log(4)) / 2, math.log(4) / 2, 1 / 2, 0.0]
    assert float(negative_log_likelihood(target, mean, variance)) == pytest.approx(sum(values) / 4)
    assert float(negative_log_likelihood(target, mean, variance, VALID)) == pytest.approx((values[0] + values[2]) / 2)


@pytest.mark.parametrize(
    ("term", "teacher_moves"),
    [
        (lambda t, s: consistency(t, s, exclusive=True), True),
        (content_distance, True),
        (gram_distance, True),
        (lambda t, s: negative_log_likelihood(t, s, torch.ones(3)), False),
    ],
    ids=["consistency", "content", "gram", "likelihood"],
)
def test_who_moves(term: Any, teacher_moves: bool) -> None:
    torch.manual_seed(0)
    teacher, student = (torch.randn(2, 3, 4, requires_grad=True) for _ in range(2))
    loss: Tensor = term(teacher, student)
    loss.backward()
    assert student.grad is not None and float(student.grad.abs().sum()) > 0
    assert (teacher.grad is not None) == teacher_moves
