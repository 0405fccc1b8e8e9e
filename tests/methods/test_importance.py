"""The importance weight vector."""

from __future__ import annotations

import math

import pytest
import torch

from nnunetv2_mmkd.methods.importance import LARGEST_RATIO, ImportanceWeights, normalise, ratios


def test_softmax_of_eq_6_and_its_ratios() -> None:
    w = torch.tensor([math.log(1.0), math.log(3.0)])
    assert torch.allclose(normalise(w), torch.tensor([0.25, 0.75]))
    assert torch.allclose(ratios(w), torch.tensor([[1.0, 1 / 3], [3.0, 1.0]]))


def test_other_normalisations_and_their_guards() -> None:
    w = torch.tensor([-1.0, 2.0, 0.0])
    assert torch.allclose(normalise(w, "sigmoid"), w.sigmoid())
    assert torch.equal(normalise(w, "relu"), torch.tensor([0.0, 2.0, 0.0]))
    ratio = ratios(w, "relu")
    assert torch.isfinite(ratio).all()
    assert ratio[1, 0] == LARGEST_RATIO  # 2/0
    assert ratio[0, 2] == 0  # 0/0: nothing to teach
    assert ratios(torch.tensor([100.0, 0.0]))[0, 1] == LARGEST_RATIO
    with pytest.raises(ValueError, match="softmax"):
        normalise(w, "layer")


def test_ratios_are_detached() -> None:
    assert not ratios(torch.zeros(3, requires_grad=True)).requires_grad


def test_initialisation() -> None:
    random = ImportanceWeights(1000)
    assert random.w.min() >= 0 and random.w.max() < 1 and abs(random.w.mean() - 0.5) < 0.05
    assert torch.equal(random.w, ImportanceWeights(1000).w)
    assert torch.equal(ImportanceWeights(3, init="zeros").w, torch.zeros(3))


def test_first_step_of_adam_with_l2() -> None:
    weights = ImportanceWeights(2, init="zeros", lr=1e-2, weight_decay=5e-5)
    weights.apply(torch.tensor([2.0, -0.5]))
    assert torch.allclose(weights.w, torch.tensor([-0.01, 0.01]), atol=1e-6)  # Adam's first step is the sign
    weights = ImportanceWeights(1, lr=1e-2, weight_decay=1.0)
    start = weights.w.item()
    weights.apply(torch.zeros(1))
    assert weights.w.item() == pytest.approx(start - 1e-2, abs=1e-5)  # the L2 penalty alone pulls to zero


def test_state_restores_weights_and_adam() -> None:
    gradients = [torch.randn(3) for _ in range(6)]
    one = ImportanceWeights(3)
    for gradient in gradients:
        one.apply(gradient)
    two = ImportanceWeights(3)
    for gradient in gradients[:3]:
        two.apply(gradient)
    three = ImportanceWeights(3, init="zeros")
    three.load_state_dict(two.state_dict())
    for gradient in gradients[3:]:
        three.apply(gradient)
    assert torch.equal(one.w, three.w)
