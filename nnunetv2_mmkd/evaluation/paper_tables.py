"""A paper's main table, ours beside the printed numbers, with the paper's rows, columns and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.evaluation.published import PUBLISHED_MARK, load_published
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.statistics import subset_t_test
from nnunetv2_mmkd.evaluation.subsets import AVERAGE, BRATS, SEPARATOR, subset_name
from nnunetv2_mmkd.evaluation.tables import IMPROVEMENT, SubsetTable, subset_table
from nnunetv2_mmkd.names import canonical


@dataclass(frozen=True)
class PaperTable:
    """What a paper's table has beside its cells, which ``results_templates/published`` holds.

    Attributes:
        regions: blocks, in the paper's order.
        improvement: whether it has MetaKD's column of improvements.
        pairs: n of its paired t-test over the 15 subsets: 15, or 16 with the average as one more pair; 0: no test.
        metric: of the cells.
        modalities: of its data.
    """

    regions: tuple[str, ...]
    improvement: bool = False
    pairs: int = 0
    metric: str = "dice"
    modalities: frozenset[str] = BRATS


PAPER_TABLES = {
    "metakd_table1": PaperTable(("ET", "TC", "WT"), improvement=True, pairs=16),
    "mckd_table1": PaperTable(("ET", "TC", "WT"), improvement=True, pairs=16),
    "lckd_table1": PaperTable(("ET", "TC", "WT"), pairs=15),
    "mst_kdnet_table1": PaperTable(("WT", "TC", "ET")),
}
"""Templates of ``mmkd evaluate --template``, by the name of their published table."""


def check_template(name: str, modalities: Sequence[str], regions: Sequence[str], metrics: Sequence[str]) -> None:
    """Refuse a template that results of these modalities, regions and metrics cannot fill.

    Raises:
        InputError: no such template, or what it expects and the results lack.
    """
    if name not in PAPER_TABLES:
        raise InputError(f"--template {name}: no such template; there are {choices(name, list(PAPER_TABLES))}")
    template = PAPER_TABLES[name]
    if {canonical(each) for each in modalities} != template.modalities:
        raise InputError(
            f"--template {name} expects the modalities {', '.join(sorted(template.modalities))}; the data set has "
            f"{', '.join(modalities)}: leave --template out"
        )
    if not set(template.regions) <= set(regions):
        raise InputError(
            f"--template {name} expects the regions {', '.join(template.regions)}; the data set has "
            f"{', '.join(regions)}: leave --template out"
        )
    if template.metric not in metrics:
        raise InputError(f"--template {name} shows {template.metric}; add it to --metrics {' '.join(metrics)}")


def paper_table(table: ResultTable, name: str, *, ours: str | None = None, notes: Sequence[str] = ()) -> SubsetTable:
    """Results in the shape of a paper's table.

    Args:
        table: results, with their modalities.
        name: of :data:`PAPER_TABLES`.
        ours: method that stands for the paper's own in improvement and test; default: the first.
        notes: more lines for below the table.

    Raises:
        InputError: as :func:`check_template` and :func:`subset_table`.
    """
    check_template(name, table.modalities, table.regions, table.metrics)
    template, printed = PAPER_TABLES[name], load_published(name)
    methods = table.select(metric=template.metric, regions=template.regions).methods
    ours = ours or methods[0]
    compared = len(methods) > 1
    made = subset_table(
        table,
        template.metric,
        regions=template.regions,
        published=(name,),
        improvement_of=ours if template.improvement and compared else None,
    )
    order = [
        subset_name(each.split(SEPARATOR), table.modalities) for each in printed["subset"].unique() if each != AVERAGE
    ]
    order = [each for each in order if each in made.subsets]
    flagged = printed[(printed["flag"] != "") & (printed["metric"] != "p_value")]
    doubtful = [
        f"printed {row['metric']} of {row['method']}, {row['subset']}, {row['region']} is doubtful: {row['note']}"
        for _, row in flagged.iterrows()
        if row["metric"] == template.metric
    ]
    made = replace(
        made,
        subsets=tuple(order),
        modalities=tuple(each for each in order if SEPARATOR not in each)
        if {each for each in order if SEPARATOR not in each} == set(made.modalities)
        else made.modalities,
        means=made.means[[made.subsets.index(each) for each in order]],
        notes=(*made.notes, *doubtful, *notes),
    )
    if not template.pairs:
        return made
    extra = " and their average as one more pair, which alone makes it too small" * (template.pairs == 16)
    note = (
        f"p: the paper's own test, one-tailed paired t-test over the means of the 15 subsets{extra}, of {ours} over "
        "the column's method (printed columns: as printed, of the paper's method). All subsets share their cases, so "
        "it is no evidence about new patients: use mmkd compare for that"
    )
    p_values = [_p_value(made, column, ours, template.pairs == 16, printed) for column in range(len(made.columns))]
    return replace(made, p_values=np.array(p_values), notes=(*made.notes, note))


def _p_value(table: SubsetTable, column: int, ours: str, average_row: bool, printed: pd.DataFrame) -> float:
    """Of a column; NaN for the method itself, the improvement, and where a subset lacks a value."""
    region, method = table.columns[column]
    if method.endswith(PUBLISHED_MARK):
        rows = printed[(printed["metric"] == "p_value") & (printed["region"] == region)]
        found = [row["value"] for _, row in rows.iterrows() if method.startswith(f"{row['method']}, ")]
        return float(found[0]) if found else np.nan
    first, second = table.means[:, table.columns.index((region, ours))], table.means[:, column]
    if method in (ours, IMPROVEMENT) or len(table.subsets) < 15 or np.isnan([first, second]).any():
        return np.nan
    pairs = [dict(zip(table.subsets, map(float, values), strict=True)) for values in (first, second)]
    return subset_t_test(*pairs, average_row=average_row, names=(ours, method)).p_value
