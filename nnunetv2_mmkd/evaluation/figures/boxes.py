"""Distribution over the cases, methods side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.figures.bullets import bullet_columns, size_changes
from nnunetv2_mmkd.evaluation.figures.cells import common_count
from nnunetv2_mmkd.evaluation.figures.selection import Selection, select
from nnunetv2_mmkd.evaluation.figures.style import (
    COLOURS,
    COLUMN,
    NORMAL,
    PAGE,
    SMALL,
    cases,
    method_legend,
    new_figure,
    paint,
    panels_across,
    png,
    save,
)
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.subsets import SEPARATOR

By = Literal["subset", "count"]
"""A group of boxes per subset, or per number of available modalities."""

_FEW = 20
_LEAST = 5
_WIDTH = 0.8


def boxplots(
    table: ResultTable,
    path: str | Path,
    *,
    metric: str = "dice",
    by: By = "subset",
    methods: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    subsets: Sequence[str] | None = None,
    title: str = "",
) -> pd.DataFrame:
    """Boxes over the cases, methods side by side, a panel per region.

    A box goes from the lower to the upper quartile with the median as a line, whiskers to the last value within 1.5
    interquartile ranges, a diamond at the mean. All cases are drawn as points if there are at most 20 of them, else
    those beyond the whiskers; of fewer than 5 cases there is no box, only points and median. A box over another number
    of cases than most has it written above, a dash if the subset has no rows.

    With ``by="count"`` a case's value is its mean over the subsets with so many modalities that have a value, so that a
    case counts once in each box.

    Args:
        table: results, with their modalities.
        path: PNG to write.
        metric: name in the table.
        by: what the groups of boxes are.
        methods, regions, subsets: what to show and in which order; ``None``: all.
        title: of the figure.

    Returns:
        What the CSV holds: method, subset (or modalities, the number of them), region, metric, cases, left_out (cases
        without a value), mean, minimum, whisker_low, quartile_1, median, quartile_3, whisker_high, maximum; in the
        unit of the table, not in per cent.

    Raises:
        InputError: see :func:`.selection.select`; an unknown ``by``; or a path that is no PNG or cannot be written.
    """
    path = png(path)
    if by not in ("subset", "count"):
        raise InputError(f"by {by!r}: expected 'subset' or 'count'")
    chosen = select(table, metric, methods=methods, regions=regions, subsets=subsets)
    key = "subset" if by == "subset" else "modalities"
    groups: list[Any] = list(chosen.subsets)
    rows = chosen.rows
    if by == "count":
        groups = sorted({len(name.split(SEPARATOR)) for name in chosen.subsets})
        rows = rows.assign(modalities=rows["subset"].str.count(rf"\{SEPARATOR}") + 1)
        rows = rows.groupby(["method", "case", "modalities", "region"], sort=False, as_index=False)["value"].mean()
    boxes = {name: frame["value"].to_numpy(float) for name, frame in rows.groupby(["method", key, "region"])}
    numbers = pd.DataFrame(
        [
            _numbers(method, group, region, chosen.spec.name, boxes[method, group, region], key)
            for region in chosen.regions
            for group in groups
            for method in chosen.methods
            if (method, group, region) in boxes
        ]
    )
    draw = _by_subset if by == "subset" else _by_count
    save(draw(chosen, groups, boxes, _note(chosen, numbers, by, len(groups)), title), numbers, path)
    return numbers


def _numbers(method: str, group: Any, region: str, metric: str, values: np.ndarray, key: str) -> dict[str, Any]:
    finite = values[~np.isnan(values)]
    row = {"method": method, key: group, "region": region, "metric": metric}
    row |= {"cases": finite.size, "left_out": values.size - finite.size}
    names = ("mean", "minimum", "whisker_low", "quartile_1", "median", "quartile_3", "whisker_high", "maximum")
    if not finite.size:
        return row | dict.fromkeys(names, np.nan)
    one = boxplot_stats(finite)[0]
    numbers = (one["mean"], finite.min(), one["whislo"], one["q1"], one["med"], one["q3"], one["whishi"], finite.max())
    return row | {name: float(value) for name, value in zip(names, numbers, strict=True)}


def _by_subset(chosen: Selection, groups: Sequence[str], boxes: dict[Any, np.ndarray], note: str, title: str) -> Figure:
    low = 0.14 * len(chosen.modalities) + 0.1
    boxes_wide, gaps = len(groups) * len(chosen.methods), 0.7 + 0.08 * len(groups)
    width = max(COLUMN, gaps + 0.085 * boxes_wide, min(PAGE, gaps + 0.3 * boxes_wide))
    figure = new_figure(width, len(chosen.regions) * 1.35 + low + 0.3, title, note)
    ratios = [1.35] * len(chosen.regions) + [low]
    *panels, bottom = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
    for ax, region in zip(panels, chosen.regions, strict=True):
        _panel(ax, chosen, groups, boxes, region)
        ax.set_ylabel(f"{region}\n{chosen.spec.label()}", fontsize=NORMAL)
        for position in size_changes(groups):
            ax.axvline(position - 0.5, color="black", linewidth=0.8)
        ax.tick_params(axis="x", length=0)
    bullet_columns(bottom, groups, chosen.bullets)
    bottom.set_xlim(-0.5, len(groups) - 0.5)
    method_legend(figure, chosen.methods)
    return figure


def _by_count(chosen: Selection, groups: Sequence[int], boxes: dict[Any, np.ndarray], note: str, title: str) -> Figure:
    panel = max(1.5, 0.1 + len(groups) * (0.11 * len(chosen.methods) + 0.08))
    across = panels_across(len(chosen.regions), panel, PAGE - 0.45)
    lines = -(-len(chosen.regions) // across)
    figure = new_figure(max(0.45 + across * panel, 3.4), lines * 2.0 + 0.3, title, note)
    axes = figure.subplots(lines, across, squeeze=False, sharey=True, sharex=True)
    for ax in axes.flat[len(chosen.regions) :]:
        ax.set_visible(False)
    for number, (ax, region) in enumerate(zip(axes.flat, chosen.regions, strict=False)):
        _panel(ax, chosen, groups, boxes, region)
        ax.set_title(region, fontsize=NORMAL, pad=9)
        ax.set_xticks(range(len(groups)), [str(group) for group in groups], fontsize=NORMAL)
        ax.tick_params(axis="x", length=0, labelbottom=number + across >= len(chosen.regions))
        ax.set_xlim(-0.5, len(groups) - 0.5)
        if number % across == 0:
            ax.set_ylabel(chosen.spec.label(), fontsize=NORMAL)
        if number + across >= len(chosen.regions):
            ax.set_xlabel("available modalities", fontsize=NORMAL)
    method_legend(figure, chosen.methods)
    return figure


def _panel(ax: Axes, chosen: Selection, groups: Sequence[Any], boxes: dict[Any, np.ndarray], region: str) -> None:
    width = _WIDTH / len(chosen.methods)
    sizes = [int(np.isfinite(values).sum()) for values in boxes.values()]
    common = common_count(sizes)
    for order, method in enumerate(chosen.methods):
        for position, group in enumerate(groups):
            values = boxes.get((method, group, region), np.empty(0))
            values = values[~np.isnan(values)] * chosen.spec.scale
            x = position + (order - (len(chosen.methods) - 1) / 2) * width
            if values.size:
                _box(ax, x, width, values, order, points=max(sizes) <= _FEW)
            if values.size != common:
                ax.text(
                    *(x, 1.01, str(values.size) if (method, group, region) in boxes else "–"),
                    transform=ax.get_xaxis_transform(),
                    ha="center",
                    va="bottom",
                    fontsize=SMALL - 1.5,
                    color="0.25",
                )
    ax.set_axisbelow(True)
    ax.grid(axis="y", color="0.88", linewidth=0.5)
    ax.tick_params(axis="y", labelsize=SMALL, length=2)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _box(ax: Axes, x: float, width: float, values: np.ndarray, order: int, points: bool) -> None:
    few = points and values.size < _LEAST
    if points:
        jitter = (np.arange(values.size) * 0.618 % 1 - 0.5) * width * 0.5
        look: dict[str, Any] = {"markersize": 1.3, "color": "0.15", "markeredgewidth": 0, "alpha": 0.8, "zorder": 3}
        if few:
            look |= {"markersize": 3, "color": COLOURS[order % len(COLOURS)], "markeredgewidth": 0.4, "alpha": 1}
        ax.plot(x + jitter, values, "o", markeredgecolor="0.25", **look)
    if few:
        ax.hlines(np.median(values), x - 0.41 * width, x + 0.41 * width, color="black", linewidth=1.2)
        return
    drawn = ax.bxp(
        boxplot_stats(values),
        positions=[x],
        widths=width * 0.82,
        manage_ticks=False,
        patch_artist=True,
        showmeans=True,
        showfliers=not points,
        medianprops={"linewidth": 1.2, "color": "black"},
        whiskerprops={"linewidth": 0.5, "color": "0.25"},
        capprops={"linewidth": 0.5, "color": "0.25"},
        meanprops={"marker": "D", "markersize": 2, "markerfacecolor": "white", "markeredgecolor": "black"}
        | {"markeredgewidth": 0.5},
        flierprops={"marker": "o", "markersize": 1.5, "markerfacecolor": "0.3", "markeredgewidth": 0},
    )
    for patch in drawn["boxes"]:
        paint(patch, order)


def _note(chosen: Selection, numbers: pd.DataFrame, by: By, groups: int) -> str:
    common = common_count([int(count) for count in numbers["cases"]])
    other = (numbers["cases"] != common).any()
    parts = ["● available, ○ missing."] if by == "subset" else ["One value per case: its mean over the subsets."]
    parts.append(f"{cases(common)} each" + ("; where not, their number is above the box." if other else "."))
    if len(numbers) < len(chosen.methods) * len(chosen.regions) * groups:
        parts.append("–: not evaluated.")
    few = numbers["cases"].max() < _LEAST
    parts.append(
        "Line: median; fewer than 5 cases make no box."
        if few
        else "Line: median; diamond: mean; whiskers: up to 1.5 interquartile ranges."
    )
    return " ".join([*parts, chosen.left_out()]).strip()


def has_counts(table: ResultTable) -> bool:
    """Whether a table of one metric has more than the subsets of one modality."""
    return len(table.subsets) > len(table.modalities)
