"""A table of numbers as it lies on a page, ready to be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunetv2_mmkd.evaluation.subsets import parse_subset
from nnunetv2_mmkd.names import canonical

AVAILABLE, MISSING = "●", "○"
"""Bullets of the papers."""

DECIMALS = 2
"""Of a number in a written table."""

DISPLAY: Mapping[str, str] = {
    "t1": "T1",
    "t1ce": "T1ce",
    "t2": "T2",
    "flair": "FLAIR",
    "bssfp": "bSSFP",
    "lge": "LGE",
}
"""Column titles of modalities; others as they are."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        left: what stands left of the numbers, below each of the titles there; one text spans them.
        key: the same in the CSV.
        values: a number or a text per column; NaN: nothing.
        best: which of them are the best.
        rule: whether a line is drawn above it.
    """

    left: tuple[str, ...] | str
    key: tuple[str, ...]
    values: tuple[float | str, ...]
    best: tuple[bool, ...]
    rule: bool = False

    def cells(self, style: str) -> list[str]:
        """The cells as texts, the best in a style such as ``"**{}**"``."""
        return [
            style.format(cell(value)) if best else cell(value)
            for value, best in zip(self.values, self.best, strict=True)
        ]


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        left: titles above what stands left of the numbers.
        key: the same in the CSV.
        heads: rows of titles above the numbers, a title per column each.
        head_titles: for each but the last of the heads what stands left of it; empty: nothing.
        columns: titles of the columns in the CSV; empty: their heads.
        spanned: whether equal neighbours in the first of the heads are one title, and the columns below a group.
        rows: from top to bottom.
        notes: lines for below the table.
    """

    left: tuple[str, ...]
    key: tuple[str, ...]
    heads: tuple[tuple[str, ...], ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    head_titles: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    spanned: bool = True

    def groups(self) -> list[tuple[str, int]]:
        """Title and number of columns of each group, from left to right."""
        found: list[tuple[str, int]] = []
        for title in self.heads[0]:
            if self.spanned and found and found[-1][0] == title:
                found[-1] = (title, found[-1][1] + 1)
            else:
                found.append((title, 1))
        return found

    def titles(self) -> list[str]:
        """The heads of each column in one line."""
        return [" ".join(filter(None, heads)) for heads in zip(*self.heads, strict=True)]


def cell(value: float | str) -> str:
    """A number or text as it is shown."""
    if isinstance(value, str):
        return value
    return "–" if np.isnan(value) else f"{value:.{DECIMALS}f}"


def modality_title(modality: str) -> str:
    """A modality above a column."""
    return DISPLAY.get(canonical(modality), modality)


def bullets(subset: str, modalities: Sequence[str]) -> tuple[str, ...]:
    """A bullet per modality."""
    available = parse_subset(subset, modalities)
    return tuple(AVAILABLE if name in available else MISSING for name in modalities)


def best_of(values: Sequence[float] | np.ndarray, lower_is_better: bool) -> list[bool]:
    """Which of some values are the best as they are shown; none where there is nothing to compare."""
    shown = np.round(np.asarray(values, dtype=float), DECIMALS)
    if len(shown) < 2 or not np.isfinite(shown).any():
        return [False] * len(shown)
    return [bool(value) for value in shown == (np.nanmin(shown) if lower_is_better else np.nanmax(shown))]
