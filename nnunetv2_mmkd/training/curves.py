"""``mmkd_progress.png``: what the method learns, next to nnU-Net's ``progress.png``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunetv2_mmkd.files import replacing

MARKERS = "osv^DPX*"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's palette, readable by the colour-blind."""


def draw_curves(curves: Mapping[str, Sequence[float]], path: Path, title: str = "") -> None:
    """Draw curves named ``"group/name"``: a panel per group, epochs on the x axis.

    Args:
        curves: values per epoch; epochs with NaN are passed over.
        path: PNG, written whole or not at all.
        title: of the figure.

    Raises:
        InputError: it cannot be written.
    """
    groups: dict[str, dict[str, Sequence[float]]] = {}
    for key, values in curves.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = values
    if not groups:
        return
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(5.5 * columns, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(groups) :]:
        ax.set_visible(False)
    for ax, (group, lines) in zip(axes.flat, groups.items(), strict=False):
        for number, (name, values) in enumerate(lines.items()):
            heights = np.asarray(values, dtype=float)
            known = np.flatnonzero(~np.isnan(heights))
            ax.plot(
                known,
                heights[known],
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=3.5,
                markevery=max(1, len(known) // 12),
                linewidth=1.4,
                label=name,
            )
        ax.set_title(group, fontsize=10)
        ax.set_xlabel("epoch", fontsize=8)
        ax.tick_params(labelsize=8)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7)
    figure.suptitle(title, fontsize=11)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
