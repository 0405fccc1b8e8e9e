"""Means over cases and over subsets of a long result table.

A value that is NaN (the metric is undefined for the case) is left out and counted; it is never turned into 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.result_table import checked, select, some
from nnunetv2_mmkd.evaluation.subsets import AVERAGE


@dataclass(frozen=True)
class SubsetSummary:
    """One method, subset, region and metric over the cases.

    Attributes:
        method, subset, region, metric: of the result table.
        mean: mean over the cases, NaN without any.
        sd: standard deviation over the cases (n - 1), NaN with fewer than two.
        cases: cases with a value.
        undefined: cases whose value is NaN, left out.
    """

    method: str
    subset: str
    region: str
    metric: str
    mean: float
    sd: float
    cases: int
    undefined: int


@dataclass(frozen=True)
class AverageSummary:
    """One method, region and metric over the subsets: the *Average* row of the papers.

    Attributes:
        method, region, metric: of the result table.
        mean: mean of the subsets' means, NaN if one of them is.
        subsets: how many.
        undefined: values that are NaN, left out of the subsets' means.
    """

    method: str
    region: str
    metric: str
    mean: float
    subsets: int
    undefined: int


def summarise(table: pd.DataFrame) -> tuple[SubsetSummary, ...]:
    """Mean and standard deviation over the cases, per method, subset, region and metric.

    With an infinite value (a distance to nothing) the mean is infinite and the standard deviation NaN.
    ``pandas.DataFrame(summarise(table))`` makes a table of it.

    Raises:
        InputError: columns lacking, a value that is no number, or a row given twice.
    """
    keys = ["method", "subset", "region", "metric"]
    found = []
    for (method, subset, region, metric), rows in checked(table, infinite=True).groupby(keys, sort=False):
        values = rows["value"].dropna().to_numpy(float)
        mean = float(values.mean()) if values.size else float("nan")
        sd = float(values.std(ddof=1)) if values.size > 1 and np.isfinite(values).all() else float("nan")
        found.append(SubsetSummary(method, subset, region, metric, mean, sd, values.size, len(rows) - values.size))
    return tuple(found)


def average_over_subsets(table: pd.DataFrame, subsets: Sequence[str] | None = None) -> tuple[AverageSummary, ...]:
    """Mean over subsets of the means over cases, per method, region and metric.

    Args:
        table: result table.
        subsets: names to average over; ``None``: all in the table.

    Raises:
        InputError: a method lacks one of the subsets (its average would not compare with another's), or as
            :func:`summarise`.
    """
    wanted = list(dict.fromkeys(table["subset"] if subsets is None else subsets)) if "subset" in table else []
    groups: dict[tuple[str, str, str], dict[str, SubsetSummary]] = {}
    for row in summarise(table):
        groups.setdefault((row.method, row.region, row.metric), {})[row.subset] = row
    found = []
    for (method, region, metric), rows in groups.items():
        lacking = [name for name in wanted if name not in rows]
        if lacking:
            raise InputError(
                f"method {method!r}, region {region!r}, {metric}: no value for the subsets {some(lacking)}; evaluate "
                "them or give the subsets to average over"
            )
        chosen = [rows[name] for name in wanted]
        mean = float(np.mean([row.mean for row in chosen]))
        found.append(AverageSummary(method, region, metric, mean, len(chosen), sum(row.undefined for row in chosen)))
    return tuple(found)


def subset_means(table: pd.DataFrame, *, region: str, metric: str) -> pd.DataFrame:
    """Means over the cases: one row per subset, one column per method, in the order of the table.

    NaN values are left out of a mean; a subset that a method lacks, or for which all values are NaN, is NaN.

    Raises:
        InputError: no rows of that region and metric, or as :func:`summarise`.
    """
    rows = select(checked(table), region, metric)
    means = rows.groupby(["subset", "method"], sort=False)["value"].mean().unstack("method")
    return means.reindex(index=rows["subset"].unique(), columns=rows["method"].unique())


def improvement(score: float, others: Iterable[float], *, lower_is_better: bool = False) -> float:
    """Relative improvement over the best other method in percent, the "Imprv" of MetaKD's and MCKD's tables.

    100 (score - b) / b with b the best of the others: the greatest, or with ``lower_is_better`` the least and the
    sign turned round, so that positive is always better. NaN if there is no other score or b is 0.

    Args:
        score: of the method in question.
        others: of all other methods; NaN (not reported) left out.
        lower_is_better: for distances.
    """
    known = [value for value in others if not np.isnan(value)]
    best = (min(known) if lower_is_better else max(known)) if known else 0.0
    if best == 0.0:
        return float("nan")
    return 100.0 * (best - score if lower_is_better else score - best) / best


def improvement_column(means: pd.DataFrame, method: str, *, lower_is_better: bool = False) -> pd.Series:
    """:func:`improvement` per subset, and of the averages over the subsets in a last row ``average``.

    As in the paper, the average row compares averages (it is not the average of the column), and the best other
    method may differ from row to row. An other method's average is over the subsets it reports.

    Args:
        means: one row per subset, one column per method (:func:`subset_means`), without an average row.
        method: column in question.

    Raises:
        InputError: no such column.
    """
    if method not in means.columns:
        raise InputError(f"no method {method!r}; there are {some(list(means.columns))}")
    rows = pd.concat([means, means.mean().to_frame(AVERAGE).T])
    others = [column for column in means.columns if column != method]
    values = [
        improvement(float(row[method]), row[others].astype(float), lower_is_better=lower_is_better)
        for _, row in rows.iterrows()
    ]
    return pd.Series(values, index=rows.index, name="improvement")
