"""Cross entropy weighted by the shares of the classes, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from nnunetv2_mmkd.losses.weighted_ce import weighted_binary_cross_entropy, weighted_cross_entropy


def test_classes_by_hand() -> None:
    logits = torch.zeros(1, 2, 4)
    logits[0, 1, 3] = math.log(3)  # probability 3/4 of class 1
    labels = torch.tensor([[0, 0, 0, 1]])
    expected = (3 * 0.25 * math.log(2) + 0.75 * -math.log(0.75)) / 4
    assert float(weighted_cross_entropy(logits, labels)) == pytest.approx(expected, rel=1e-6)


def test_ignored_voxels_change_nothing() -> None:
    logits, labels = torch.randn(2, 3, 5, 4), torch.randint(0, 3, (2, 5, 4))
    expected = weighted_cross_entropy(logits, labels)
    wider = torch.cat([logits, torch.full((2, 3, 2, 4), 9.0)], 2)
    ignored = torch.cat([labels, torch.full((2, 2, 4), 3)], 1)
    assert torch.allclose(weighted_cross_entropy(wider, ignored, ignore=3), expected)
    assert float(weighted_cross_entropy(logits, torch.full((2, 5, 4), 3), ignore=3)) == 0


def test_a_region_is_a_class_and_its_complement() -> None:
    logits, region = torch.randn(2, 1, 6), torch.rand(2, 1, 6) < 0.3
    as_classes = torch.cat([torch.zeros_like(logits), logits], 1)  # softmax of (0, z) is the sigmoid of z
    expected = weighted_cross_entropy(as_classes, region[:, 0].long())
    assert float(weighted_binary_cross_entropy(logits, region).mean()) == pytest.approx(float(expected), rel=1e-5)
