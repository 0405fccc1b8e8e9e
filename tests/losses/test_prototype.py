"""Semantic prototypes, similarities and gaps by hand."""

from __future__ import annotations

import math

import pytest
import torch

from nnunetv2_mmkd.losses.prototype import prototypes, semantic_gap, similarities

FEATURES = torch.tensor([[[1.0, 3.0, 0.0, 0.0], [0.0, 0.0, 2.0, 4.0]]])  # one sample, two channels, four voxels
ATOMS = torch.tensor([[0, 0, 1, 1]])


def test_prototypes_are_means() -> None:
    centres, there = prototypes(FEATURES, ATOMS, 3)
    assert centres.tolist() == [[[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]]]
    assert there.tolist() == [[True, True, False]]
    without, there = prototypes(FEATURES, torch.tensor([[0, -1, 1, -1]]), 2)
    assert without.tolist() == [[[1.0, 0.0], [0.0, 2.0]]] and there.all()


def test_similarities_are_cosines() -> None:
    centres = torch.tensor([[[1.0, 1.0], [0.0, 5.0]]])
    found = similarities(FEATURES, centres)
    half = math.sqrt(0.5)
    assert torch.allclose(found, torch.tensor([[[half] * 4, [0.0, 0.0, 1.0, 1.0]]]), atol=1e-6)


def test_gap_by_hand() -> None:
    student = torch.tensor([[[1.0, 3.0, 2.0, 4.0], [0.0, 0.0, 0.0, 0.0]]])  # does not tell the classes apart
    distance, loss = semantic_gap(FEATURES, student, ATOMS, 2)
    # the teacher's maps are 1 1 0 0 and 0 0 1 1, the student's all 1
    assert float(distance) == pytest.approx(4 / 8) and float(loss) == pytest.approx(4 / 8)
    halfway = torch.tensor([[[1.0, 3.0, 1.0, 2.0], [0.0, 0.0, 1.0, 2.0]]])
    distance, loss = semantic_gap(FEATURES, halfway, ATOMS, 2)
    c = math.sqrt(0.5)
    assert float(distance) == pytest.approx(4 * c / 8, rel=1e-5)
    assert float(loss) == pytest.approx(4 * c**2 / 8, rel=1e-5)


def test_atoms_that_a_sample_lacks_and_voxels_that_do_not_count() -> None:
    student = torch.rand(1, 2, 4)
    expected = semantic_gap(FEATURES, student, ATOMS, 2)
    for found, wanted in zip(semantic_gap(FEATURES, student, ATOMS, 8), expected, strict=True):
        assert torch.allclose(found, wanted)
    more = [torch.cat([each, torch.full((1, 2, 3), 7.0)], 2) for each in (FEATURES, student)]
    atoms = torch.cat([ATOMS, torch.full((1, 3), -1)], 1)
    for found, wanted in zip(semantic_gap(*more, atoms, 2), expected, strict=True):
        assert torch.allclose(found, wanted)
    nothing = semantic_gap(FEATURES, student, torch.full((1, 4), -1), 2)
    assert [float(each) for each in nothing] == [0, 0]


def test_samples_do_not_mix() -> None:
    teacher, student = torch.rand(3, 4, 5, 5), torch.rand(3, 4, 5, 5)
    atoms = torch.randint(0, 3, (3, 5, 5))
    together = semantic_gap(teacher, student, atoms, 3)
    for sample in range(3):
        alone = semantic_gap(teacher[sample, None], student[sample, None], atoms[sample, None], 3)
        assert all(torch.allclose(a[sample], b[0]) for a, b in zip(together, alone, strict=True))


def test_only_the_student_gets_a_gradient() -> None:
    teacher, student = (torch.rand(1, 3, 6, requires_grad=True) for _ in range(2))
    distance, loss = semantic_gap(teacher, student, torch.tensor([[0, 0, 0, 1, 1, 1]]), 2)
    assert not distance.requires_grad
    loss.sum().backward()
    assert teacher.grad is None and student.grad is not None and student.grad.abs().sum() > 0


def test_float32_outside_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distance, loss = semantic_gap(FEATURES.bfloat16(), torch.rand(1, 2, 4).bfloat16(), ATOMS, 2)
    assert distance.dtype == loss.dtype == torch.float32
