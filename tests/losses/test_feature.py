"""Distillation between features: closed forms, direction, what is left out."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_mmkd.losses.feature import fill_agreement, pairwise_distances


def test_distances_in_closed_form() -> None:
    features = torch.tensor([[[1.0, 3.0]], [[2.0, -1.0]]])  # two modalities, one channel, two positions
    assert torch.allclose(pairwise_distances(features, p=1), torch.tensor([[0.0, 2.5], [2.5, 0.0]]))
    assert torch.allclose(pairwise_distances(features, p=2), torch.tensor([[0.0, 8.5], [8.5, 0.0]]))


def test_the_student_moves_and_the_teacher_does_not() -> None:
    features = torch.tensor([[[1.0, 3.0]], [[2.0, -1.0]]], requires_grad=True)
    pairwise_distances(features)[0, 1].backward()  # teacher 0, student 1
    assert torch.equal(features.grad[0], torch.zeros(1, 2))
    assert torch.allclose(features.grad[1], torch.tensor([[0.5, -0.5]]))


def test_positions_without_weight_are_left_out() -> None:
    features = torch.tensor([[[1.0, 3.0]], [[2.0, -1.0]]])
    assert pairwise_distances(features, weight=torch.tensor([1.0, 0.0]))[0, 1] == 1.0
    assert pairwise_distances(features, weight=torch.zeros(2)).abs().sum() == 0
    features[:, :, 1] = torch.tensor([[9.0], [-7.0]])
    assert pairwise_distances(features, weight=torch.tensor([1.0, 0.0]))[0, 1] == 1.0


def test_float32_outside_autocast() -> None:
    features = torch.full((2, 1, 4), 300.0, dtype=torch.float16)
    features[1] = -300.0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distances = pairwise_distances(features, p=2)
    assert distances.dtype == torch.float32
    assert distances[0, 1] == 360_000  # over the largest float16


def test_wrong_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="p must be"):
        pairwise_distances(torch.zeros(2, 1, 1), p=3)


def test_agreement_of_the_filled_with_the_real_feature() -> None:
    features = torch.tensor([[[2.0, 0.0]], [[4.0, 0.0]], [[0.0, 3.0]]])
    agreement = fill_agreement(features)
    assert torch.allclose(agreement.l1, torch.tensor([0.75, 2.25, 3.0 / 2 + 3.0 / 2]))
    assert torch.allclose(agreement.relative_l1, torch.tensor([0.75, 1.125, 2.0]))
    assert torch.allclose(agreement.cosine[2], torch.tensor(0.0))
    assert torch.allclose(agreement.cosine[0], torch.tensor(2.0 / 2.5))
