"""Subjects: what is refused, and how they are narrowed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy_subjects import toy

from nnunetv2_mmkd.errors import InputError


def test_a_subject_without_modality_is_named() -> None:
    subjects = toy(4)
    present = subjects.present.clone()
    present[2] = False
    with pytest.raises(InputError, match="subject s2 has no modality"):
        replace(subjects, present=present)


def test_what_does_not_fit_is_refused() -> None:
    subjects = toy(4)
    with pytest.raises(InputError, match="s0 is given twice"):
        replace(subjects, ids=("s0", "s0", "s1", "s2"))
    with pytest.raises(InputError, match="modality a: 3 rows for 4 subjects"):
        replace(subjects, inputs={**subjects.inputs, "a": torch.zeros(3, 3)})
    with pytest.raises(InputError, match="has no class"):
        replace(subjects, labels=torch.tensor([0, 1, 2, 0]))
    with pytest.raises(InputError, match="expected bool"):
        replace(subjects, present=torch.ones(4, 3, dtype=torch.bool))


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
