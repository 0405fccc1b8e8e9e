"""Subsets as rows or columns of filled and empty bullets, one per modality."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from nnunetv2_mmkd.evaluation.figures.style import NORMAL, SMALL, shown
from nnunetv2_mmkd.evaluation.subsets import SEPARATOR

_SIZE = 3.6


def bullet_rows(ax: Axes, subsets: Sequence[str], modalities: Sequence[str]) -> None:
    """A row per subset, the first at y = 0 on top; modalities above. The y limits are the caller's."""
    _bullets(ax, subsets, modalities, rows=True)
    ax.set_xlim(-0.6, len(modalities) - 0.4)
    ax.set_xticks(range(len(modalities)), [shown(name) for name in modalities], fontsize=SMALL, rotation=90)
    ax.xaxis.tick_top()
    ax.set_yticks([])
    _bare(ax)


def bullet_columns(ax: Axes, subsets: Sequence[str], modalities: Sequence[str]) -> None:
    """A column per subset, the first at x = 0; modalities at the left. The x limits are the caller's."""
    _bullets(ax, subsets, modalities, rows=False)
    ax.set_ylim(len(modalities) - 0.4, -0.6)
    ax.set_yticks(range(len(modalities)), [shown(name) for name in modalities], fontsize=NORMAL)
    ax.set_xticks([])
    _bare(ax)


def size_changes(subsets: Sequence[str]) -> list[int]:
    """Positions at which a subset has more or fewer modalities than the one before it."""
    sizes = [len(name.split(SEPARATOR)) for name in subsets]
    return [position for position in range(1, len(sizes)) if sizes[position] != sizes[position - 1]]


def _bullets(ax: Axes, subsets: Sequence[str], modalities: Sequence[str], rows: bool) -> None:
    for filled in (True, False):
        places = [
            (column, row)
            for row, name in enumerate(subsets)
            for column, modality in enumerate(modalities)
            if (modality in name.split(SEPARATOR)) is filled
        ]
        across = [place[0 if rows else 1] for place in places]
        along = [place[1 if rows else 0] for place in places]
        face = "black" if filled else "white"
        ax.plot(across, along, "o", markersize=_SIZE, color="black", markerfacecolor=face, markeredgewidth=0.6)


def _bare(ax: Axes) -> None:
    ax.tick_params(length=0, pad=2)
    for spine in ax.spines.values():
        spine.set_visible(False)
