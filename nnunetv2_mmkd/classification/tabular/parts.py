"""From a sheet to training, validation and test: split by diagnosis, scaling fitted on the training part.

Legend: N subjects, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nnunetv2_mmkd.classification.subjects import DataSplit, Subjects
from nnunetv2_mmkd.classification.tabular.reader import IMAGING, Sheet
from nnunetv2_mmkd.classification.tabular.scaling import scale_table
from nnunetv2_mmkd.errors import InputError

SHARES = (0.70, 0.15, 0.15)
"""Training, validation, test (MetaKD §7)."""


@dataclass(frozen=True)
class TabularSplit(DataSplit):
    """A split, and where the one-hot blocks of its tables are.

    Attributes:
        categorical: tabular modality -> one-hot blocks.
    """

    categorical: Mapping[str, tuple[slice, ...]]


def split_rows(labels: Sequence[int], seed: int, shares: Sequence[float] = SHARES) -> tuple[list[int], ...]:
    """Rows of training, validation and test, each class divided by the shares.

    scikit-learn's stratified splits do not guarantee a class of three subjects one in each part, which this one does.

    Args:
        labels: class of each subject.
        seed: of the split.
        shares: of the three parts.

    Raises:
        InputError: a class with fewer than three subjects.
    """
    random = np.random.default_rng(seed)
    parts: tuple[list[int], ...] = ([], [], [])
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(np.equal(labels, label))).tolist()
        if len(rows) < 3:
            raise InputError(f"a diagnosis has {len(rows)} subjects; at least 3 are needed to have it in each part")
        test, validation = (max(1, round(share * len(rows))) for share in (shares[2], shares[1]))
        own = (rows[test + validation :], rows[test : test + validation], rows[:test])
        for part, chosen in zip(parts, own, strict=True):
            part.extend(chosen)
    return tuple(sorted(part) for part in parts)


def make_split(sheet: Sheet, volumes: Tensor | None, seed: int) -> TabularSplit:
    """The three parts of a sheet.

    Args:
        sheet: what the CSV holds.
        volumes: ``[N, 1, grid, grid, grid]``; None without imaging.
        seed: of the split.

    Raises:
        InputError: a class with too few subjects, or a table without any value in the training part.
    """
    labels, classes = pd.factorize(sheet.diagnoses, sort=True)
    rows = split_rows(labels.tolist(), seed)
    inputs: dict[str, Tensor] = {}
    categorical: dict[str, tuple[slice, ...]] = {}
    for modality, table in sheet.tables.items():
        inputs[modality], categorical[modality] = scale_table(table, rows[0])
        if not inputs[modality].shape[1]:
            raise InputError(f"modality {modality} has no value in the training part: leave its columns out")
    if volumes is not None:
        inputs[IMAGING] = volumes
    subjects = Subjects(
        ids=tuple(sheet.diagnoses.index),
        inputs=inputs,
        present=torch.from_numpy(sheet.present.to_numpy(bool)),
        labels=torch.from_numpy(labels).long(),
        classes=tuple(classes),
    )
    training, validation, test = (subjects.take(part) for part in rows)
    return TabularSplit(training, validation, test, categorical)
