"""Mean of a metric per subset and region, one panel per method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Normalize

from nnunetv2_mmkd.evaluation.figures.cells import AnnotatedCell, Frame, Key, common_count, draw_cells, limits
from nnunetv2_mmkd.evaluation.figures.selection import Selection, select
from nnunetv2_mmkd.evaluation.figures.style import cases, png, save
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.subsets import AVERAGE

_LAST = "Average"


def heat_map(
    table: ResultTable,
    path: str | Path,
    *,
    metric: str = "dice",
    methods: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    subsets: Sequence[str] | None = None,
    title: str = "",
) -> pd.DataFrame:
    """Mean over the cases per subset (rows of bullets) and region, one panel per method, bright is better.

    The last row is the mean of the subsets' means, as in the papers; it is empty if a subset has none. Subsets without
    rows are hatched; cells in which all values are NaN or infinite hold a dash. Cells over another number of cases than
    most have it in brackets.

    Args:
        table: results, with their modalities.
        path: PNG to write.
        metric: name in the table.
        methods, regions, subsets: what to show and in which order; ``None``: all.
        title: of the figure.

    Returns:
        What the CSV holds: method, subset (``average`` in the last rows), region, metric, mean, sd, cases, left_out
        (values NaN or infinite); in the unit of the table, not in per cent.

    Raises:
        InputError: see :func:`.selection.select`, or a path that is no PNG or cannot be written.
    """
    path = png(path)
    chosen = select(table, metric, methods=methods, regions=regions, subsets=subsets)
    numbers = _numbers(chosen)
    low, high = limits((numbers["mean"] * chosen.spec.scale).tolist())
    means = numbers[numbers["subset"] != AVERAGE]
    common = common_count([int(count) for count in means["cases"]])
    cells: dict[Key, AnnotatedCell] = {}
    for row in numbers.itertuples(index=False):
        mean, count = float(row.mean), row.cases
        name = _LAST if row.subset == AVERAGE else str(row.subset)
        other = not pd.isna(count) and int(count) not in (0, common)
        cells[str(row.method), name, str(row.region)] = AnnotatedCell(
            text="–" if np.isnan(mean) else chosen.spec.text(mean),
            value=mean * chosen.spec.scale,
            count=f"({int(count)})" if other else "",
        )
    frame = Frame(
        modalities=chosen.bullets,
        methods=chosen.methods,
        subsets=chosen.subsets,
        regions=chosen.regions,
        last=_LAST,
        label=chosen.spec.label(),
        colours=colormaps["viridis" if chosen.spec.higher_is_better else "viridis_r"],
        norm=Normalize(low, high),
        title=title,
        note=_note(chosen, cells, common),
    )
    save(draw_cells(cells, frame), numbers, path)
    return numbers


def _numbers(chosen: Selection) -> pd.DataFrame:
    groups = chosen.rows.groupby(["method", "subset", "region"], sort=False)["value"]
    of = groups.agg(mean="mean", sd="std", cases="count", rows="size").to_dict("index")
    rows: list[tuple[object, ...]] = []
    for method in chosen.methods:
        for subset in chosen.subsets:
            for region in chosen.regions:
                one = of.get((method, subset, region))
                if one is not None:
                    left_out = int(one["rows"]) - int(one["cases"])
                    rows.append((method, subset, region, one["mean"], one["sd"], int(one["cases"]), left_out))
        for region in chosen.regions:
            means = [of.get((method, subset, region), {}).get("mean", np.nan) for subset in chosen.subsets]
            rows.append((method, AVERAGE, region, float(np.mean(means)), np.nan, None, None))
    numbers = pd.DataFrame(rows, columns=["method", "subset", "region", "mean", "sd", "cases", "left_out"])
    numbers.insert(3, "metric", chosen.spec.name)
    return numbers.astype({"cases": "Int64", "left_out": "Int64"})


def _note(chosen: Selection, cells: dict[Key, AnnotatedCell], common: int) -> str:
    parts = [f"● available, ○ missing. Mean over {cases(common)}"]
    parts[0] += "; (n): over n cases." if any(cell.count for cell in cells.values()) else "."
    parts.append("Average: mean of the subsets' means.")
    if any(cell.text == "–" for cell in cells.values()):
        parts.append("–: no value.")
    expected = len(chosen.methods) * (len(chosen.subsets) + 1) * len(chosen.regions)
    if len(cells) < expected:
        parts.append("Hatched: not evaluated.")
    return " ".join([*parts, chosen.left_out()]).strip()
