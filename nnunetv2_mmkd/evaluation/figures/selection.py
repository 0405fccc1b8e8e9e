"""The rows of the result table that a figure shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metric_names import metric_of
from nnunetv2_mmkd.evaluation.metrics.measure import Metric
from nnunetv2_mmkd.evaluation.result_table import COLUMNS
from nnunetv2_mmkd.evaluation.subsets import SEPARATOR, parse_subset, row_order, subset_name
from nnunetv2_mmkd.evaluation.summary import summarise
from nnunetv2_mmkd.names import canonical


@dataclass(frozen=True, eq=False)
class Selection:
    """What a figure shows.

    Attributes:
        rows: columns method, case, subset, region, value; one row each; infinite values are NaN, subsets are named by
            :func:`~nnunetv2_mmkd.evaluation.subsets.subset_name`.
        metric: facts of the metric.
        modalities: of the data set, canonical, channel order.
        methods, regions, subsets: in the order of the figure; a subset may have no rows.
        undefined: values that are NaN.
        infinite: values that are infinite.
    """

    rows: pd.DataFrame
    metric: Metric
    modalities: tuple[str, ...]
    methods: tuple[str, ...]
    regions: tuple[str, ...]
    subsets: tuple[str, ...]
    undefined: int
    infinite: int

    @property
    def full(self) -> str:
        """Name of the subset with all modalities."""
        return SEPARATOR.join(self.modalities)

    def left_out(self) -> str:
        """A sentence about the values that cannot be drawn; empty if there are none."""
        parts = [
            f"{count} {what}" for count, what in ((self.undefined, "undefined"), (self.infinite, "infinite")) if count
        ]
        return f"Left out: {' and '.join(parts)} of {len(self.rows)} values." if parts else ""


def select(
    table: pd.DataFrame,
    modalities: Sequence[str],
    metric: str,
    *,
    methods: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    subsets: Sequence[str] | None = None,
) -> Selection:
    """Check the table and take the rows of a figure.

    Args:
        table: long result table.
        modalities: of the data set in channel order, aliases accepted.
        metric: name in the table.
        methods, regions: what to show and in which order; ``None``: all in the order of the table.
        subsets: what to show and in which order; ``None``: all subsets of the modalities in the order of
            :func:`~nnunetv2_mmkd.evaluation.subsets.row_order`.

    Raises:
        InputError: columns lacking, a value that is no number, a row given twice, a subset of other modalities, or a
            metric, method or region that the table lacks.
    """
    lacking = [column for column in COLUMNS if column not in table.columns]
    if lacking:
        raise InputError(f"the result table lacks the column {lacking[0]!r}; expected {', '.join(COLUMNS)}")
    rows = table[table["metric"] == metric]
    if rows.empty:
        raise InputError(f"the result table has no metric {metric!r}; it has {_listed(table['metric'].unique())}")
    names = {text: subset_name(parse_subset(str(text), modalities), modalities) for text in rows["subset"].unique()}
    numbers = pd.to_numeric(rows["value"], errors="coerce").to_numpy(float)
    infinite = np.isinf(numbers)
    rows = rows.assign(subset=rows["subset"].map(names), value=rows["value"].mask(infinite, np.nan))
    summarise(rows)
    rows = rows.assign(value=rows["value"].astype(float), infinite=infinite)
    wanted = {
        "method": _chosen(rows, "method", methods),
        "region": _chosen(rows, "region", regions),
        "subset": tuple(
            row_order(modalities)
            if subsets is None
            else dict.fromkeys(subset_name(parse_subset(text, modalities), modalities) for text in subsets)
        ),
    }
    for column, entries in wanted.items():
        rows = rows[rows[column].isin(entries)]
    if rows["value"].notna().sum() == 0:
        raise InputError(f"the result table has no finite value of {metric!r} for what the figure is to show")
    return Selection(
        rows=rows[["method", "case", "subset", "region", "value"]].reset_index(drop=True),
        metric=metric_of(metric),
        modalities=tuple(canonical(name) for name in modalities),
        methods=wanted["method"],
        regions=wanted["region"],
        subsets=wanted["subset"],
        undefined=int((rows["value"].isna() & ~rows["infinite"]).sum()),
        infinite=int(rows["infinite"].sum()),
    )


def _chosen(rows: pd.DataFrame, column: str, wanted: Sequence[str] | None) -> tuple[str, ...]:
    there = [str(name) for name in rows[column].unique()]
    if wanted is None:
        return tuple(there)
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise InputError(f"the result table has no {column} {unknown[0]!r}; it has {_listed(there)}")
    if not wanted:
        raise InputError(f"no {column} to show; the result table has {_listed(there)}")
    return tuple(dict.fromkeys(wanted))


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names)) or "none"
