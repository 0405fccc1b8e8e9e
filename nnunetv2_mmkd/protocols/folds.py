"""Folds of a cross-validation that divide no patient and no institution. Reads and writes nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nnunetv2_mmkd.errors import InputError

PATIENT_KEY = r"(BraTS-[A-Za-z]+(?:-RT)?-\d+)-\d+"
"""Patient of a BraTS case with time point: ``BraTS-GLI-00001-000`` -> ``BraTS-GLI-00001``."""


@dataclass(frozen=True)
class Fold:
    """One fold: cases, sorted."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()


def patient_of(case: str, key: str | None = None) -> str:
    """The patient of a case.

    Args:
        case: its name.
        key: regular expression with one group, the patient, for the whole name; default: BraTS names with a time
            point (:data:`PATIENT_KEY`), any other case is a patient of its own.

    Raises:
        InputError: no such expression, or the name does not match the given one.
    """
    try:
        pattern = re.compile(PATIENT_KEY if key is None else key)
    except re.error as error:
        raise InputError(f"--patient_key {key!r} is no regular expression: {error}") from error
    if pattern.groups != 1:
        raise InputError(f"--patient_key {key!r} needs exactly one group (...), which is the patient")
    matched = pattern.fullmatch(case)
    if key is not None and (matched is None or not matched[1]):
        raise InputError(f"--patient_key {key!r} does not match the case {case!r} as a whole")
    return matched[1] if matched else case


def group_folds(group_of: Mapping[str, str], folds: int, seed: int) -> list[Fold]:
    """Cross-validation that never divides a group (patient, institution).

    The groups are shuffled, taken from large to small, and each goes to the fold with the fewest cases so far. Groups
    of one case give folds that differ by at most one case; as many folds as groups leave one group out each.

    Args:
        group_of: case -> group.
        folds: number of folds.
        seed: of the shuffling.

    Raises:
        InputError: fewer than two folds, or fewer groups than folds.
    """
    sizes = Counter(group_of.values())
    if not 2 <= folds <= len(sizes):
        raise InputError(f"--folds {folds}: choose from 2 to {len(sizes)}, the number of patients or institutions")
    names = [str(name) for name in np.random.default_rng(seed).permutation(sorted(sizes))]
    filled, fold_of = [0] * folds, {}
    for name in sorted(names, key=lambda name: -sizes[name]):
        fold_of[name] = filled.index(min(filled))
        filled[fold_of[name]] += sizes[name]
    cases = sorted(group_of)
    return [
        Fold(
            train=tuple(case for case in cases if fold_of[group_of[case]] != fold),
            val=tuple(case for case in cases if fold_of[group_of[case]] == fold),
        )
        for fold in range(folds)
    ]
