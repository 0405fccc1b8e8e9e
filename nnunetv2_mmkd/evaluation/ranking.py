"""Methods ranked as BraTS ranks its entries: by the mean of their ranks in every single comparison."""

from __future__ import annotations

import pandas as pd

from nnunetv2_mmkd.evaluation.metrics.registry import metric_spec
from nnunetv2_mmkd.evaluation.result_table import ResultTable


def ranking_metrics(table: ResultTable) -> list[str]:
    """The lesion-wise metrics that a task ranks by: Dice, and NSD where it has one, else HD95."""
    lesion = [name for name in table.metrics if name.startswith("lesion_")]
    second = "lesion_nsd" if any(name.startswith("lesion_nsd") for name in lesion) else "lesion_hd95"
    return [name for name in lesion if name.startswith(("lesion_dice", second))]


def ranking(table: ResultTable) -> pd.DataFrame | None:
    """Mean rank of each method over cases, subsets, regions and the metrics of :func:`ranking_metrics`.

    In a comparison the best method has rank 1, and methods of one value share the mean of their ranks. A comparison
    that a method lacks, or where its value is undefined, is left out for all.

    Returns:
        Columns method, mean_rank, best (number of comparisons in which no other was better), comparisons; the best
        method first. None: fewer than two methods, or nothing to rank by.
    """
    rows = table.rows[table.rows["metric"].isin(ranking_metrics(table))]
    if not len(rows) or len(table.methods) < 2:
        return None
    signs = {name: -1.0 if metric_spec(name).higher_is_better else 1.0 for name in rows["metric"].unique()}
    keys = [column for column in rows.columns if column not in ("method", "value")]
    losses = rows.assign(value=rows["value"] * rows["metric"].map(signs))
    wide = losses.pivot(index=keys, columns="method", values="value").reindex(columns=table.methods).dropna()
    if not len(wide):
        return None
    ranks, best = wide.rank(axis=1), wide.eq(wide.min(axis=1), axis=0)
    made = pd.DataFrame({"mean_rank": ranks.mean(), "best": best.sum(), "comparisons": len(wide)})
    return made.sort_values("mean_rank", kind="stable").rename_axis("method").reset_index()
