"""Numbers printed in the papers, to lay beside a run (``results_templates/published``).

Nothing is repaired: ``value`` is what is printed, and a cell that cannot be right, or that the scan left uncertain,
carries a ``flag`` with its reason in ``note``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.subsets import AVERAGE

COLUMNS = (
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

SCORES = ("dice", "hd95", "hd", "accuracy", "f1")
"""Metrics that are scores of a method; ``improvement`` and ``p_value`` compare methods."""


@dataclass(frozen=True)
class PublishedTable:
    """One table of one paper.

    Attributes:
        name: what :func:`load_published` takes, e.g. ``"metakd_table1"``.
        paper: e.g. ``"MetaKD"``.
        table: e.g. ``"Table 1"``.
        datasets: data sets it reports.
        methods: methods it reports.
        metrics: e.g. ``("dice", "improvement", "p_value")``.
        cells: number of rows of the file.
        flagged: how many of them carry a flag.
    """

    name: str
    paper: str
    table: str
    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    cells: int
    flagged: int


def published_tables() -> list[PublishedTable]:
    """All tables there are, by name."""
    return [_describe(name) for name in _names()]


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
    if name not in _names():
        raise InputError(f"no published table {name!r}; there are {', '.join(_names())}")
    with _folder().joinpath(f"{name}.csv").open("r", encoding="utf-8") as file:
        frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    if tuple(frame.columns) != COLUMNS:
        raise InputError(f"{name}.csv: the columns are {', '.join(frame.columns)}; expected {', '.join(COLUMNS)}")
    unknown = sorted({flag for cell in frame["flag"] if cell for flag in cell.split(";")} - set(FLAGS))
    if unknown:
        raise InputError(f"{name}.csv: unknown flag {unknown[0]!r}; there are {', '.join(FLAGS)}")
    try:
        return frame.assign(value=[float(cell) if cell else np.nan for cell in frame["value"]])
    except ValueError as error:
        raise InputError(f"{name}.csv: a value is no number: {error}") from error


def check_averages(frame: pd.DataFrame) -> pd.DataFrame:
    """Lay each printed average over subsets beside the average of its rows.

    Args:
        frame: as :func:`load_published` gives it.

    Returns:
        One row per average that has at least two rows below it: ``dataset, setting, method, region, metric, rows``
        (how many), ``printed, recomputed, tolerance`` and ``agrees``. The tolerance is half a unit in the last place
        of the average plus half a unit in the last place of the rows, for both are rounded.
    """
    keys = ["dataset", "setting", "method", "region", "metric"]
    found = []
    for group, cells in frame[frame["metric"].isin(SCORES)].groupby(keys, sort=False):
        averages = cells[cells["subset"] == AVERAGE].dropna(subset=["value"])
        rows = cells[cells["subset"] != AVERAGE].dropna(subset=["value"])
        if len(averages) != 1 or len(rows) < 2:
            continue
        printed, recomputed = float(averages["value"].iloc[0]), float(rows["value"].mean())
        tolerance = _half_unit(averages["printed"].iloc[0]) + max(_half_unit(cell) for cell in rows["printed"])
        agrees = abs(printed - recomputed) <= tolerance + 1e-9
        found.append((*group, len(rows), printed, recomputed, tolerance, agrees))
    return pd.DataFrame(found, columns=[*keys, "rows", "printed", "recomputed", "tolerance", "agrees"])


def _folder() -> Any:
    return files("nnunetv2_mmkd.results_templates").joinpath("published")


def _names() -> list[str]:
    return sorted(entry.name[: -len(".csv")] for entry in _folder().iterdir() if entry.name.endswith(".csv"))


def _describe(name: str) -> PublishedTable:
    frame = load_published(name)
    return PublishedTable(
        name=name,
        paper=frame["paper"].iloc[0],
        table=frame["table"].iloc[0],
        datasets=tuple(frame["dataset"].unique()),
        methods=tuple(frame["method"].unique()),
        metrics=tuple(frame["metric"].unique()),
        cells=len(frame),
        flagged=int((frame["flag"] != "").sum()),
    )


def _half_unit(printed: str) -> float:
    decimals = len(printed.rstrip("%").partition(".")[2])
    return 0.5 * 10.0**-decimals
