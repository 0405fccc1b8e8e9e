"""A metric over a hyper-parameter, a line per region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nnunetv2_mmkd.evaluation.figures.lines import line_handle, plain_axes
from nnunetv2_mmkd.evaluation.figures.style import (
    LINE_COLOURS,
    MARKERS,
    NORMAL,
    PAGE,
    legend_above,
    new_figure,
    panels_across,
    png,
    save,
)


@dataclass(frozen=True)
class Setting:
    """Trainings with one value of the hyper-parameter.

    Attributes:
        panel: method that is varied.
        variant: what else is another than in the curve; empty: it is a point of the curve.
        x: the value.
        values: region -> a value per training, as they are shown.
    """

    panel: str
    variant: str
    x: float
    values: Mapping[str, Sequence[float]]


def sensitivity(
    settings: Sequence[Setting], path: str | Path, *, x_label: str, y_label: str, note: str = "", title: str = ""
) -> pd.DataFrame:
    """Means over trainings as a line per region, single trainings as dots, sd as bars; variants as stars.

    Args:
        settings: points of the curves, and variants.
        path: PNG to write.
        x_label, y_label: of the axes.
        note: for below the panels.
        title: of the figure.

    Returns:
        What the CSV holds: panel, variant, x, region, mean, sd (NaN with one training), trainings.

    Raises:
        InputError: a path that is no PNG or cannot be written.
    """
    path = png(path)
    panels = list(dict.fromkeys(each.panel for each in settings))
    regions = list(dict.fromkeys(region for each in settings for region in each.values))
    variants = list(dict.fromkeys(each.variant for each in settings if each.variant))
    across = panels_across(len(panels), 3.2, PAGE)
    rows = -(-len(panels) // across)
    figure = new_figure(max(3.5, across * 3.2), rows * 2.3 + 0.25, title, note)
    axes = figure.subplots(rows, across, squeeze=False, sharey=True)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    numbers = []
    for ax, panel in zip(axes.flat, panels, strict=False):
        own = sorted((each for each in settings if each.panel == panel), key=lambda each: each.x)
        for number, region in enumerate(regions):
            colour, curve = LINE_COLOURS[number % len(LINE_COLOURS)], []
            for each in own:
                values = np.asarray(each.values[region], dtype=float)
                mean, sd = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan")
                numbers.append((panel, each.variant, each.x, region, mean, sd, len(values)))
                if each.variant:
                    size = 8 + 2 * variants.index(each.variant)
                    ax.plot(each.x, mean, "*", color=colour, markersize=size, markeredgecolor="black",
                            markeredgewidth=0.5, zorder=4)  # fmt: skip
                    continue
                curve.append((each.x, mean))
                if len(values) > 1:
                    ax.errorbar(each.x, mean, sd, color=colour, capsize=2, linewidth=0.9)
                    ax.plot(np.full(len(values), each.x), values, "o", color=colour, markersize=2, alpha=0.5)
            look = {"marker": MARKERS[number % len(MARKERS)], "markersize": 4, "linewidth": 1.2}
            ax.plot(*zip(*curve, strict=True), color=colour, **look)
        ax.set_xticks(sorted({each.x for each in own}))
        ax.set_title(panel, fontsize=NORMAL)
        ax.set_xlabel(x_label, fontsize=NORMAL)
        ax.set_ylabel(y_label, fontsize=NORMAL)
        plain_axes(ax)
    legend_above(figure, [line_handle(number, region) for number, region in enumerate(regions)], len(regions))
    table = pd.DataFrame(numbers, columns=["panel", "variant", "x", "region", "mean", "sd", "trainings"])
    save(figure, table, path)
    return table
