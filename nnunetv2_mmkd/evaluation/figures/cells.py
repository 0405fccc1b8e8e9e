"""Panels of annotated cells, subset by region, one panel per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nnunetv2_mmkd.evaluation.figures.bullets import bullet_rows, size_changes
from nnunetv2_mmkd.evaluation.figures.style import (
    COLUMN,
    NORMAL,
    PAGE,
    SMALL,
    TITLE,
    new_figure,
    panels_across,
    text_width,
    wrapped,
)

Key = tuple[str, str, str]
"""Method, row, region."""

_ROW, _GAP = 0.185, 0.25


@dataclass(frozen=True)
class AnnotatedCell:
    """A cell.

    Attributes:
        text: what is written in it.
        value: what colours it; NaN: white.
        count: small print behind the text, may be empty.
    """

    text: str
    value: float = float("nan")
    count: str = ""


@dataclass(frozen=True)
class Frame:
    """What the panels have in common.

    Attributes:
        modalities: of the data set.
        methods, subsets, regions: panels, rows and columns.
        last: name of one more row below the subsets, or none.
        label: of the colour bar.
        colours, norm: value -> colour.
        title, note: of the figure.
    """

    modalities: Sequence[str]
    methods: Sequence[str]
    subsets: Sequence[str]
    regions: Sequence[str]
    last: str
    label: str
    colours: Colormap
    norm: Normalize
    title: str
    note: str


def draw_cells(cells: Mapping[Key, AnnotatedCell], frame: Frame) -> Figure:
    """Draw the panels, as many side by side as fit on a page; missing cells are hatched.

    Args:
        cells: (method, subset or ``frame.last``, region) -> cell.
        frame: all else.
    """
    bullets = max(0.17 * len(frame.modalities), text_width(frame.last, NORMAL)) + 0.1
    bar = 0.55
    words = max((len(word) for method in frame.methods for word in method.split()), default=0)
    cell = 0.36 + (0.1 if any(one.count for one in cells.values()) else 0.0)
    panel = max(cell * len(frame.regions), text_width("x" * words, NORMAL) + 0.06)
    across = panels_across(len(frame.methods), panel + 0.06, PAGE - bullets - bar)
    if across == 1:
        panel = max(panel, min(COLUMN - bullets - bar, max(1.5, 0.6 * len(frame.regions))))
    lines = -(-len(frame.methods) // across)
    rows = len(frame.subsets) + (1 + _GAP if frame.last else 0)
    longest = text_width(max(frame.regions, key=len), NORMAL)
    turned = longest > panel / len(frame.regions)
    head = max(text_width(max(frame.modalities, key=len), SMALL), longest if turned else 0.12)
    head += 0.14 * max(wrapped(method, panel, TITLE).count("\n") for method in frame.methods)
    width = bullets + across * (panel + 0.06) + bar
    height = lines * (rows * _ROW + head + 0.35)
    figure = new_figure(width, height, frame.title, frame.note, 0.02)
    grid = figure.subplots(lines, across + 1, squeeze=False, width_ratios=[bullets, *[panel] * across])
    for number, ax in enumerate(grid[:, 1:].flat):
        if number < len(frame.methods):
            _panel(ax, frame.methods[number], cells, frame, panel, turned)
        else:
            ax.set_visible(False)
    for ax in grid[:, 0]:
        bullet_rows(ax, frame.subsets, frame.modalities)
        if frame.last:
            y = len(frame.subsets) + _GAP
            ax.text(len(frame.modalities) - 0.45, y, frame.last, ha="right", va="center", fontsize=NORMAL)
        _rows(ax, frame)
    bar_axes = figure.colorbar(ScalarMappable(frame.norm, frame.colours), ax=grid, pad=0.02, aspect=35, shrink=0.9)
    bar_axes.set_label(wrapped(frame.label, height, NORMAL), fontsize=NORMAL)
    bar_axes.ax.tick_params(labelsize=SMALL, length=2, width=0.5)
    bar_axes.outline.set_linewidth(0.5)
    return figure


def _panel(ax: Axes, method: str, cells: Mapping[Key, AnnotatedCell], frame: Frame, width: float, turned: bool) -> None:
    rows = {name: float(row) for row, name in enumerate(frame.subsets)}
    if frame.last:
        rows[frame.last] = len(frame.subsets) + _GAP
    for name, y in rows.items():
        for x, region in enumerate(frame.regions):
            _draw(ax, x, y, cells.get((method, name, region)), frame)
    for position in size_changes(frame.subsets):
        ax.axhline(position - 0.5, color="black", linewidth=0.8)
    ax.set_title(wrapped(method, width, TITLE), fontsize=TITLE)
    ax.set_xlim(-0.5, len(frame.regions) - 0.5)
    ax.set_xticks(range(len(frame.regions)), frame.regions, fontsize=NORMAL, rotation=90 * turned)
    ax.xaxis.tick_top()
    ax.tick_params(length=0, pad=2)
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    _rows(ax, frame)


def _draw(ax: Axes, x: int, y: float, cell: AnnotatedCell | None, frame: Frame) -> None:
    corner = (x - 0.5, y - 0.5)
    if cell is None:
        ax.add_patch(Rectangle(corner, 1, 1, facecolor="white", edgecolor="0.8", hatch="//////", linewidth=0.4))
        return
    empty = np.isnan(cell.value)
    face = (1.0, 1.0, 1.0, 1.0) if empty else frame.colours(float(frame.norm(cell.value)))
    ax.add_patch(Rectangle(corner, 1, 1, facecolor=face, edgecolor="0.8" if empty else "white", linewidth=0.4))
    ink = "black" if _luminance(face) > 0.25 else "white"
    shift = 0.13 if cell.count else 0.0
    ax.text(x - shift, y, cell.text, ha="center", va="center_baseline", fontsize=SMALL, color=ink)
    if cell.count:
        ax.text(x + 0.47, y, cell.count, ha="right", va="center_baseline", fontsize=SMALL - 1.5, color=ink)


def _rows(ax: Axes, frame: Frame) -> None:
    ax.set_ylim(len(frame.subsets) - 0.5 + (1 + _GAP if frame.last else 0), -0.5)


def _luminance(colour: Sequence[float]) -> float:
    """How bright the eye sees a colour, 0..1 (linear, sRGB)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Least and greatest finite value, apart."""
    finite = [value for value in values if np.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def common_count(counts: Sequence[int]) -> int:
    """The count that most cells have; it need not be written in them."""
    given = [count for count in counts if count]
    return max(set(given), key=lambda count: (given.count(count), count)) if given else 0
