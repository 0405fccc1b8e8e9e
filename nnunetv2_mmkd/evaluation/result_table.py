"""The long result table: one row per ``method, case, subset, region, metric`` with its ``value``, NaN if undefined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError

COLUMNS = ("method", "case", "subset", "region", "metric", "value")
"""Columns of a result table."""

_NAMED = 5


def checked(table: pd.DataFrame, infinite: bool = False) -> pd.DataFrame:
    """The columns of a table, values as floats.

    Args:
        table: result table.
        infinite: whether a value may be infinite.

    Raises:
        InputError: columns lacking, a value that is no number, or a row given twice.
    """
    lacking = [column for column in COLUMNS if column not in table.columns]
    if lacking:
        raise InputError(f"the result table lacks the columns {some(lacking)}; expected {', '.join(COLUMNS)}")
    try:
        rows = table[list(COLUMNS)].assign(value=pd.to_numeric(table["value"]).astype(float))
    except (ValueError, TypeError) as error:
        raise InputError(f"the result table has a value that is no number: {error}") from error
    for column in COLUMNS[:-1]:
        if rows[column].isna().any():
            number = int(np.flatnonzero(rows[column].isna())[0]) + 1
            raise InputError(f"the result table has no {column} in row {number}; every row needs all columns but value")
    endless = rows[np.isinf(rows["value"])]
    if len(endless) and not infinite:
        raise InputError(f"the result table has an infinite value: {_row(endless)}; write NaN for an undefined metric")
    doubled = rows[rows.duplicated(list(COLUMNS[:-1]))]
    if len(doubled):
        raise InputError(f"the result table has a row twice: {_row(doubled)}; keep one of them")
    return rows


def select(rows: pd.DataFrame, region: str, metric: str) -> pd.DataFrame:
    """The rows of a region and metric.

    Raises:
        InputError: there are none.
    """
    for column, wanted in (("metric", metric), ("region", region)):
        if wanted not in set(rows[column]):
            raise InputError(f"the result table has no {column} {wanted!r}; it has {some(list(rows[column].unique()))}")
        rows = rows[rows[column] == wanted]
    return rows


def some(names: Sequence[object]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(str, names[:_NAMED])) + more


def _row(rows: pd.DataFrame) -> str:
    return ", ".join(f"{column} {rows.iloc[0][column]!r}" for column in COLUMNS[:-1])
