"""Subjects: what is refused, and how they are narrowed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from toy_subjects import toy

from nnunetv2_mmkd.errors import InputError

SUBJECTS = toy(4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"present": SUBJECTS.present & torch.tensor([[True], [True], [False], [True]])}, "subject s2 has no modality"),
        ({"ids": ("s0", "s0", "s1", "s2")}, "s0 is given twice"),
        ({"inputs": {**SUBJECTS.inputs, "a": torch.zeros(3, 3)}}, "modality a: 3 rows for 4 subjects"),
        ({"inputs": {"T1C": torch.zeros(4, 3), "b": torch.zeros(4, 5)}}, "modality 'T1C': call it 't1ce'"),
        ({"labels": torch.tensor([0, 1, 2, 0])}, "has no class"),
        ({"labels": torch.tensor([0, 1, 0])}, "3 labels for 4 subjects"),
        ({"present": torch.ones(4, 3, dtype=torch.bool)}, "expected bool"),
    ],
)
def test_inconsistent_subjects_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SUBJECTS, **changed)


def test_only_some_modalities_leaves_out_subjects_that_have_none() -> None:
    subjects = toy(30)
    alone = subjects.only(["b"])
    assert alone.modalities == ("b",) and len(alone) == int(subjects.present[:, 1].sum())
    assert alone.present.all() and not alone.inputs["b"].isnan().any()
    with pytest.raises(InputError, match="unknown modality 'c'"):
        subjects.only(["c"])


def test_masking_adds_no_modality_and_leaves_at_least_one() -> None:
    subjects = toy(30)
    both = torch.nonzero(subjects.present.all(1)).flatten()
    masked = subjects.take(both).masked(torch.tensor([True, False]))
    assert masked.present.tolist() == [[True, False]] * len(both)
    with pytest.raises(InputError, match="no modality at all"):
        subjects.masked(torch.tensor([True, False]))
