"""DeMoSeg's distillation by hand, and what it reaches."""

from __future__ import annotations

import math

import pytest
import torch

from nnunetv2_mmkd.losses.decoupled import subspace_divergence


def test_divergence_by_hand() -> None:
    own = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])  # p = 3/4, 1/4 and 1/2, 1/2
    mutual = torch.tensor([[0.0, math.log(4.0)], [0.0, 0.0]])  # q = 1/2, 1/2 and 4/5, 1/5
    at = (
        0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5),
        0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2),
    )
    assert float(subspace_divergence(own, mutual)) == pytest.approx(sum(at) / 2 / 2, rel=1e-5)
    assert float(subspace_divergence(own, mutual, torch.tensor([0.0, 0.5]))) == pytest.approx(at[1] / 2, rel=1e-5)
    entries = torch.nn.functional.kl_div(mutual.log_softmax(0), own.softmax(0), reduction="none")
    torch.testing.assert_close(subspace_divergence(own, mutual), entries.mean())
    assert float(subspace_divergence(own, mutual, torch.zeros(2))) == 0


def test_both_features_move() -> None:
    own, mutual = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    subspace_divergence(own * 3, mutual * torch.tensor([[1.0], [2.0]])).backward()
    for each in (own, mutual):
        assert each.grad is not None and float(each.grad.abs().sum()) > 0
