"""How often each modality was elected as the teacher of a region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.patches import Patch

from nnunetv2_mmkd.evaluation.figures.style import (
    NORMAL,
    PAGE,
    SMALL,
    legend_above,
    new_figure,
    paint,
    panels_across,
    png,
    save,
    shown,
)

NOBODY = "nobody"
"""Winner of an election in which no case had the region."""

_LEAST = 0.08


def election_shares(
    winners: Mapping[str, Mapping[str, Sequence[str]]], modalities: Sequence[str], path: str | Path, *,
    note: str = "", title: str = "",
) -> pd.DataFrame:  # fmt: skip
    """A panel per run, a bar per region, in it the share of the elections that each modality won.

    Args:
        winners: run -> region -> the elected modality, or :data:`NOBODY`, of each election.
        modalities: in the order of the bars' parts.
        path: PNG to write.
        note: for below the panels.
        title: of the figure.

    Returns:
        What the CSV holds: run, region, modality, share, elections.

    Raises:
        InputError: a path that is no PNG or cannot be written.
    """
    path = png(path)
    names = [*modalities, *[NOBODY] * any(NOBODY in won for run in winners.values() for won in run.values())]
    bars = max(map(len, winners.values()))
    across = panels_across(len(winners), 3.4, PAGE)
    rows = -(-len(winners) // across)
    figure = new_figure(across * 3.5, rows * (0.3 * bars + 0.55) + 0.25, title, note)
    axes = figure.subplots(rows, across, squeeze=False)
    for ax in axes.flat[len(winners) :]:
        ax.set_visible(False)
    numbers = []
    for ax, (run, regions) in zip(axes.flat, winners.items(), strict=False):
        for place, (region, won) in enumerate(regions.items()):
            left = 0.0
            for number, name in enumerate(names):
                share = list(won).count(name) / len(won)
                numbers.append((run, region, name, share, len(won)))
                (bar,) = ax.barh(place, share, 0.7, left)
                paint(bar, number)
                if share >= _LEAST:
                    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
                    ax.text(left + share / 2, place, f"{100 * share:.0f}", ha="center", va="center", fontsize=SMALL,
                            bbox=box)  # fmt: skip
                left += share
        ax.set_yticks(range(len(regions)), list(regions), fontsize=NORMAL)
        ax.set_xticks([0, 0.5, 1], ["0", "50", "100"], fontsize=SMALL)
        ax.set(xlim=(0, 1), ylim=(len(regions) - 0.5, -0.5))
        ax.set_title(run, fontsize=NORMAL)
        ax.set_xlabel("elections won (%)", fontsize=NORMAL)
        ax.tick_params(length=2)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    handles = [Patch(label=shown(name) if name != NOBODY else name) for name in names]
    for number, handle in enumerate(handles):
        paint(handle, number)
    legend_above(figure, handles, len(names))
    table = pd.DataFrame(numbers, columns=["run", "region", "modality", "share", "elections"])
    save(figure, table, path)
    return table
