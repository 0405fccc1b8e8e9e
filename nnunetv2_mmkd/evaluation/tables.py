"""Result tables in the papers' shape: a row per subset with bullets, a block per region, a column per method.

A cell is the mean over the cases whose value is defined. The last row is the average over the rows above it, of all of
them or of none: a column that lacks a row has no average, for it would not compare with that of its neighbours.
Numbers printed in a paper belong to other cases; they are shown alongside and count neither for marks nor for
improvements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.grid import Grid, Row, best_of, bullets, modality_title
from nnunetv2_mmkd.evaluation.metrics.registry import metric_spec
from nnunetv2_mmkd.evaluation.metrics.spec import MetricSpec
from nnunetv2_mmkd.evaluation.published import PUBLISHED_MARK, published_columns
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.subsets import AVERAGE, bullet_order, parse_subset, row_order
from nnunetv2_mmkd.evaluation.summary import improvement, subset_means

IMPROVEMENT = "improvement"
"""Column with MetaKD's relative improvement over the best of the other methods, in per cent."""


@dataclass(frozen=True)
class SubsetTable:
    """A table of means, ready to be written.

    Attributes:
        metric: what it shows.
        unit: of the cells: ``"%"``, ``"mm"`` or ``""``.
        modalities: columns of bullets.
        subsets: rows, in order.
        columns: (region, method) of each column of numbers; the method ``"improvement"`` compares the others, and one
            that ends in ``"[printed]"`` is of a paper.
        means: ``[subsets, columns]``; NaN: no value.
        averages: over the subsets, ``[columns]``: the last row; NaN where a subset has no value.
        lower_is_better: which way the best is.
        notes: lines for below the table.
    """

    metric: str
    unit: str
    modalities: tuple[str, ...]
    subsets: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    means: np.ndarray
    averages: np.ndarray
    lower_is_better: bool
    notes: tuple[str, ...] = ()

    def best(self, row: np.ndarray) -> list[bool]:
        """Which cells of a row are the best of their region, among the methods that were run (more than one needed).

        Cells that look the same in the written table are all best.
        """
        marks = [False] * len(self.columns)
        for region in dict.fromkeys(name for name, _ in self.columns):
            columns = [i for i, (name, method) in enumerate(self.columns) if name == region and _is_ours(method)]
            for column, best in zip(columns, best_of(row[columns], self.lower_is_better), strict=True):
                marks[column] = best
        return marks

    def grid(self) -> Grid:
        """The table as it lies on a page."""
        rows = []
        for subset, values in zip(self.subsets, self.means, strict=True):
            available = parse_subset(subset, self.modalities)
            key = (*(str(int(name in available)) for name in self.modalities), subset)
            rows.append(Row(bullets(subset, self.modalities), key, tuple(map(float, values)), tuple(self.best(values))))
        key, last = (*[""] * len(self.modalities), AVERAGE), self.averages
        rows.append(Row("Average", key, tuple(map(float, last)), tuple(self.best(last)), rule=True))
        regions, methods = zip(*self.columns, strict=True)
        titles = tuple(map(modality_title, self.modalities))
        return Grid(titles, (*self.modalities, "subset"), (regions, methods), tuple(rows), self.notes)


def _is_ours(method: str) -> bool:
    return method != IMPROVEMENT and not method.endswith(PUBLISHED_MARK)


def subset_table(
    table: ResultTable,
    metric: str,
    *,
    regions: Sequence[str] | None = None,
    published: Sequence[str] = (),
    improvement_of: str | None = None,
    notes: Sequence[str] = (),
) -> SubsetTable:
    """The papers' table of one metric.

    Means are over the cases (NaN left out), averages over the rows of the table; ratios in per cent.

    Args:
        table: results, with their modalities; columns of bullets and rows follow ``results_templates``.
        metric: which of its metrics.
        regions: columns; default: all, in the order of the table.
        published: names of published tables to show alongside (``metakd_table1``); their cells are marked.
        improvement_of: add MetaKD's improvement column for this method, over the others that were run.
        notes: more lines for below the table, e.g. the policy for empty regions.

    Raises:
        InputError: no such metric, region or method, a method of a reserved name, or a published table of other
            modalities.
    """
    spec = metric_spec(metric)
    chosen = table.select(metric=metric, regions=regions)
    regions, methods, order = list(regions or chosen.regions), chosen.methods, _ordered(chosen)
    if improvement_of is not None and improvement_of not in methods:
        raise InputError(f"no method {improvement_of!r} with {metric}; there are {', '.join(methods)}")
    reserved = [name for name in methods if not _is_ours(name)]
    if reserved:
        raise InputError(f"a method may not be called {reserved[0]!r}: the table has a column of that name")
    modalities = table.modalities
    papers = {
        name: {region: published_columns(name, metric, region, modalities) for region in regions} for name in published
    }
    columns: list[tuple[str, str]] = []
    blocks = []
    for region in regions:
        means = subset_means(chosen, region=region, metric=metric).reindex(index=order, columns=methods) * spec.scale
        block = np.vstack([means.to_numpy(float), means.mean(skipna=False).to_numpy(float)])
        names, parts = [*methods], [block]
        if improvement_of is not None:
            column = methods.index(improvement_of)
            gains = [_gain([float(value) for value in row], column, not spec.higher_is_better) for row in block]
            names, parts = [*names, IMPROVEMENT], [*parts, np.array(gains)[:, None]]
        for name, values in _distinct_names({name: columns_of[region] for name, columns_of in papers.items()}).items():
            cells = values.reindex(order).to_numpy(float)
            average = values[AVERAGE] if AVERAGE in values and len(order) == 2 ** len(modalities) - 1 else cells.mean()
            names, parts = [*names, name], [*parts, np.append(cells, average)[:, None]]
        columns += [(region, name) for name in names]
        blocks.append(np.hstack(parts))
    cells = np.hstack(blocks)
    described = _notes(chosen, spec, cells, len(order))
    if improvement_of is not None:
        described.append(
            f"{IMPROVEMENT}: of {improvement_of} over the best other method that was run, in % of the latter's value"
        )
    if published:
        described.append(
            f"{PUBLISHED_MARK}: numbers of the paper, of its own data and protocol, averaged over the rows here"
        )
        if any(AVERAGE in values for of in papers.values() for each in of.values() for values in each.values()):
            described.append("where the paper prints nothing but an average over all subsets, that stands beside")
        described += [
            f"{name} prints no {spec.title} of {', '.join(regions)} that could stand beside"
            for name, of in papers.items()
            if not any(of.values())
        ]
    return SubsetTable(
        metric,
        spec.shown_unit,
        bullet_order(modalities),
        tuple(order),
        tuple(columns),
        cells[:-1],
        cells[-1],
        not spec.higher_is_better,
        (*described, *notes),
    )


def _ordered(table: ResultTable) -> list[str]:
    """Its subsets in the order of the rows of the written table."""
    present = set(table.subsets)
    return [name for name in row_order(table.modalities) if name in present]


def _gain(values: Sequence[float], column: int, lower_is_better: bool) -> float:
    others = [value for i, value in enumerate(values) if i != column]
    return improvement(values[column], others, lower_is_better=lower_is_better)


def _notes(table: ResultTable, spec: MetricSpec, cells: np.ndarray, count: int) -> list[str]:
    cases = table.rows.groupby(["method", "subset"])["case"].nunique()
    few, many = int(cases.min()), int(cases.max())
    number = f"{many} case{'s' * (many > 1)}" if few == many else f"{few} to {many} cases, not the same in all cells"
    possible = 2 ** len(table.modalities) - 1
    average = f"average over {f'all {count}' if count == possible else f'{count} of {possible}'} subsets"
    if np.isnan(cells[:-1]).any():
        average += "; – in a column that lacks one of them"
    undefined = int(table.rows["value"].isna().sum())
    return [
        f"{spec.title}, mean over {number}" + f", in {spec.shown_unit}" * bool(spec.shown_unit),
        average,
        *[f"{undefined} undefined value{'s are' if undefined > 1 else ' is'} left out"] * bool(undefined),
    ]


def _distinct_names(tables: Mapping[str, Mapping[str, pd.Series]]) -> dict[str, pd.Series]:
    """Columns of several published tables, the tables named where two have a column of one name."""
    titles = [title for columns in tables.values() for title in columns]
    return {
        f"{title}, {table} {PUBLISHED_MARK}" if titles.count(title) > 1 else f"{title} {PUBLISHED_MARK}": values
        for table, columns in tables.items()
        for title, values in columns.items()
    }
