"""A table in the papers' shape for a terminal, and as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence

import numpy as np

from nnunetv2_mmkd.evaluation.grid import AVAILABLE, MISSING, Grid
from nnunetv2_mmkd.evaluation.tables import SubsetTable

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"} | {
    character: "\\" + character for character in "&%$#_{}"
}
_LATEX_BULLETS = {AVAILABLE: r"$\bullet$", MISSING: r"$\circ$"}


def as_markdown(table: SubsetTable | Grid) -> str:
    """The table in Markdown, the best of each region and row in bold."""
    grid = _grid(table)
    heads = [head.replace("|", r"\|") for head in (*grid.left, *grid.titles())]
    lines = [_markdown_row(heads), _markdown_row([":-:"] * len(grid.left) + ["--:"] * len(grid.heads[0]))]
    for row in grid.rows:
        left = [row.left, *[""] * (len(grid.left) - 1)] if isinstance(row.left, str) else row.left
        lines.append(_markdown_row([*(cell.replace("|", r"\|") for cell in left), *row.cells("**{}**")]))
    return "\n".join([*lines, "", *(f"{note}.  " for note in grid.notes)]) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def as_text(table: SubsetTable | Grid, width: int = 80) -> str:
    """The table for a terminal, the best of each region and row with ``*``.

    Args:
        table: to be shown.
        width: characters in a line. Regions that do not fit side by side follow each other, as do methods of a region.
    """
    grid = _grid(table)
    full = [row.left for row in grid.rows if not isinstance(row.left, str)]
    widths = [max(map(len, cells)) for cells in zip(grid.left, *full, strict=True)]
    left = [title.rjust(sum(widths) + 2 * len(widths) - 2) for title in grid.head_titles]
    left += [""] * (len(grid.heads) - 1 - len(left)) + [_left(grid.left, widths)]
    left += [row.left.lower() if isinstance(row.left, str) else _left(row.left, widths) for row in grid.rows]
    left = [each.ljust(max(map(len, left))) for each in left]
    rows = [row.cells("{}*") for row in grid.rows]
    columns = []
    for number, heads in enumerate(zip(*grid.heads, strict=True)):
        column = [*heads, *(row[number] for row in rows)]
        column = [cell if cell.endswith("*") else f"{cell} " for cell in column]
        columns.append([cell.rjust(max(map(len, column))) for cell in column])
    space, lines, begin = width - len(left[0]), [], 0
    parts: list[list[list[str]]] = []
    for _, count in grid.groups():
        parts += _packed([[column] for column in columns[begin : begin + count]], space)
        begin += count
    for block in _packed(parts, space):
        lines += [*(" ".join(cells).rstrip() for cells in zip(left, *block, strict=True)), ""]
    return "\n".join([*lines, *(line for note in grid.notes for line in textwrap.wrap(note, width))]) + "\n"


def _left(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(
        cell.center(width) if cell in _LATEX_BULLETS else cell.ljust(width)
        for cell, width in zip(cells, widths, strict=True)
    )


def _packed(parts: Sequence[list[list[str]]], space: int) -> list[list[list[str]]]:
    """Groups of columns joined to larger ones as long as they fit; a group is never divided."""
    blocks: list[list[list[str]]] = []
    for part in parts:
        if blocks and sum(len(column[0]) + 1 for column in [*blocks[-1], *part]) <= space:
            blocks[-1] = [*blocks[-1], *part]
        else:
            blocks.append(part)
    return blocks


def as_latex(table: SubsetTable | Grid) -> str:
    r"""The table in LaTeX (``booktabs``), bullets as ``\bullet`` and ``\circ``."""
    grid = _grid(table)
    n, groups = len(grid.left), grid.groups()
    blocks = [span for _, span in groups] if grid.spanned else [len(groups)]
    heads = [[_tex(title) for title in head] for head in grid.heads]
    if grid.spanned:
        heads[0] = [rf"\multicolumn{{{span}}}{{c}}{{{_tex(title)}}}" for title, span in groups]
    titles = [*grid.head_titles, *[""] * (len(heads) - 1 - len(grid.head_titles))]
    first_cells = [*([*[""] * (n - 1), title] for title in titles), list(grid.left)]
    lines = [rf"\begin{{tabular}}{{{'c' * n}{''.join('|' + 'r' * span for span in blocks)}}}", r"\toprule"]
    lines += [" & ".join([*map(_tex, first), *head]) + r" \\" for first, head in zip(first_cells, heads, strict=True)]
    lines.append(r"\midrule")
    for row in grid.rows:
        lines += [r"\midrule"] * row.rule
        left = [rf"\multicolumn{{{n}}}{{c}}{{{_tex(row.left)}}}"] if isinstance(row.left, str) else map(_tex, row.left)
        cells = [cell.replace("–", "--") for cell in row.cells(r"\textbf{{{}}}")]
        lines.append(" & ".join([*left, *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(f"% {note.replace('–', '--')}" for note in grid.notes)]) + "\n"


def _tex(text: str) -> str:
    return _LATEX_BULLETS.get(text) or "".join(_LATEX.get(character, character) for character in text)


def as_csv(table: SubsetTable | Grid) -> str:
    """The table as CSV: a 0/1 column per modality, the subset's name, the numbers unrounded."""
    grid = _grid(table)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*grid.key, *(grid.columns or grid.titles())])
    for row in grid.rows:
        empty = [isinstance(value, float) and bool(np.isnan(value)) for value in row.values]
        writer.writerow([*row.key, *("" if no else value for no, value in zip(empty, row.values, strict=True))])
    return text.getvalue()


def _grid(table: SubsetTable | Grid) -> Grid:
    return table if isinstance(table, Grid) else table.grid()
