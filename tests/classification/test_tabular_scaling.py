"""What is fitted on the training part of tables, and on nothing else."""

from __future__ import annotations

import math

import pytest
import torch

from nnunetv2_mmkd.classification.tabular.parts import split_rows
from nnunetv2_mmkd.classification.tabular.reader import Column
from nnunetv2_mmkd.classification.tabular.scaling import TableScaler
from nnunetv2_mmkd.errors import InputError

NAN = math.nan


def test_by_hand() -> None:
    columns = [
        Column("clinical", "age", True, (60.0, 80.0, NAN, 100.0)),
        Column("clinical", "sex", False, ("f", "m", "", "x")),
        Column("clinical", "same", True, (5.0, 5.0, 5.0, 9.0)),
    ]
    scaler = TableScaler(columns, [0, 1])
    assert scaler.width == 4 and scaler.categorical == (slice(1, 3),)
    assert scaler().tolist() == [[-1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [3, 0, 0, 0]]


def test_nothing_is_learned_from_other_parts() -> None:
    def column(last: float) -> Column:
        return Column("clinical", "age", True, (60.0, 80.0, NAN, last))

    first, second = (TableScaler([column(last)], [0, 1, 2])() for last in (70.0, 1e6))
    assert torch.equal(first[:3], second[:3])


def test_a_column_without_training_values_is_zero() -> None:
    assert TableScaler([Column("clinical", "age", True, (NAN, NAN, 3.0))], [0, 1])().flatten().tolist() == [0, 0, 0]


def test_parts_are_disjoint_and_by_class() -> None:
    labels = [0] * 100 + [1] * 40 + [2] * 20
    parts = split_rows(labels, seed=1)
    assert sorted(row for part in parts for row in part) == list(range(160))
    assert [[sum(labels[row] == k for row in part) for k in range(3)] for part in parts] == [
        [70, 28, 14], [15, 6, 3], [15, 6, 3],
    ]  # fmt: skip
    assert split_rows(labels, seed=1) == parts != split_rows(labels, seed=2)
    with pytest.raises(InputError, match="a diagnosis has 2 subjects"):
        split_rows([0, 0, 0, 1, 1], seed=0)
