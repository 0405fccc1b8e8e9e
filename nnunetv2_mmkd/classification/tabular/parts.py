"""From a sheet to the three parts: split by diagnosis, scaling fitted on the training part, volumes read.

Legend: N subjects, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nnunetv2_mmkd.classification.subjects import Subjects
from nnunetv2_mmkd.classification.tabular.reader import IMAGING, Sheet, has
from nnunetv2_mmkd.classification.tabular.scaling import TableScaler
from nnunetv2_mmkd.errors import InputError

SHARES = (0.70, 0.15, 0.15)
"""Training, validation, test (MetaKD §7)."""


@dataclass(frozen=True)
class Parts:
    """The three parts of a split, and where their one-hot blocks are.

    Attributes:
        training, validation, test: disjoint.
        categorical: tabular modality -> one-hot blocks.
    """

    training: Subjects
    validation: Subjects
    test: Subjects
    categorical: Mapping[str, tuple[slice, ...]]


def split_rows(labels: Sequence[int], seed: int, shares: Sequence[float] = SHARES) -> tuple[list[int], ...]:
    """Rows of training, validation and test, each class divided by the shares.

    Args:
        labels: class of each subject.
        seed: of the split.
        shares: of the three parts.

    Raises:
        InputError: a class with fewer than three subjects.
    """
    random = np.random.default_rng(seed)
    found: tuple[list[int], ...] = ([], [], [])
    for label in sorted(set(labels)):
        rows = random.permutation([row for row, value in enumerate(labels) if value == label]).tolist()
        if len(rows) < 3:
            raise InputError(f"a diagnosis has {len(rows)} subjects; at least 3 are needed to have it in each part")
        test, validation = (max(1, round(share * len(rows))) for share in (shares[2], shares[1]))
        for part, own in zip(
            found, (rows[test + validation :], rows[test : test + validation], rows[:test]), strict=True
        ):
            part.extend(own)
    return tuple(sorted(part) for part in found)


def make_parts(sheet: Sheet, volumes: Tensor | None, seed: int) -> Parts:
    """The three parts of a sheet.

    Args:
        sheet: what the CSV holds.
        volumes: ``[N, 1, grid, grid, grid]``; None without imaging.
        seed: of the split.

    Raises:
        InputError: a class with too few subjects, or a table without any value in the training part.
    """
    classes = tuple(sorted(set(sheet.diagnoses)))
    labels = [classes.index(name) for name in sheet.diagnoses]
    rows = split_rows(labels, seed)
    inputs: dict[str, Tensor] = {}
    categorical: dict[str, tuple[slice, ...]] = {}
    for modality in sheet.modalities:
        if modality == IMAGING:
            assert volumes is not None
            inputs[modality] = volumes
            continue
        columns = [column for column in sheet.columns if column.modality == modality]
        scaler = TableScaler(columns, rows[0])
        if not scaler.width:
            raise InputError(f"modality {modality} has no value in the training part: leave its columns out")
        inputs[modality] = scaler()
        categorical[modality] = scaler.categorical
    present = torch.tensor([list(has(sheet, row).values()) for row in range(len(labels))])
    everyone = Subjects(sheet.subjects, inputs, present, torch.tensor(labels), classes)
    training, validation, test = (everyone.take(part) for part in rows)
    return Parts(training, validation, test, categorical)
