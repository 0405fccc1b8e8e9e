"""Semantic prototypes, similarities and gaps by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nnunetv2_mmkd.benchmark.counters import LiveBytes
from nnunetv2_mmkd.losses.prototype import prototypes, semantic_gap, similarities

FEATURES = torch.tensor([[[1.0, 3.0, 0.0, 0.0], [0.0, 0.0, 2.0, 4.0]]])  # one sample, two channels, four voxels
CLASSES = torch.tensor([[0, 0, 1, 1]])


def test_prototypes_are_means() -> None:
    centres, there = prototypes(FEATURES.split(3, 2), CLASSES.split(3, 1), 3)
    assert centres.tolist() == [[[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]]]
    assert there.tolist() == [[True, True, False]]
    without, there = prototypes([FEATURES], [torch.tensor([[0, -1, 1, -1]])], 2)
    assert without.tolist() == [[[1.0, 0.0], [0.0, 2.0]]] and there.all()


def test_similarities_are_cosines() -> None:
    centres = torch.tensor([[[1.0, 1.0], [0.0, 5.0]]])
    found = similarities(FEATURES, centres)
    half = math.sqrt(0.5)
    assert torch.allclose(found, torch.tensor([[[half] * 4, [0.0, 0.0, 1.0, 1.0]]]), atol=1e-6)


def test_gap_by_hand() -> None:
    student = torch.tensor([[[1.0, 3.0, 2.0, 4.0], [0.0, 0.0, 0.0, 0.0]]])  # does not tell the classes apart
    distance, loss = semantic_gap(FEATURES, student, CLASSES, 2)
    # the teacher's maps are 1 1 0 0 and 0 0 1 1, the student's all 1
    assert float(distance) == pytest.approx(4 / 8) and float(loss) == pytest.approx(4 / 8)
    halfway = torch.tensor([[[1.0, 3.0, 1.0, 2.0], [0.0, 0.0, 1.0, 2.0]]])
    distance, loss = semantic_gap(FEATURES, halfway, CLASSES, 2)
    c = math.sqrt(0.5)
    assert float(distance) == pytest.approx(4 * c / 8, rel=1e-5)
    assert float(loss) == pytest.approx(4 * c**2 / 8, rel=1e-5)


def test_classes_that_a_sample_lacks_and_voxels_that_do_not_count() -> None:
    student = torch.rand(1, 2, 4)
    expected = semantic_gap(FEATURES, student, CLASSES, 2)
    for found, reference in zip(semantic_gap(FEATURES, student, CLASSES, 8), expected, strict=True):
        assert torch.allclose(found, reference)
    more = [torch.cat([each, torch.full((1, 2, 3), 7.0)], 2) for each in (FEATURES, student)]
    classes = torch.cat([CLASSES, torch.full((1, 3), -1)], 1)
    for found, reference in zip(semantic_gap(*more, classes, 2), expected, strict=True):
        assert torch.allclose(found, reference)
    nothing = semantic_gap(FEATURES, student, torch.full((1, 4), -1), 2)
    assert [float(each) for each in nothing] == [0, 0]


def test_samples_do_not_mix() -> None:
    teacher, student = torch.rand(3, 4, 5, 5), torch.rand(3, 4, 5, 5)
    classes = torch.randint(0, 3, (3, 5, 5))
    together = semantic_gap(teacher, student, classes, 3)
    for sample in range(3):
        alone = semantic_gap(teacher[sample, None], student[sample, None], classes[sample, None], 3)
        assert all(torch.allclose(a[sample], b[0]) for a, b in zip(together, alone, strict=True))


def test_only_the_student_gets_a_gradient() -> None:
    teacher, student = (torch.rand(1, 3, 6, requires_grad=True) for _ in range(2))
    distance, loss = semantic_gap(teacher, student, torch.tensor([[0, 0, 0, 1, 1, 1]]), 2)
    assert not distance.requires_grad
    loss.sum().backward()
    assert teacher.grad is None and student.grad is not None and student.grad.abs().sum() > 0


def test_float32_outside_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distance, loss = semantic_gap(FEATURES.bfloat16(), torch.rand(1, 2, 4).bfloat16(), CLASSES, 2)
    assert distance.dtype == loss.dtype == torch.float32


def dense_gap(teacher: Tensor, student: Tensor, classes: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Eqs. (4) to (8) for whole maps at once."""
    maps = []
    labels = classes.flatten(1)
    there = torch.stack([(labels == k).any(1) for k in range(n_classes)], 1)
    for features in (teacher, student):
        z = features.flatten(2)
        rows = []
        for sample, values in enumerate(z):
            for k in range(n_classes):
                own = labels[sample] == k
                centre = values[:, own].mean(1) if own.any() else torch.zeros(len(values))
                rows.append(torch.cosine_similarity(values, centre[:, None].expand_as(values), 0))
        maps.append(torch.stack(rows).reshape(len(z), n_classes, -1))
    counts = (there[:, :, None] & (labels >= 0)[:, None]).float()
    difference = (maps[1] - maps[0].detach()) * counts
    number = counts.sum((1, 2))
    return difference.abs().sum((1, 2)) / number, difference.square().sum((1, 2)) / number


@pytest.mark.parametrize("voxels", [7, 64, 2**18])
@pytest.mark.parametrize("outer", [False, True])
def test_portions_of_voxels_change_nothing(monkeypatch: pytest.MonkeyPatch, voxels: int, outer: bool) -> None:
    """Value and gradient are those of the whole maps, also where a method recomputes its student."""
    monkeypatch.setattr("nnunetv2_mmkd.losses.prototype.VOXELS", voxels)
    generator = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(2, 5, 6, 7, 3, generator=generator, requires_grad=True) for _ in range(2))
    classes = torch.randint(-1, 4, (2, 6, 7, 3), generator=generator)
    classes[1][classes[1] == 2] = 0  # the second sample lacks a class
    arguments = (teacher, student, classes, 5)
    found = checkpoint(semantic_gap, *arguments, use_reentrant=False) if outer else semantic_gap(*arguments)
    expected = dense_gap(teacher, student, classes, 5)
    for ours, plain in zip(found, expected, strict=True):
        assert torch.allclose(ours, plain, rtol=1e-5)
    weights = torch.tensor([1.0, 3.0])
    (gradient,) = torch.autograd.grad((weights * found[1]).sum(), student)
    (plain,) = torch.autograd.grad((weights * expected[1]).sum(), student)
    assert torch.allclose(gradient, plain, rtol=1e-4, atol=1e-8) and plain.abs().max() > 1e-5


def test_no_map_of_full_size_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward nothing of the features' size; backward their gradient, and what it is put together from."""
    monkeypatch.setattr("nnunetv2_mmkd.losses.prototype.VOXELS", 256)
    teacher, student = torch.randn(1, 16, 2**14), torch.randn(1, 16, 2**14, requires_grad=True)
    classes = torch.randint(0, 4, (1, 2**14))
    size = student.untyped_storage().nbytes()
    with LiveBytes([teacher, student, classes]) as live:
        loss = semantic_gap(teacher, student, classes, 8)[1].sum()
        assert live.peak < 0.2 * size
        loss.backward()
        assert live.peak < 2.5 * size
