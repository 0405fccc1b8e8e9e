"""Extreme-value distillation: closed forms, number of tokens, gradients."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_mmkd.losses.attention import extreme_value_distance, extreme_values

A = torch.tensor([[[[0.5, 0.5], [1.0, 0.0]], [[0.25, 0.75], [0.5, 0.5]]]])  # one sample, two heads, two tokens


def test_extremes_over_heads_by_hand() -> None:
    (values,) = extreme_values([A])
    largest = torch.tensor([[0.5, 0.75], [1.0, 0.5]])
    smallest = torch.tensor([[0.25, 0.5], [0.5, 0.0]])
    mean = (largest + smallest) / 2
    for found, extreme in zip(values, (largest, smallest, mean), strict=True):
        assert torch.allclose(found, 4 * extreme * A)  # N^2 = 4


def test_extremes_over_layers_by_hand() -> None:
    first, second = A[:, :1], A[:, 1:]
    values = extreme_values([first, second], over="layers")
    assert torch.allclose(values[1][0], 4 * torch.maximum(first, second) * second)
    assert torch.allclose(values[0][1], 4 * torch.minimum(first, second) * first)
    with pytest.raises(ValueError, match="heads or layers, not 'tokens'"):
        extreme_values([A], over="tokens")


def test_distance_by_hand() -> None:
    uniform = torch.full((1, 1, 2, 2), 0.5)
    certain = torch.eye(2)[None, None]
    # with one head the three extremes are A itself: EV = 4 A^2, 1 everywhere against 4 and 0
    assert float(extreme_value_distance([uniform], [certain])) == pytest.approx(3 * (9 + 9 + 1 + 1) / 4)
    assert float(extreme_value_distance([uniform] * 3, [certain] * 3)) == pytest.approx(9 * 20 / 4)
    both = torch.cat([certain, uniform])
    assert float(extreme_value_distance(torch.cat([uniform, uniform])[None], both[None])) == pytest.approx(3 * 20 / 8)


def test_scaled_by_the_number_of_tokens() -> None:
    """The same pattern of attention on more tokens costs the same; unscaled it would shrink by N^4."""
    pattern = torch.rand(1, 2, 3, 3).softmax(-1)
    other = torch.rand(1, 2, 3, 3).softmax(-1)
    finer = [each.repeat_interleave(4, 2).repeat_interleave(4, 3) / 4 for each in (pattern, other)]
    assert float(extreme_value_distance([pattern], [other])) == pytest.approx(
        float(extreme_value_distance([finer[0]], [finer[1]])), rel=1e-5
    )


def test_relative_distance_by_hand() -> None:
    uniform, certain = torch.full((1, 1, 2, 2), 0.5), torch.eye(2)[None, None]
    plain = float(extreme_value_distance([uniform], [certain]))
    assert float(extreme_value_distance([uniform], [certain], relative=True)) == plain  # 4 A^2 is 1 everywhere
    # the other way round the teacher's mean square is (16 + 0 + 0 + 16) / 4
    assert float(extreme_value_distance([certain], [uniform], relative=True)) == pytest.approx(plain / 8)
    sharp, other = torch.eye(64)[None, None], torch.eye(64).roll(1, 0)[None, None]
    assert float(extreme_value_distance([sharp], [other])) > 1e6
    assert float(extreme_value_distance([sharp], [other], relative=True)) == pytest.approx(6)


def test_gradients_and_float32() -> None:
    teacher, student = (torch.rand(1, 2, 4, 4).softmax(-1).requires_grad_() for _ in range(2))
    extreme_value_distance([teacher.detach()], [student]).backward()
    assert teacher.grad is None and student.grad is not None and student.grad.abs().sum() > 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = extreme_value_distance([teacher.bfloat16()], [student.bfloat16()])
    assert low.dtype == torch.float32
