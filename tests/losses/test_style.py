"""Style matching: products of maps and the two sides of the adversarial term, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from nnunetv2_mmkd.losses.style import adversarial_loss, discriminator_loss, gram, style_distance


def test_products_by_hand() -> None:
    first, second = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 1.0], [0.0, 4.0]]])
    assert gram(first, second).tolist() == [[[2.5, 4.0]]]
    fine = [each.repeat_interleave(3, -1) for each in (first, second)]
    assert torch.allclose(gram(*fine), gram(first, second))  # the number of positions does not matter


def test_distance_by_hand() -> None:
    a, b, c = (torch.tensor([[[value]]]) for value in (1.0, 2.0, 3.0))
    zero = torch.zeros(1, 1, 1)
    # products 2, 3, 6 against 2, 0, 0
    assert float(style_distance([a, b, c], [a, b, zero])) == pytest.approx((0 + 9 + 36) / 4)
    wide = torch.cat([b, b], 1)  # two entries of 2 against two of 0: the mean
    assert float(style_distance([a, wide], [a, torch.zeros(1, 2, 1)])) == pytest.approx(4 / 4)


def test_distance_reaches_each_map_of_the_student() -> None:
    teacher = [torch.randn(2, channels, 3, 3) for channels in (2, 4, 3)]
    student = [torch.randn(2, channels, 3, 3, requires_grad=True) for channels in (2, 4, 3)]
    style_distance(teacher, student).backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in student)


def test_both_sides_by_hand() -> None:
    complete, incomplete = torch.tensor([[-1.0]]), torch.tensor([[2.0]])
    d = [1 / (1 + math.exp(1)), 1 / (1 + math.exp(-2))]
    expected = -(math.log(1 - d[0]) + math.log(d[1]))  # Eq. (9), to be minimised
    assert float(discriminator_loss(complete, incomplete)) == pytest.approx(expected, rel=1e-6)
    assert float(adversarial_loss(incomplete)) == pytest.approx(-math.log(1 - d[1]), rel=1e-6)


def test_a_sure_discriminator_still_teaches() -> None:
    logit = torch.tensor([[30.0]], requires_grad=True)
    adversarial_loss(logit).backward()
    assert logit.grad is not None and float(logit.grad) == pytest.approx(1.0)
    printed = torch.tensor([[30.0]], requires_grad=True)
    printed.sigmoid().log().backward()
    assert printed.grad is not None and abs(float(printed.grad)) < 1e-6


def test_float32_outside_autocast() -> None:
    maps = [torch.full((1, 2, 4), 300.0).half() for _ in range(2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert gram(*maps).max() == 90_000
        assert adversarial_loss(maps[0]).dtype == torch.float32
