"""Shapley value of each modality, per region and method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.figures.selection import Selection, select
from nnunetv2_mmkd.evaluation.figures.style import (
    NORMAL,
    PAGE,
    SMALL,
    method_legend,
    new_figure,
    paint,
    panels_across,
    png,
    save,
    shown,
)
from nnunetv2_mmkd.evaluation.metrics.registry import metric_spec
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.shapley import shapley_values
from nnunetv2_mmkd.evaluation.subsets import all_subset_names

_WIDTH = 0.84


def modality_contributions(
    table: ResultTable,
    path: str | Path,
    *,
    metric: str = "dice",
    methods: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    title: str = "",
) -> pd.DataFrame:
    """Shapley values as bars: a panel per region, a group per modality, methods side by side.

    v(subset) is the mean of the metric over the cases, v(empty set) = 0 as nothing is segmented without any image. A
    method's bars in a panel sum to its mean with all modalities. A method and region of which a subset has no value
    has no Shapley values; a dash stands in place of its bars.

    Args:
        table: results, with their modalities.
        path: PNG to write.
        metric: a score for which more is better and 0 is the worst.
        methods, regions: what to show and in which order; ``None``: all.
        title: of the figure.

    Returns:
        What the CSV holds: method, region, metric, modality, shapley (NaN without), total (mean with all modalities)
        and lacking (subsets without a value, joined by spaces); in the unit of the table, not in per cent.

    Raises:
        InputError: see :func:`.selection.select`; a metric for which less is better; no method and region has all
            subsets; or a path that is no PNG or cannot be written.
    """
    path = png(path)
    names = all_subset_names(table.modalities)
    chosen = select(table, metric, methods=methods, regions=regions, subsets=names)
    if not chosen.spec.higher_is_better:
        raise InputError(
            f"{metric}: Shapley values with v(empty) = 0 need a score of which more is better, e.g. dice; "
            f"{chosen.spec.title} is better if it is less"
        )
    numbers = _numbers(chosen, names)
    if numbers["shapley"].isna().all():
        lacking = str(numbers["lacking"].iloc[0]).replace(" ", ", ")
        raise InputError(
            f"{metric}: Shapley values need a value of every subset; method {numbers['method'].iloc[0]!r}, region "
            f"{numbers['region'].iloc[0]!r} lacks {lacking}. Evaluate all {len(names)} subsets"
        )
    group = max(0.38, len(chosen.methods) * 0.115 + 0.08)
    panel = max(group * len(chosen.modalities), 1.6 if len(chosen.regions) > 1 else 2.9) + 0.1
    across = panels_across(len(chosen.regions), panel, PAGE - 0.4)
    lines = -(-len(chosen.regions) // across)
    figure = new_figure(max(0.45 + across * panel, 3.4), lines * 1.7 + 0.35, title, _note(chosen, numbers))
    axes = figure.subplots(lines, across, squeeze=False, sharey=True, sharex=True)
    for ax in axes.flat[len(chosen.regions) :]:
        ax.set_visible(False)
    for number, (ax, region) in enumerate(zip(axes.flat, chosen.regions, strict=False)):
        _panel(ax, chosen, numbers[numbers["region"] == region])
        ax.set_title(region, fontsize=NORMAL)
        ax.tick_params(axis="x", labelbottom=number + across >= len(chosen.regions))
        if number % across == 0:
            ax.set_ylabel(chosen.spec.label("Contribution to "), fontsize=NORMAL)
    _pad(axes[0, 0], numbers["shapley"].to_numpy(float) * chosen.spec.scale)
    if len(chosen.methods) > 1:
        method_legend(figure, chosen.methods)
    save(figure, numbers, path)
    return numbers


def _numbers(chosen: Selection, names: Sequence[str]) -> pd.DataFrame:
    rows = []
    for method in chosen.methods:
        for region in chosen.regions:
            part = chosen.rows[(chosen.rows["method"] == method) & (chosen.rows["region"] == region)]
            means = part.groupby("subset", sort=False)["value"].mean().dropna()
            lacking = [name for name in names if name not in means]
            values, total = dict.fromkeys(chosen.modalities, np.nan), np.nan
            if not lacking:
                values = shapley_values(dict(means.items()), chosen.modalities)
                total = sum(values.values())
            rows += [
                (method, region, chosen.spec.name, name, value, total, " ".join(lacking))
                for name, value in values.items()
            ]
    return pd.DataFrame(rows, columns=["method", "region", "metric", "modality", "shapley", "total", "lacking"])


def _panel(ax: Axes, chosen: Selection, numbers: pd.DataFrame) -> None:
    width = _WIDTH / len(chosen.methods)
    many = len(chosen.methods) > 1
    for order, method in enumerate(chosen.methods):
        values = numbers.loc[numbers["method"] == method, "shapley"].to_numpy(float)
        positions = np.arange(len(values)) + (order - (len(chosen.methods) - 1) / 2) * width
        heights = values * chosen.spec.scale
        defined = ~np.isnan(heights)
        for bar in ax.bar(positions[defined], heights[defined], width * 0.94):
            paint(bar, order)
        for x, value, height in zip(positions, values, heights, strict=True):
            lacks = np.isnan(value)
            ax.annotate(
                "–" if lacks else chosen.spec.text(value),
                (x, 0.0 if lacks else height),
                xytext=(0, 1.5 if lacks or height >= 0 else -1.5),
                textcoords="offset points",
                ha="center",
                va="bottom" if lacks or height >= 0 else "top",
                rotation=90 if many and not lacks else 0,
                fontsize=SMALL - 0.5,
            )
    ax.axhline(0, color="black", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.grid(axis="y", color="0.88", linewidth=0.5)
    ax.set_xticks(range(len(chosen.modalities)), [shown(name) for name in chosen.modalities], fontsize=NORMAL)
    ax.tick_params(axis="x", length=0)
    ax.tick_params(axis="y", labelsize=SMALL, length=2)
    for side in ("top", "right", "bottom"):
        ax.spines[side].set_visible(False)


def _pad(ax: Axes, heights: np.ndarray) -> None:
    """Space for the numbers at the ends of the bars."""
    low, high = min(0.0, float(np.nanmin(heights))), max(0.0, float(np.nanmax(heights)))
    space = 0.22 * ((high - low) or 1.0)
    ax.set_ylim(low - (space if low < 0 else 0.0), high + space)


def _note(chosen: Selection, numbers: pd.DataFrame) -> str:
    parts = [
        f"Shapley values of the mean {chosen.spec.title} over the cases: mean gain by adding the modality, over all "
        "orders of adding them; v(∅) = 0. A method's bars sum to its mean with all modalities."
    ]
    if numbers["shapley"].isna().any():
        parts.append("–: not all subsets have a value.")
    return " ".join([*parts, chosen.left_out()]).strip()


def has_contributions(table: ResultTable) -> bool:
    """Whether a table of one metric has Shapley values: of a score, and some method has all subsets."""
    names = set(all_subset_names(table.modalities))
    subsets_of = table.rows.groupby("method")["subset"].unique()
    return metric_spec(table.metrics[0]).is_score and any(set(subsets) >= names for subsets in subsets_of)
