"""``mmkd_progress.png``: what the method learns, next to nnU-Net's ``progress.png``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nnunetv2_mmkd.evaluation.figures.style import LINE_COLOURS, MARKERS, plain_style
from nnunetv2_mmkd.evaluation.grid import DISPLAY
from nnunetv2_mmkd.files import replacing

PANELS: Mapping[str, tuple[str, str]] = {
    "pseudo Dice": ("Online validation", "pseudo-Dice"),
    "loss": ("Training loss", "part of the loss"),
    "weighted loss": ("Training loss", "weighted part of the loss"),
    "importance": ("Importance of the modalities", "weight (they sum to 1)"),
    "meta loss": ("Loss on held-out cases", "task loss"),
    "teaches (share of regions)": ("Teachers by region", "share of the regions that it teaches"),
    "distance to the teacher": ("Distance of a modality to the teacher", "distance"),
    "relative preference": ("Preference of the modalities", "relative preference"),
    "discriminator": ("Discriminator", "loss, accuracy"),
    "distillation per pair": ("Distillation", "distance of a pair of modalities"),
    "largest ratio": ("Largest ratio of two weights", "ratio"),
    "importance logit": ("Importance before normalisation", "logit"),
    "fill l1": ("Filled against real features", "L1 distance"),
    "fill relative_l1": ("Filled against real features", "relative L1 distance"),
    "fill cosine": ("Filled against real features", "cosine similarity"),
    "meta updates": ("Meta-updates so far", "number"),
    "elections": ("Elections so far", "number"),
}
"""Group of curves -> title and y label of its panel, the most telling first."""

SHOWN = 4
"""Panels that are drawn."""

SWITCH = "nnUNet_mmkd_all_curves"
"""Variable: if it is set, all panels are drawn."""

LINES = {"subset law": "with modalities dropped", "all modalities": "with all modalities"}
"""Curve -> what it is called in the legend and in the log."""


def by_group(curves: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Sequence[float]]]:
    """Curves named ``"group/name"`` by group, those of :data:`PANELS` first and in its order."""
    groups: dict[str, dict[str, Sequence[float]]] = {}
    for key, values in curves.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = values
    known = list(PANELS)
    return dict(sorted(groups.items(), key=lambda entry: known.index(entry[0]) if entry[0] in known else len(known)))


def draw_curves(curves: Mapping[str, Sequence[float]], path: Path, title: str = "") -> None:
    """Draw curves named ``"group/name"``: a panel per group, epochs on the x axis; the :data:`SHOWN` most telling ones.

    Args:
        curves: values per epoch; epochs with NaN are passed over.
        path: PNG, written whole or not at all.
        title: of the figure.

    Raises:
        InputError: it cannot be written.
    """
    groups = by_group(curves)
    if not os.environ.get(SWITCH):
        groups = dict(list(groups.items())[:SHOWN])
    if not groups:
        return
    with plain_style():
        figure = _figure(groups)
    figure.suptitle(title, fontsize=11)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _figure(groups: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    columns = min(2 if len(groups) <= SHOWN else 4, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(4.8 * columns, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(groups) :]:
        ax.set_visible(False)
    for ax, (group, lines) in zip(axes.flat, groups.items(), strict=False):
        _panel(ax, group, lines)
    return figure


def _panel(ax: Axes, group: str, lines: Mapping[str, Sequence[float]]) -> None:
    for number, (name, values) in enumerate(lines.items()):
        heights = np.asarray(values, dtype=float)
        known = np.flatnonzero(~np.isnan(heights))
        ax.plot(
            known,
            heights[known],
            color=LINE_COLOURS[number % len(LINE_COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=3.5,
            markevery=max(1, len(known) // 12),
            linewidth=1.4,
            label=LINES.get(name, DISPLAY.get(name, name)),
        )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    title, label = PANELS.get(group, (group, "value"))
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("epoch", fontsize=8)
    ax.set_ylabel(label, fontsize=8)
    ax.tick_params(labelsize=8)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7)
