"""What a page holds, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what is seen.
        sort: number by which the column is sorted; None: by the text, a dash last.
        spoken: what a screen reader says instead of the text.
        best: whether it is marked as the best.
        case: which case of the viewer it leads to.
    """

    text: str
    sort: float | None = None
    spoken: str = ""
    best: bool = False
    case: int | None = None


Row = tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table that the reader can sort.

    Attributes:
        title: heading.
        columns: their titles.
        views: name -> rows; the reader chooses one where there are several.
        groups: titles above the columns and how many each spans; none: no such line.
        last: a row below that is not sorted.
        lead: what is said above it.
        notes: what is said below it.
        numbers: how many of the columns, from the right, hold numbers.
        filtered: whether there is a field to search in it.
    """

    title: str
    columns: tuple[str, ...]
    views: Mapping[str, tuple[Row, ...]]
    groups: tuple[tuple[str, int], ...] = ()
    last: Row = ()
    lead: str = ""
    notes: tuple[str, ...] = ()
    numbers: int = 0
    filtered: bool = False


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        title: caption.
        alt: what is seen, for those who do not see it.
        source: data URI.
    """

    title: str
    alt: str
    source: str


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: heading.
        lead: a sentence below it.
        facts: label and value of each.
        warnings: what the reader must know first.
        tables: in order; the viewer follows the last one.
        figures: in order, above the last table.
        cases: of the viewer, see :func:`~.case_view.draw_case`.
        notes: how it was made.
    """

    title: str
    lead: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    cases: tuple[Mapping[str, Any], ...] = field(default=())
    notes: tuple[str, ...] = ()


def number(value: float, decimals: int = 1) -> Cell:
    """A cell with a number; a dash where there is none."""
    if math.isnan(value):
        return Cell("–")
    if math.isinf(value):
        return Cell("∞" if value > 0 else "−∞", math.copysign(1e300, value))
    return Cell(f"{value:.{decimals}f}", float(value))
