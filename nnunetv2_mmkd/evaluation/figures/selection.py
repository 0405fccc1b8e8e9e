"""The rows of the result table that a figure shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.registry import metric_spec
from nnunetv2_mmkd.evaluation.metrics.spec import MetricSpec
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.subsets import SEPARATOR, bullet_order, parse_subset, row_order, subset_name


@dataclass(frozen=True, eq=False)
class Selection:
    """What a figure shows.

    Attributes:
        rows: columns method, case, subset, region, value; infinite values are NaN.
        spec: of the metric.
        modalities: of the data set, canonical, channel order.
        methods, regions, subsets: in the order of the figure; a subset may have no rows.
        undefined: values that are NaN.
        infinite: values that are infinite.
    """

    rows: pd.DataFrame
    spec: MetricSpec
    modalities: tuple[str, ...]
    methods: tuple[str, ...]
    regions: tuple[str, ...]
    subsets: tuple[str, ...]
    undefined: int
    infinite: int

    @property
    def bullets(self) -> tuple[str, ...]:
        """The modalities in the order of columns of bullets."""
        return bullet_order(self.modalities)

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
    table: ResultTable,
    metric: str,
    *,
    methods: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    subsets: Sequence[str] | None = None,
) -> Selection:
    """The rows of a figure.

    Args:
        table: results, with their modalities.
        metric: name in the table.
        methods, regions: what to show and in which order; ``None``: all in the order of the table.
        subsets: what to show and in which order; ``None``: those of the table, of whatever method and metric, in the
            order of :func:`~nnunetv2_mmkd.evaluation.subsets.row_order`.

    Raises:
        InputError: a metric, method or region that the table lacks, a subset of other modalities, or no finite value.
    """
    of_metric = table.select(metric=metric)
    chosen = of_metric.select(methods=methods, regions=regions)
    order = [name for name in row_order(table.modalities) if name in table.subsets]
    if subsets is not None:
        order = [subset_name(parse_subset(text, table.modalities), table.modalities) for text in subsets]
    rows = chosen.rows[chosen.rows["subset"].isin(order)]
    infinite = np.isinf(rows["value"])
    if not np.isfinite(rows["value"]).any():
        raise InputError(f"{table.source} has no finite value of {metric!r} for what the figure is to show")
    rows = rows.assign(value=rows["value"].mask(infinite, np.nan))
    return Selection(
        rows=rows[["method", "case", "subset", "region", "value"]].reset_index(drop=True),
        spec=metric_spec(metric),
        modalities=table.modalities,
        methods=tuple(dict.fromkeys(of_metric.methods if methods is None else methods)),
        regions=tuple(dict.fromkeys(of_metric.regions if regions is None else regions)),
        subsets=tuple(dict.fromkeys(order)),
        undefined=int((rows["value"].isna() & ~infinite).sum()),
        infinite=int(infinite.sum()),
    )
