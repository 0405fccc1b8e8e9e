"""How the figures look, and how they are written."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.table_files import write_table
from nnunetv2_mmkd.files import replacing
from nnunetv2_mmkd.names import canonical

COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00", "#999999")
"""Okabe and Ito's palette, light ones first so that hatches and medians stand out."""

LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""The same palette, dark ones first: for lines on white."""

MARKERS = "osv^DPX*"
"""Tell lines apart without colour."""

HATCHES = ("", "////", "\\\\\\\\", "xxxx", "----", "||||", "++++", "////----")
"""Tell methods apart without colour; no dots, which would pass for cases."""

COLUMN = 3.5
"""Inches, width of a column of a journal."""

PAGE = 7.2
"""Inches, width of a page of a journal."""

TITLE, NORMAL, SMALL = 8.0, 7.0, 6.0
"""Points; figures are made in the size they are printed in."""

DPI = 300

_SPELLED = {"t1ce": "T1ce", "bssfp": "bSSFP", "flair": "FLAIR"}
_POINTS = 72.0


def plain_style() -> AbstractContextManager[None]:
    """A context with matplotlib's own defaults, whatever other packages have set (nnU-Net sets seaborn's)."""
    context: AbstractContextManager[None] = style.context("default")
    return context


def shown(modality: str) -> str:
    """A modality's name as papers print it (``"T1"``, ``"T1ce"``, ``"FLAIR"``)."""
    name = canonical(modality)
    return _SPELLED.get(name, name.upper() if len(name) <= 4 else name)


def text_width(text: str, points: float) -> float:
    """Inches that the longest line of a text takes, about."""
    return max((len(line) for line in text.split("\n")), default=0) * points * 0.58 / _POINTS


def wrapped(text: str, inches: float, points: float) -> str:
    """A text broken into lines of at most this width; words stay whole."""
    letters = max(1, int(inches / text_width("x", points)))
    return "\n".join(textwrap.wrap(text, letters, break_long_words=False, break_on_hyphens=False))


def cases(count: int) -> str:
    """``"1 case"``, ``"12 cases"``."""
    return f"{count} case{'s' * (count != 1)}"


def paint(patch: Patch, order: int) -> None:
    """Give a bar or box the look of the method in this position."""
    patch.set_facecolor(COLOURS[order % len(COLOURS)])
    patch.set_hatch(HATCHES[(order + order // len(COLOURS)) % len(HATCHES)])
    patch.set_hatch_linewidth(0.4)
    patch.set_edgecolor("0.25")
    patch.set_linewidth(0.5)


def method_legend(figure: Figure, methods: Sequence[str]) -> None:
    """Names of the methods above the panels."""
    handles = [Patch(label=method) for method in methods]
    for order, handle in enumerate(handles):
        paint(handle, order)
    entry = text_width(max(methods, key=len), NORMAL) + 0.45
    columns = max(1, min(len(methods), int(figure.get_figwidth() / entry)))
    figure.set_figheight(figure.get_figheight() + 0.15 * (-(-len(methods) // columns) - 1))
    legend_above(figure, handles, columns)


def legend_above(figure: Figure, handles: Sequence[Artist], columns: int) -> None:
    """A legend above the panels, below the title of the figure, which becomes the legend's."""
    title = figure.get_suptitle()
    if title:
        figure.suptitle("")
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=columns,
        fontsize=NORMAL,
        frameon=False,
        title=title or None,
        title_fontsize=TITLE,
    )


def panels_across(count: int, panel: float, width: float) -> int:
    """How many of ``count`` panels lie side by side, so that all lines are about as full.

    Args:
        count: panels.
        panel, width: inches.
    """
    lines = -(-count // max(1, int(width / panel)))
    return -(-count // lines)


def new_figure(width: float, height: float, title: str, note: str, padding: float = 0.04) -> Figure:
    """An empty figure with its title above and its note below.

    Args:
        width, height: inches; the height is for the content, lines of title and note are added.
        title: may be empty.
        note: what the reader has to know; may be empty.
        padding: inches around each panel.
    """
    title, note = wrapped(title, width - 0.1, TITLE), wrapped(note, width - 0.1, SMALL - 0.5)
    extra = 0.16 * bool(title) * (title.count("\n") + 1) + 0.105 * bool(note) * (note.count("\n") + 1)
    layout = ConstrainedLayoutEngine(w_pad=padding, h_pad=padding, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(width, height + extra), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=TITLE)
    if note:
        figure.supxlabel(note, x=0.01, ha="left", fontsize=SMALL - 0.5, color="0.25")
    return figure


def save(figure: Figure, numbers: pd.DataFrame, path: str | Path) -> None:
    """Write ``path`` and the numbers as CSV next to it, each whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    path = png(path)
    write_table(numbers, path.with_suffix(".csv"))
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def png(path: str | Path) -> Path:
    """The path, if it is one of a PNG.

    Raises:
        InputError: another ending.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: figures are written as PNG; give a name that ends in .png")
    return path
