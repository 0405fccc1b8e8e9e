"""What is fitted on the training part of tables, and on nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from nnunetv2_mmkd.classification.tabular.parts import split_rows
from nnunetv2_mmkd.classification.tabular.scaling import scale_table
from nnunetv2_mmkd.errors import InputError

NAN = np.nan


def test_by_hand() -> None:
    table = pd.DataFrame(
        {
            "age": [60.0, 80.0, NAN, 100.0],
            "sex": ["f", "m", NAN, "x"],
            "same": [5.0, 5.0, 5.0, 9.0],
            "late": [NAN, NAN, "a", "b"],
        }
    )
    values, categorical = scale_table(table, [0, 1])
    assert values.dtype == torch.float32 and categorical[0] == slice(1, 3)
    assert [block.stop - block.start for block in categorical] == [2, 0]
    assert values.tolist() == [[-1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [3, 0, 0, 0]]


def test_nothing_is_learned_from_other_parts() -> None:
    def table(last: float) -> pd.DataFrame:
        return pd.DataFrame({"age": [60.0, 80.0, NAN, last]})

    first, second = (scale_table(table(last), [0, 1, 2])[0] for last in (70.0, 1e6))
    assert torch.equal(first[:3], second[:3])


def test_a_column_without_training_values_is_zero() -> None:
    assert scale_table(pd.DataFrame({"age": [NAN, NAN, 3.0]}), [0, 1])[0].flatten().tolist() == [0, 0, 0]


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
