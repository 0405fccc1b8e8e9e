"""Balanced distillation: by hand, voxels that do not count, and what it is for."""

from __future__ import annotations

import math

import pytest
import torch

from nnunetv2_mmkd.losses.balanced import (
    balanced_kl,
    divergence,
    is_right,
    soft_dice_distance,
    teacher_dice,
    voxel_weights,
)
from nnunetv2_mmkd.losses.logit import softened_kl


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def kl(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_balanced_kl_of_regions_by_hand() -> None:
    """One region, four voxels: three of background, one inside; each class weighs a half."""
    expected, found, classes = [0.1, 0.2, 0.3, 0.9], [0.2, 0.2, 0.6, 0.4], torch.tensor([[0, 0, 0, 1]])
    teacher, student = (torch.tensor([[[logit(p) for p in each]]]) for each in (expected, found))
    terms = [kl(p, q) for p, q in zip(expected, found, strict=True)]
    arguments = {"exclusive": False, "tau": 1.0}
    by_hand = (sum(terms[:3]) / 3 + terms[3]) / 2
    assert balanced_kl(teacher, student, classes, 2, **arguments).tolist() == pytest.approx([by_hand], rel=1e-5)
    plain = balanced_kl(teacher, student, classes, 2, **arguments, balanced=False)
    assert plain.tolist() == pytest.approx([sum(terms) / 4], rel=1e-5)


def test_balanced_kl_of_classes_by_hand() -> None:
    teacher = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [0.0, 0.5]]])
    student = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    tau, terms = 2.0, []
    for voxel in range(2):
        p, q = ((each[0, :, voxel] / tau).double().softmax(0) for each in (teacher, student))
        terms.append(float((p * (p / q).log()).sum()) * tau**2)
    found = balanced_kl(teacher, student, torch.tensor([[0, 2]]), 3, exclusive=True, tau=tau)
    assert found.tolist() == pytest.approx([sum(terms) / 2], rel=1e-5)


@pytest.mark.parametrize("exclusive", [True, False])
def test_without_balance_it_is_the_softened_divergence(exclusive: bool) -> None:
    """But for the mean over outcomes there, and the sum over classes here."""
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    classes = torch.randint(0, 3, (2, 4, 5))
    other = softened_kl(teacher, student, exclusive=exclusive, tau=3.0, of_student=False)
    found = balanced_kl(teacher, student, classes, 3, exclusive=exclusive, tau=3.0, balanced=False)
    torch.testing.assert_close(found, other * (3 if exclusive else 2))


def test_weights_of_voxels_by_hand() -> None:
    classes = torch.tensor([[[0, 0, 0], [2, -1, 2]], [[-1, -1, -1], [-1, -1, -1]]])
    weights = voxel_weights(classes, 4, balanced=True)
    assert weights[0].tolist() == [[pytest.approx(1 / 6)] * 3, [0.25, 0.0, 0.25]]
    assert weights[1].abs().sum() == 0
    assert voxel_weights(classes, 4, balanced=False)[0].tolist() == [
        [pytest.approx(0.2)] * 3,
        [pytest.approx(0.2), 0, pytest.approx(0.2)],
    ]


def test_where_the_teacher_is_right() -> None:
    classes = torch.tensor([[0, 1, 3]])  # nested regions: bit 0 the large one, bit 1 the small one
    regions = torch.tensor([[[-1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]])
    assert is_right(regions, classes, exclusive=False).tolist() == [[[True, True, True], [False, False, True]]]
    classes = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]])
    assert is_right(classes, torch.tensor([[0, 1]]), exclusive=True).tolist() == [[[True, False]]]


def test_a_wrong_teacher_teaches_nothing_and_its_voxels_still_count_in_the_mean() -> None:
    torch.manual_seed(0)
    classes = torch.tensor([[0, 0, 1, 1]])
    teacher, student = torch.tensor([[[-2.0, -2.0, 2.0, -2.0]]]), torch.randn(1, 1, 4)
    arguments = {"exclusive": False, "tau": 1.0}
    terms = divergence(teacher, student, **arguments)[0, 0]
    found = balanced_kl(teacher, student, classes, 2, **arguments, only_right=True)
    torch.testing.assert_close(found, (terms[:2].mean() + terms[2] / 2)[None] / 2)


def test_how_well_a_teacher_does_by_hand() -> None:
    """Nested regions; the sample has nothing of the third. The last voxel does not count."""
    classes = torch.tensor([[0, 1, 3, -1]])
    found = [[0.1, 0.8, 0.9, 0.7], [0.1, 0.2, 0.6, 0.7], [0.1, 0.1, 0.1, 0.9]]
    teacher = torch.tensor([[[logit(p) for p in each] for each in found]], requires_grad=True)
    dice = teacher_dice(teacher, classes, exclusive=False)
    assert dice[0].tolist() == pytest.approx([2 * 1.7 / (1.8 + 2), 2 * 0.6 / (0.9 + 1), 0], abs=1e-4)
    assert not dice.requires_grad
    p = torch.tensor([[[0.7, 0.2], [0.2, 0.5], [0.1, 0.3]]])  # classes, without the first
    of_classes = teacher_dice(p.log(), torch.tensor([[0, 2]]), exclusive=True)
    assert of_classes[0].tolist() == pytest.approx([0, 2 * 0.3 / (0.4 + 1)], abs=1e-4)


def test_weights_of_regions_by_hand() -> None:
    torch.manual_seed(0)
    classes, teacher, student = torch.tensor([[0, 1, 2, 3]]), torch.randn(1, 2, 4), torch.randn(1, 2, 4)
    region_weights = torch.tensor([[0.5, 0.25]])
    whole = soft_dice_distance(teacher, student, classes, exclusive=False, region_weights=region_weights)
    parts = [soft_dice_distance(teacher[:, k : k + 1], student[:, k : k + 1], classes, exclusive=False) for k in (0, 1)]
    torch.testing.assert_close(whole, (0.5 * parts[0] + 0.25 * parts[1]) / 2)
    terms = divergence(teacher, student, exclusive=False, tau=1.0)
    found = balanced_kl(teacher, student, classes, 4, exclusive=False, tau=1.0, region_weights=region_weights)
    torch.testing.assert_close(found, ((0.5 * terms[:, 0] + 0.25 * terms[:, 1]) / 2).mean(1))
    classes = torch.randn(1, 3, 4), torch.randn(1, 3, 4), torch.tensor([[0, 1, 2, 0]])
    plain = balanced_kl(*classes, 3, exclusive=True, tau=1.0)
    torch.testing.assert_close(
        balanced_kl(*classes, 3, exclusive=True, tau=1.0, region_weights=region_weights), 0.375 * plain
    )


@pytest.mark.parametrize("exclusive", [True, False])
def test_ignored_voxels_leave_no_trace(exclusive: bool) -> None:
    torch.manual_seed(0)
    teacher, student, classes = (
        torch.randn(1, 3, 6),
        torch.randn(1, 3, 6).requires_grad_(),
        torch.tensor([[0, 1, 2] * 2]),
    )
    classes[0, 4] = -1
    kept = [0, 1, 2, 3, 5]
    for function in (
        lambda t, s, a: balanced_kl(t, s, a, 3, exclusive=exclusive, tau=2.0, only_right=True),
        lambda t, s, a: soft_dice_distance(t, s, a, exclusive=exclusive),
    ):
        poisoned = teacher.clone()
        poisoned[..., 4] = 30.0
        value = function(poisoned, student, classes)
        torch.testing.assert_close(value, function(teacher[..., kept], student[..., kept], classes[:, kept]))
        (gradient,) = torch.autograd.grad(value.sum(), student)
        assert gradient[..., 4].abs().sum() == 0 and gradient[..., kept].abs().sum() > 0
        nothing = function(teacher, student, torch.full_like(classes, -1))
        assert nothing.tolist() == [0.0]


def test_the_dice_distance_by_hand_and_its_minimum() -> None:
    reference, found = [0.9, 0.6, 0.1], [0.5, 0.6, 0.3]
    teacher, student = (torch.tensor([[[logit(p) for p in each]]]) for each in (reference, found))
    classes = torch.zeros(1, 3, dtype=torch.long)
    value = soft_dice_distance(teacher, student, classes, exclusive=False)
    assert value.tolist() == pytest.approx([(0.4 + 0.2) / (1.6 + 1.4)], rel=1e-4)
    assert soft_dice_distance(teacher, teacher, classes, exclusive=False).tolist() == [0.0]
    right = soft_dice_distance(teacher, student, torch.tensor([[1, 0, 0]]), exclusive=False, only_right=True)
    assert right.tolist() == pytest.approx([(0.4 + 0.2) / 3.0], rel=1e-4)  # wrong in the second, which is equal
    hard = torch.tensor([[[4.0, 4.0, -4.0], [-4.0, -4.0, 4.0]]])  # of classes the first is left out
    soft = hard / 4
    p, q = hard.softmax(1)[0, 1], soft.softmax(1)[0, 1]
    expected = float((p - q).abs().sum() / (p + q).sum())
    assert soft_dice_distance(hard, soft, classes, exclusive=True).tolist() == pytest.approx([expected], rel=1e-4)


def decided(certain: int, share: float, other: str, distance: str) -> float:
    """The best probability where a student cannot tell: 100 voxels look alike, a share of them lies in the region.

    Beside them it is sure of some voxels of the region, of 10,000 of background, and of 50 of a core. It minimises the
    Dice loss and the cross entropy of the truth, plus half of a distance to a teacher that is nearly the truth.

    Args:
        certain: voxels of the region that the student is sure of.
        share: of the voxels that look alike.
        other: class of the rest of them, ``"background"`` or ``"core"``.
        distance: ``"none"``, ``"kl"`` or ``"dice"``.
    """
    inside = round(100 * share)
    classes = torch.tensor([[1] * inside + [0 if other == "background" else 2] * (100 - inside)])
    classes = torch.cat([classes, torch.tensor([[1] * certain + [0] * 10_000 + [2] * 50])], 1)
    truth = (classes == 1).float()
    sure = torch.where(classes == 1, 3.5, -9.0)[:, None]
    teacher = torch.cat([sure[..., :100].clamp_min(-3.5), sure[..., 100:]], 2)
    losses = {}
    for q in (step / 40 for step in range(1, 40)):
        student = sure.clone()
        student[..., :100] = logit(q)
        p = student[:, 0].sigmoid()
        loss = 1 - 2 * (p * truth).sum() / (p + truth).sum()
        loss = loss + torch.nn.functional.binary_cross_entropy(p, truth)
        if distance == "kl":
            loss = loss + 0.5 * balanced_kl(teacher, student, classes, 3, exclusive=False, tau=1.0)[0]
        elif distance == "dice":
            loss = loss + 0.5 * soft_dice_distance(teacher, student, classes, exclusive=False)[0]
        losses[q] = float(loss)
    return min(losses, key=losses.__getitem__)


@pytest.mark.parametrize(
    ("certain", "share", "other", "truth_alone", "kl_says"),
    [
        (150, 0.4, "background", False, True),  # what is small is overdone
        (30, 0.3, "background", False, True),
        (150, 0.5, "core", True, False),  # what is small is blurred away
        (0, 0.5, "core", True, True),
        (150, 0.2, "core", False, False),
    ],
)
def test_the_dice_distance_decides_as_the_truth_alone_does_where_a_student_cannot_tell(
    certain: int, share: float, other: str, truth_alone: bool, kl_says: bool
) -> None:
    best = {distance: decided(certain, share, other, distance) > 0.5 for distance in ("none", "dice", "kl")}
    assert best == {"none": truth_alone, "dice": truth_alone, "kl": kl_says}


def test_a_small_region_counts() -> None:
    """Of 1000 voxels 10 are inside; the student misses them. Balance gives them half of the gradient's size."""
    classes = torch.zeros(1, 1000, dtype=torch.long)
    classes[0, :10] = 1
    teacher = torch.where(classes == 1, 3.0, -3.0)[:, None]
    shares = {}
    for balanced in (True, False):
        student = torch.full((1, 1, 1000), -1.0, requires_grad=True)
        balanced_kl(teacher, student, classes, 2, exclusive=False, tau=1.0, balanced=balanced).sum().backward()
        size = student.grad[0, 0].abs()
        shares[balanced] = float(size[:10].sum() / size.sum())
    assert shares[True] > 0.6 and shares[False] < 0.04
