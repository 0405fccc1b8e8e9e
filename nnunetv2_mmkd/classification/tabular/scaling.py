"""What is fitted on the training part of tables: mean imputation, scaling to [-1, 1], one-hot encoding.

Legend: N subjects, C columns after one-hot encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_numeric_dtype
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder
from torch import Tensor


def scale_table(table: pd.DataFrame, training: Sequence[int]) -> tuple[Tensor, tuple[slice, ...]]:
    """Turn the columns of one modality into numbers.

    Numbers: an empty cell becomes the mean, then the training range becomes [-1, 1] (values outside stay outside; a
    column that is constant or empty in training is 0). Categories: one column per category of the training part; an
    empty cell or a category that the training part does not have is 0 in all of them.

    Args:
        table: float64 columns are numbers, all others categories; NaN where a cell is empty.
        training: rows of the training subjects; nothing is learned from others.

    Returns:
        float32 ``[N, C]``, in the order of the columns; and where its blocks of one-hot columns are.

    References:
        Wang et al., MetaKD, §7.
    """
    known = table.iloc[list(training)]
    transformers = [(title, _transformer(known[title]), [title]) for title in table]
    scaler = ColumnTransformer(transformers, sparse_threshold=0).fit(known)
    blocks = tuple(scaler.output_indices_[title] for title in table if not is_numeric_dtype(table[title]))
    return torch.from_numpy(scaler.transform(table).astype(np.float32)), blocks


def _transformer(known: pd.Series) -> Any:
    """For a column with these cells in the training part."""
    if is_numeric_dtype(known):
        if known.nunique() < 2:  # MinMaxScaler would give -1
            return FunctionTransformer(np.zeros_like)
        return make_pipeline(SimpleImputer(), MinMaxScaler(feature_range=(-1, 1)))
    categories = sorted(known.dropna().unique())
    return OneHotEncoder(categories=[categories], handle_unknown="ignore") if categories else "drop"
