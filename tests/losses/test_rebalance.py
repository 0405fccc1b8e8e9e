"""Shares, prototypes, scores, ratios and modulation of PMR by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from nnunetv2_mmkd.losses.rebalance import class_sums, imbalance_terms, modulation, prototype_scores, shares

FEATURES = torch.tensor([[[0.0, 2.0, 9.0], [0.0, 0.0, 9.0]]])  # one sample, two channels, three cells
SHARE = torch.tensor([[[1.0, 0.5, 0.0], [0.0, 0.5, 0.0]]])  # the third does not count
CENTRES = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
BOTH = torch.tensor([True, True])


def test_shares_of_cells() -> None:
    classes = torch.tensor([[[0, 0, 1, 1], [0, 2, -1, -1]]])
    found = shares(classes, 3, (1, 2))
    assert found[0, :, 0].tolist() == [[0.75, 0.0], [0.0, 0.5], [0.25, 0.0]]
    assert shares(classes, 3, (2, 4))[0, 0].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert shares(torch.zeros(2, 4, 4, 4, dtype=torch.long), 2, (2, 2, 2)).shape == (2, 2, 2, 2, 2)


def test_prototypes_are_means_of_what_a_cell_holds() -> None:
    sums, numbers = class_sums(FEATURES.clone().requires_grad_(), SHARE)
    assert sums.tolist() == [[1.0, 0.0], [1.0, 0.0]] and numbers.tolist() == [1.5, 0.5]
    assert not sums.requires_grad


def test_cells_stand_for_their_voxels() -> None:
    """The mean over cells by share is that over voxels which all have their cell's feature."""
    torch.manual_seed(0)
    features, classes = torch.randn(2, 3, 2, 2), torch.randint(-1, 3, (2, 4, 4))
    fine = interpolate(features, (4, 4), mode="nearest")
    centres, known = torch.randn(3, 3), torch.ones(3).bool()
    coarse = prototype_scores(features, shares(classes, 3, (2, 2)), centres, known)
    voxelwise = prototype_scores(fine, shares(classes, 3, (4, 4)), centres, known)
    for found, expected in zip(coarse, voxelwise, strict=True):
        assert torch.allclose(found, expected, atol=1e-6)
    for found, expected in zip(
        class_sums(features, shares(classes, 3, (2, 2))), class_sums(fine, shares(classes, 3, (4, 4))), strict=True
    ):
        assert torch.allclose(4 * found, expected, atol=1e-5)


def test_prototype_scores_by_hand() -> None:
    found = prototype_scores(FEATURES, SHARE, CENTRES, BOTH)
    # distances of the first cell: 0 and 5; of the second: 2 and sqrt(1 + 16)
    first = [1 / (1 + math.exp(-5)), 1 / (1 + math.exp(5))]
    gap = math.sqrt(17) - 2
    second = [1 / (1 + math.exp(-gap)), 1 / (1 + math.exp(gap))]
    similarity = [(first[0] + 0.5 * second[0]) / 1.5, second[1]]
    assert float(found.similarity) == pytest.approx(sum(similarity) / 2, rel=1e-5)
    entropy = [-sum(p * math.log(p) for p in each) for each in (first, second)]
    assert float(found.entropy) == pytest.approx(((entropy[0] + 0.5 * entropy[1]) / 1.5 + entropy[1]) / 2, rel=1e-5)
    loss = [-(math.log(first[0]) + 0.5 * math.log(second[0])) / 1.5, -math.log(second[1])]
    assert float(found.cross_entropy) == pytest.approx(sum(loss) / 2, rel=1e-5)


def test_cross_entropy_is_torchs_where_classes_are_even() -> None:
    torch.manual_seed(0)
    features, centres = torch.randn(1, 4, 6), torch.randn(3, 4)
    labels = torch.tensor([[0, 1, 2, 2, 1, 0]])
    logits = -torch.cdist(features[0].T, centres)
    found = prototype_scores(features, shares(labels, 3, (6,)), centres, torch.ones(3).bool())
    assert torch.allclose(found.cross_entropy[0], cross_entropy(logits, labels[0]))
    true = logits.softmax(1)[torch.arange(6), labels[0]]
    assert torch.allclose(found.similarity[0], true.mean())


def test_every_class_counts_the_same() -> None:
    features = torch.tensor([[[0.0] * 99 + [5.0]]])
    labels = torch.tensor([[0] * 99 + [1]])
    found = prototype_scores(features, shares(labels, 2, (100,)), torch.tensor([[0.0], [0.0]]), BOTH)
    assert float(found.similarity) == pytest.approx(0.5)
    far = prototype_scores(features, shares(labels, 2, (100,)), torch.tensor([[0.0], [9.0]]), BOTH)
    expected = (1 / (1 + math.exp(-9)) + 1 / (1 + math.exp(-1))) / 2
    assert float(far.similarity) == pytest.approx(expected, rel=1e-5)


def test_prototypes_that_there_are_not() -> None:
    one = prototype_scores(FEATURES, SHARE, CENTRES, torch.tensor([True, False]))
    assert float(one.similarity) == 1 and float(one.cross_entropy) == 0 == float(one.entropy)
    none = prototype_scores(FEATURES, SHARE, CENTRES, torch.tensor([False, False]))
    nothing = prototype_scores(FEATURES, torch.zeros_like(SHARE), CENTRES, BOTH)
    for found in (none, nothing):
        assert [float(each) for each in found] == [0, 0, 0]


def test_gradients() -> None:
    """A cell on its prototype is no trouble; prototypes and similarities have none."""
    features, centres = FEATURES.clone().requires_grad_(), CENTRES.clone().requires_grad_()
    found = prototype_scores(features, SHARE, centres, BOTH)
    assert not found.similarity.requires_grad
    for term in (found.cross_entropy, found.entropy):
        (gradient,) = torch.autograd.grad(term.sum(), features, retain_graph=True)
        assert torch.isfinite(gradient).all() and gradient[..., 1].abs().sum() > 0
        assert (gradient[..., 2] == 0).all()  # does not count
    found.cross_entropy.sum().backward()
    assert centres.grad is None
    nowhere = prototype_scores(features, SHARE, CENTRES, torch.tensor([False, False]))
    (gradient,) = torch.autograd.grad(nowhere.cross_entropy.sum() + nowhere.entropy.sum(), features)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_the_cross_entropy_draws_to_the_own_prototype() -> None:
    features = torch.tensor([[[1.0], [1.0]]], requires_grad=True)
    share = torch.tensor([[[0.0], [1.0]]])
    before = prototype_scores(features, share, CENTRES, BOTH)
    (gradient,) = torch.autograd.grad(before.cross_entropy.sum(), features)
    after = prototype_scores(features - 0.1 * gradient, share, CENTRES, BOTH)
    assert after.similarity > before.similarity


def test_float32_outside_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = prototype_scores(FEATURES.bfloat16(), SHARE, CENTRES, BOTH)
        sums = class_sums(FEATURES.bfloat16(), SHARE)
    assert {each.dtype for each in (*found, *sums)} == {torch.float32}


def test_two_modalities_are_the_papers() -> None:
    similarity = torch.tensor([[0.9, 0.5], [0.7, 0.3]])
    own, others = imbalance_terms(similarity, torch.ones(2, 2).bool())
    assert torch.allclose(own / others, torch.tensor([1.6 / 0.8, 0.8 / 1.6]))  # Eq. (8) and its inverse
    behind, ahead = modulation(torch.tensor([1.2, 0.8]), torch.tensor([0.8, 1.2]))
    assert torch.allclose(behind, torch.tensor([0.0, 0.5])) and torch.allclose(ahead, torch.tensor([0.5, 0.0]))
    behind, ahead = modulation(torch.tensor([9.0, 1.0]), torch.tensor([1.0, 9.0]))  # clipped
    assert behind.tolist() == [0.0, 1.0] and ahead.tolist() == [1.0, 0.0]


def test_more_modalities_some_missing() -> None:
    similarity = torch.tensor([[0.9, 0.6, 0.3], [0.8, 7.0, 0.4], [0.5, 7.0, 7.0]])
    available = torch.tensor([[True, True, True], [True, False, True], [True, False, False]])
    own, others = imbalance_terms(similarity, available)
    assert torch.allclose(own, torch.tensor([1.7, 0.6, 0.7]))  # the third sample compares nothing
    assert torch.allclose(others, torch.tensor([0.45 + 0.4, 0.6, 0.75 + 0.8]))
    behind, ahead = modulation(own, others)
    assert torch.allclose(behind, torch.tensor([0.0, 0.0, 1.0]), atol=1e-6)
    assert torch.allclose(ahead, torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)
    alone = imbalance_terms(similarity[2:], available[2:])
    assert [each.tolist() for each in alone] == [[0] * 3] * 2
    assert [each.tolist() for each in modulation(*alone)] == [[0] * 3] * 2
    spoilt = torch.where(available, similarity, torch.nan)
    assert torch.equal(imbalance_terms(spoilt, available)[1], others)


def test_modulation_has_no_gradient() -> None:
    own = torch.tensor([1.0, 2.0], requires_grad=True)
    assert not any(each.requires_grad for each in modulation(own, own.flip(0)))
