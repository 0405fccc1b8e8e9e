"""What is lost without some modalities: mean change of each subset against the full set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Normalize

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.figures.cells import AnnotatedCell, Frame, Key, common_count, draw_cells
from nnunetv2_mmkd.evaluation.figures.selection import Selection, select
from nnunetv2_mmkd.evaluation.figures.style import cases, png, save
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.subsets import SEPARATOR

_LAST = "All, mean"


def change_against_full(
    table: ResultTable,
    path: str | Path,
    *,
    metric: str = "dice",
    methods: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    subsets: Sequence[str] | None = None,
    title: str = "",
) -> pd.DataFrame:
    """Mean over the cases of value(subset) - value(full set), paired over the cases that have both.

    One panel per method, rows of bullets, a column per region; the last row is the mean with the full set itself. White
    is no change, orange is worse and violet better whatever the direction of the metric. A subset without pairs holds a
    dash, one without rows is hatched. Cells over another number of pairs than most have it in brackets.

    Args:
        table: results, with their modalities.
        path: PNG to write.
        metric: name in the table.
        methods, regions, subsets: what to show and in which order; ``None``: all.
        title: of the figure.

    Returns:
        What the CSV holds: method, subset, region, metric, change, sd (of the differences), cases (pairs), left_out
        (cases of the subset without a pair), mean_subset and mean_full (both over the pairs); in the unit of the
        table, not in per cent.

    Raises:
        InputError: see :func:`.selection.select`; no pair at all; or a path that is no PNG or cannot be written.
    """
    path = png(path)
    shown = None if subsets is None else [*subsets, SEPARATOR.join(table.modalities)]
    chosen = select(table, metric, methods=methods, regions=regions, subsets=shown)
    full = chosen.full
    others = [name for name in chosen.subsets if name != full]
    numbers = _numbers(chosen, others)
    changes = numbers[numbers["subset"] != full]
    if not (changes["cases"] > 0).any():
        raise InputError(
            f"{metric}: no case has a value both with {full} and with another subset; predict the full set as well"
        )
    common = common_count([int(count) for count in numbers["cases"]])
    factor = chosen.spec.scale
    cells: dict[Key, AnnotatedCell] = {}
    for row in numbers.itertuples(index=False):
        reference, count = row.subset == full, int(row.cases)
        value = float(row.mean_full if reference else row.change)
        cells[str(row.method), _LAST if reference else str(row.subset), str(row.region)] = AnnotatedCell(
            text="–" if np.isnan(value) else chosen.spec.text(value, signed=not reference),
            value=np.nan if reference else value * factor,
            count=f"({count})" if count not in (0, common) else "",
        )
    greatest = float(np.nanmax(np.abs(changes["change"]))) * factor or 1.0
    frame = Frame(
        modalities=chosen.bullets,
        methods=chosen.methods,
        subsets=others,
        regions=chosen.regions,
        last=_LAST,
        label=chosen.spec.label("Change of ").replace("(%)", "(percentage points)"),
        colours=colormaps["PuOr" if chosen.spec.higher_is_better else "PuOr_r"],
        norm=Normalize(-greatest, greatest),
        title=title,
        note=_note(chosen, cells, common, len(others)),
    )
    save(draw_cells(cells, frame), numbers, path)
    return numbers


def _numbers(chosen: Selection, subsets: Sequence[str]) -> pd.DataFrame:
    wide = chosen.rows.pivot(index=["method", "region", "case"], columns="subset", values="value")
    evaluated = set(zip(chosen.rows["method"], chosen.rows["region"], chosen.rows["subset"], strict=True))
    sizes = chosen.rows.groupby(["method", "region", "subset"]).size()
    rows = []
    for method in chosen.methods:
        for subset in [*subsets, chosen.full]:
            for region in chosen.regions:
                if (method, region, subset) not in evaluated:
                    continue
                values = wide.loc[(method, region)]
                one = values[subset]
                other = values[chosen.full] if chosen.full in values else one * np.nan
                both = one.notna() & other.notna()
                change = (one - other)[both]
                rows.append(
                    (
                        *(method, subset, region, chosen.spec.name, change.mean(), change.std()),
                        *(int(both.sum()), int(sizes[method, region, subset]) - int(both.sum())),
                        *(one[both].mean(), other[both].mean()),
                    )
                )
    columns = ["method", "subset", "region", "metric", "change", "sd", "cases", "left_out", "mean_subset", "mean_full"]
    return pd.DataFrame(rows, columns=columns)


def _note(chosen: Selection, cells: dict[Key, AnnotatedCell], common: int, subsets: int) -> str:
    better = "more" if chosen.spec.higher_is_better else "less"
    parts = [f"● available, ○ missing. Mean change against all modalities, paired over {cases(common)}"]
    parts[0] += "; (n): over n cases." if any(cell.count for cell in cells.values()) else "."
    parts.append(f"{_LAST}: mean with all modalities. {better.capitalize()} is better.")
    if any(cell.text == "–" for cell in cells.values()):
        parts.append("–: no pair.")
    if len(cells) < len(chosen.methods) * (subsets + 1) * len(chosen.regions):
        parts.append("Hatched: not evaluated.")
    return " ".join([*parts, chosen.left_out()]).strip()


def has_change(table: ResultTable) -> bool:
    """Whether some method of a table of one metric has the full set and another subset."""
    full = SEPARATOR.join(table.modalities)
    return any(full in subsets and len(subsets) > 1 for subsets in table.rows.groupby("method")["subset"].unique())
