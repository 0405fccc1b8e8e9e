"""What is fitted on the training part of tables: mean imputation, scaling to [-1, 1], one-hot encoding.

Legend: N subjects, C columns after one-hot encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnunetv2_mmkd.classification.tabular.reader import Column


@dataclass(frozen=True)
class Fitted:
    """How a column becomes numbers.

    Attributes:
        column: which.
        mean, low, high: of the training cells (numeric columns).
        categories: of the training cells (others).
    """

    column: Column
    mean: float = 0.0
    low: float = 0.0
    high: float = 0.0
    categories: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Columns that it becomes."""
        return 1 if self.column.numeric else len(self.categories)


class TableScaler:
    """Turns the columns of one modality into ``[N, C]``.

    Numbers: an empty cell becomes the mean, then the training range becomes [-1, 1] (values outside stay outside; a
    constant column is 0). Categories: one column per category of the training part; an empty cell or a category that
    the training part does not have is 0 in all of them.

    Args:
        columns: of the modality.
        training: positions of the training subjects; nothing is learned from others.

    References:
        Wang et al., MetaKD, §7.
    """

    def __init__(self, columns: Sequence[Column], training: Sequence[int]) -> None:
        self.fitted = tuple(_fit(column, training) for column in columns)

    @property
    def width(self) -> int:
        """C."""
        return sum(fitted.width for fitted in self.fitted)

    @property
    def categorical(self) -> tuple[slice, ...]:
        """Where the blocks of one-hot columns are."""
        found, start = [], 0
        for fitted in self.fitted:
            if not fitted.column.numeric:
                found.append(slice(start, start + fitted.width))
            start += fitted.width
        return tuple(found)

    def __call__(self) -> Tensor:
        """All subjects, float32 ``[N, C]``."""
        blocks = [_transform(fitted) for fitted in self.fitted]
        return torch.from_numpy(np.hstack(blocks).astype(np.float32))


def _fit(column: Column, training: Sequence[int]) -> Fitted:
    if not column.numeric:
        categories = sorted({str(column.cells[row]) for row in training} - {""})
        return Fitted(column, categories=tuple(categories))
    values = np.array([float(column.cells[row]) for row in training])
    known = values[~np.isnan(values)]
    if not known.size:
        return Fitted(column)
    return Fitted(column, float(known.mean()), float(known.min()), float(known.max()))


def _transform(fitted: Fitted) -> NDArray[np.float64]:
    cells = fitted.column.cells
    if not fitted.column.numeric:
        return np.array([[float(cell == name) for name in fitted.categories] for cell in cells]).reshape(len(cells), -1)
    values = np.array(cells, dtype=np.float64)
    values = np.where(np.isnan(values), fitted.mean, values)
    if fitted.high <= fitted.low:
        return np.zeros((len(cells), 1))
    return (2 * (values - fitted.low) / (fitted.high - fitted.low) - 1)[:, None]
