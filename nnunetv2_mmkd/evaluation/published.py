"""Numbers published in the papers, to show alongside a run (``results_templates/published``).

Nothing is repaired: ``value`` is what is printed, and a cell that cannot be right, or that the scan left uncertain,
carries a ``flag`` with its reason in ``note``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.evaluation.subsets import AVERAGE, SEPARATOR, subset_name

PUBLISHED_COLUMNS = (
    "paper",
    "table",
    "dataset",
    "setting",
    "method",
    "subset",
    "region",
    "metric",
    "unit",
    "value",
    "printed",
    "flag",
    "note",
)
"""Columns of every file; all are text but ``value``."""

FLAGS = {
    "average": "a printed average that is not the average of its rows",
    "duplicate": "equal to another cell to all digits",
    "implausible": "a value that cannot be right",
    "improvement": "a printed improvement that does not follow from the cells",
    "p_value": "a printed p-value that does not follow from the cells",
    "contradicts": "the paper prints another value elsewhere",
    "order": "scan or print are garbled; placed by the order of the rows or cells",
    "lost": "lost in the scan, no value",
}
"""What may stand in ``flag`` (several joined by ``;``)."""

PUBLISHED_MARK = "[printed]"
"""Ending of a column of published numbers in a written table."""


def load_published(name: str) -> pd.DataFrame:
    """The cells of one printed table, one per row.

    Columns: ``paper, table, dataset, setting, method, subset, region, metric, unit, value, printed, flag, note``.
    ``subset`` is spelt as everywhere in this package, ``average`` for a row that averages over subsets (also for the
    p-value of a test over subsets); ``region`` is ``average`` where the paper averages over regions and ``all``
    without regions. ``value`` is float64 in the printed ``unit`` (Dice and accuracy in percent, distances in mm), NaN
    where ``printed`` is no number.

    Raises:
        InputError: no table of that name, or a file that lacks columns or has an unknown flag.
    """
    if name not in published_names():
        raise InputError(f"no published table {name!r}; there are {choices(name, published_names())}")
    with _folder().joinpath(f"{name}.csv").open("r", encoding="utf-8") as file:
        frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    if tuple(frame.columns) != PUBLISHED_COLUMNS:
        raise InputError(
            f"{name}.csv: the columns are {', '.join(frame.columns)}; expected {', '.join(PUBLISHED_COLUMNS)}"
        )
    unknown = sorted({flag for cell in frame["flag"] if cell for flag in cell.split(";")} - set(FLAGS))
    if unknown:
        raise InputError(f"{name}.csv: unknown flag {unknown[0]!r}; there are {', '.join(FLAGS)}")
    try:
        return frame.assign(value=[float(cell) if cell else np.nan for cell in frame["value"]])
    except ValueError as error:
        raise InputError(f"{name}.csv: a value is no number: {error}") from error


def published_columns(name: str, metric: str, region: str, modalities: Sequence[str]) -> dict[str, pd.Series]:
    """Published cells of a region: method -> values by subset (per cent or mm, as printed).

    Averages are left out, unless nothing else is printed of a method: then its average stands alone.

    Raises:
        InputError: no such table, or a subset of other modalities.
    """
    frame = load_published(name)
    frame = frame[(frame["metric"] == metric) & (frame["region"] == region)]
    columns: dict[str, pd.Series] = {}
    for (dataset, setting, method), cells in frame.groupby(["dataset", "setting", "method"], sort=False):
        rows = cells[cells["subset"] != AVERAGE]
        index = [_subset(name, cell, modalities) for cell in rows["subset"]] or [AVERAGE]
        key = f"{method}, {dataset}" + (f", {setting}" if setting else "")
        columns[key] = pd.Series((cells if rows.empty else rows)["value"].to_numpy(float), index=index)
    return columns


def check_published(name: str, modalities: Sequence[str]) -> None:
    """Refuse a table that cannot be shown alongside results of these modalities.

    Raises:
        InputError: no such table, or a subset of other modalities.
    """
    for cell in load_published(name)["subset"].unique():
        if cell != AVERAGE:
            _subset(name, cell, modalities)


def _subset(name: str, cell: str, modalities: Sequence[str]) -> str:
    try:
        return subset_name(cell.split(SEPARATOR), modalities)
    except InputError as error:
        raise InputError(f"printed table {name}: {error}") from error


def _folder() -> Any:
    return files("nnunetv2_mmkd.results_templates").joinpath("published")


def published_names() -> list[str]:
    """What :func:`load_published` takes."""
    return sorted(entry.name[: -len(".csv")] for entry in _folder().iterdir() if entry.name.endswith(".csv"))
