"""Curves of several trainings: a line per mean, a band per standard deviation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from nnunetv2_mmkd.evaluation.figures.style import (
    LINE_COLOURS,
    MARKERS,
    NORMAL,
    PAGE,
    SMALL,
    legend_above,
    new_figure,
    panels_across,
    png,
    save,
    text_width,
)

Panels = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""Title of a panel -> name of a line -> values ``[trainings, epochs]``, NaN: none."""


def curve_panels(
    panels: Panels,
    path: str | Path,
    *,
    labels: Mapping[str, str],
    x_label: str = "epoch",
    reference: float | None = None,
    note: str = "",
    title: str = "",
) -> pd.DataFrame:
    """A panel per title, lines over the epochs; several trainings of a line are its mean and a band of one sd.

    Args:
        panels: the values.
        path: PNG to write.
        labels: title of a panel -> label of its y axis. Panels of one label share the axis.
        x_label: of the epochs.
        reference: a value at which a thin line is drawn.
        note: for below the panels.
        title: of the figure.

    Returns:
        What the CSV holds: panel, line, epoch (from 0), mean, sd (NaN with one training), trainings.

    Raises:
        InputError: a path that is no PNG or cannot be written.
    """
    path = png(path)
    across = panels_across(len(panels), 2.3, PAGE)
    rows = -(-len(panels) // across)
    figure = new_figure(max(across * 2.3, 3.5), rows * 1.9 + 0.25, title, note)
    axes = figure.subplots(rows, across, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    first: dict[str, Axes] = {}
    numbers = []
    for ax, (panel, lines) in zip(axes.flat, panels.items(), strict=False):
        shared = first.setdefault(labels[panel], ax)
        if shared is not ax:
            ax.sharey(shared)
        if reference is not None:
            ax.axhline(reference, color="0.4", linewidth=0.7, linestyle=":")
        for name, values in lines.items():
            numbers.append(_line(ax, names.index(name), panel, name, values))
        ax.set_title(panel, fontsize=NORMAL)
        ax.set_xlabel(x_label, fontsize=NORMAL)
        ax.set_ylabel(labels[panel], fontsize=NORMAL)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        plain_axes(ax)
    handles = [line_handle(number, name) for number, name in enumerate(names)]
    entry = text_width(max(names, key=len), NORMAL) + 0.5
    legend_above(figure, handles, max(1, min(len(names), int(figure.get_figwidth() / entry))))
    table = pd.concat(numbers, ignore_index=True)
    save(figure, table, path)
    return table


def line_handle(number: int, name: str) -> Line2D:
    """An entry of the legend."""
    return Line2D([], [], color=_colour(number), marker=_marker(number), markersize=3, linewidth=1.2, label=name)


def plain_axes(ax: Axes) -> None:
    """A light grid and small ticks."""
    ax.tick_params(labelsize=SMALL, length=2)
    ax.grid(color="0.9", linewidth=0.5)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _line(ax: Axes, number: int, panel: str, name: str, values: NDArray[np.float64]) -> pd.DataFrame:
    count = (~np.isnan(values)).sum(axis=0)
    known = np.flatnonzero(count)
    mean = np.array([np.nanmean(values[:, epoch]) for epoch in known])
    sd = np.array([np.nanstd(values[:, epoch], ddof=1) if count[epoch] > 1 else np.nan for epoch in known])
    colour, step = _colour(number), max(1, len(known) // 8)
    ax.plot(known, mean, color=colour, linewidth=1.2, marker=_marker(number), markersize=3, markevery=step)
    if np.isfinite(sd).any():
        ax.fill_between(known, mean - sd, mean + sd, color=colour, alpha=0.2, linewidth=0)
    return pd.DataFrame(
        {"panel": panel, "line": name, "epoch": known, "mean": mean, "sd": sd, "trainings": count[known]}
    )


def _colour(number: int) -> str:
    return LINE_COLOURS[number % len(LINE_COLOURS)]


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]
