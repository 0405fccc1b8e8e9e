"""ShaSpec's terms by hand, and what they reach."""

from __future__ import annotations

import math

import pytest
import torch

from nnunetv2_mmkd.losses.shared_specific import aligned_pairs, alignment_distance, modality_classification, pooled

FEATURES = torch.tensor([[[0.0, 0.0, 0.0]], [[1.0, 3.0, 5.0]], [[2.0, 2.0, 2.0]], [[0.0, 0.0, 3.0]]])


@pytest.mark.parametrize(
    ("count", "which", "pairs"),
    [
        (1, "all", []),
        (1, "cyclic", []),
        (2, "cyclic", [(0, 1)]),
        (3, "cyclic", [(0, 1), (1, 2), (0, 2)]),
        (4, "cyclic", [(0, 1), (1, 2), (2, 3), (0, 3)]),
        (4, "all", [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]),
    ],
)
def test_pairs(count: int, which: str, pairs: list[tuple[int, int]]) -> None:
    assert sorted(aligned_pairs(count, which)) == sorted(pairs)


def test_alignment_by_hand() -> None:
    assert float(alignment_distance(FEATURES)) == pytest.approx(3 + 2 + 1 + 5 / 3 + 2 + 5 / 3)
    assert float(alignment_distance(FEATURES, "cyclic")) == pytest.approx(3 + 5 / 3 + 5 / 3 + 1)
    weight = torch.tensor([1.0, 0.5, 0.0])  # the last position is left out
    assert float(alignment_distance(FEATURES[:2], weight=weight)) == pytest.approx((1 + 0.5 * 3) / 1.5)
    assert float(alignment_distance(FEATURES[:2], weight=torch.zeros(3))) == 0
    assert float(alignment_distance(FEATURES[:1])) == 0


def test_both_sides_of_a_pair_move() -> None:
    features = FEATURES[:2].clone().requires_grad_()
    alignment_distance(features).backward()
    assert features.grad is not None
    assert torch.allclose(features.grad[0], torch.tensor(-1 / 3)) and torch.equal(features.grad[0], -features.grad[1])


def test_classification_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    assert float(modality_classification(logits, torch.tensor([0, 1]))) == pytest.approx(
        (-math.log(3 / 4) - math.log(1 / 2)) / 2
    )


def test_pooling_leaves_out_what_does_not_count() -> None:
    features = torch.tensor([[1.0, 3.0, 8.0], [2.0, 2.0, 2.0]])
    assert pooled(features).tolist() == [4.0, 2.0]
    assert pooled(features, torch.tensor([1.0, 1.0, 0.0])).tolist() == [2.0, 2.0]


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="pairs must be one of all, cyclic"):
        aligned_pairs(3, "some")
