"""Means over the cases of a result table.

A value that is NaN (the metric is undefined for the case) is left out and counted; it is never turned into 0.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from nnunetv2_mmkd.evaluation.result_table import ResultTable


def summarise(table: ResultTable) -> pd.DataFrame:
    """Mean and standard deviation over the cases, a row per method, subset, region and metric.

    Returns:
        Columns method, subset, region, metric; mean (NaN without any case; infinite with an infinite value); sd (n - 1;
        NaN with fewer than two cases or an infinite value); cases (with a value); undefined (cases whose value is NaN,
        left out).
    """
    keys = ["method", "subset", "region", "metric"]
    found = []
    for group, rows in table.rows.groupby(keys, sort=False):
        values = rows["value"].dropna().to_numpy(float)
        mean = float(values.mean()) if values.size else float("nan")
        sd = float(values.std(ddof=1)) if values.size > 1 and np.isfinite(values).all() else float("nan")
        found.append((*group, mean, sd, values.size, len(rows) - values.size))
    return pd.DataFrame(found, columns=[*keys, "mean", "sd", "cases", "undefined"])


def subset_means(table: ResultTable, *, region: str, metric: str) -> pd.DataFrame:
    """Means over the cases: one row per subset, one column per method, in the order of the table.

    NaN values are left out of a mean; a subset that a method lacks, or for which all values are NaN, is NaN. An
    infinite value makes its mean infinite.

    Raises:
        InputError: no rows of that region and metric.
    """
    chosen = table.select(metric=metric, regions=[region])
    means = chosen.rows.groupby(["subset", "method"], sort=False)["value"].mean().unstack("method")
    return means.reindex(index=chosen.subsets, columns=chosen.methods)


def improvement(score: float, others: Iterable[float], *, lower_is_better: bool = False) -> float:
    """Relative improvement over the best other method in percent, the "Imprv" of MetaKD's and MCKD's tables.

    100 (score - b) / b with b the best of the others: the greatest, or with ``lower_is_better`` the least and the
    sign turned round, so that positive is always better. NaN if there is no other score or b is 0.

    >>> improvement(44.0, [40.0, 32.0])
    10.0

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
