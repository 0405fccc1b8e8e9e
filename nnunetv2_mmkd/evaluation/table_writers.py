"""A table in the papers' shape for a terminal, and as Markdown, LaTeX and CSV."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from nnunetv2_mmkd.evaluation.subsets import AVERAGE, parse_subset
from nnunetv2_mmkd.evaluation.tables import DECIMALS, SubsetTable
from nnunetv2_mmkd.names import canonical

P_VALUE = "p (paper's)"
"""Head of the row of a paper's own test."""

AVAILABLE, MISSING = "●", "○"
"""Bullets of the papers."""

DISPLAY: Mapping[str, str] = {
    "t1": "T1",
    "t1ce": "T1ce",
    "t2": "T2",
    "flair": "FLAIR",
    "bssfp": "bSSFP",
    "lge": "LGE",
}
"""Column titles of modalities; others as they are."""

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"} | {
    character: "\\" + character for character in "&%$#_{}"
}


def as_markdown(table: SubsetTable) -> str:
    """The table in Markdown, the best of each region and row in bold."""
    heads = [*map(_title, table.modalities), *(f"{region} {method}" for region, method in table.columns)]
    heads = [head.replace("|", r"\|") for head in heads]
    lines = [_markdown_row(heads), _markdown_row([":-:"] * len(table.modalities) + ["--:"] * len(table.columns))]
    for subset, row in zip(table.subsets, table.means, strict=True):
        lines.append(_markdown_row([*_bullets(subset, table.modalities), *_bold(table, row, "**{}**")]))
    last = ["Average", *[""] * (len(table.modalities) - 1)]
    lines.append(_markdown_row([*last, *_bold(table, table.averages, "**{}**")]))
    if table.p_values is not None:
        lines.append(_markdown_row([P_VALUE, *last[1:], *map(_p_cell, table.p_values)]))
    return "\n".join([*lines, "", *(f"{note}.  " for note in table.notes)]) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _bold(table: SubsetTable, row: np.ndarray, style: str) -> list[str]:
    return [
        style.format(_cell(value)) if best else _cell(value) for value, best in zip(row, table.best(row), strict=True)
    ]


def as_text(table: SubsetTable, width: int = 80) -> str:
    """The table for a terminal, the best of each region and row with ``*``.

    Args:
        table: to be shown.
        width: characters in a line. Regions that do not fit side by side follow each other, as do methods of a region.
    """
    titles = [_title(name) for name in table.modalities]
    left = ["  ".join(titles)]
    for name in table.subsets:
        cells = zip(_bullets(name, table.modalities), titles, strict=True)
        left.append("  ".join(bullet.center(len(title)) for bullet, title in cells))
    left = [" " * len(left[0]), *left, "average".ljust(len(left[0]))]
    rows = [_bold(table, row, "{}*") for row in [*table.means, table.averages]]
    if table.p_values is not None:
        left.append(P_VALUE.ljust(len(left[0])))
        rows.append([_p_cell(value) for value in table.p_values])
    regions: dict[str, list[list[str]]] = {}
    for number, (region, method) in enumerate(table.columns):
        column = [region, method, *(row[number] for row in rows)]
        column = [cell if cell.endswith("*") else f"{cell} " for cell in column]
        regions.setdefault(region, []).append([cell.rjust(max(map(len, column))) for cell in column])
    space = width - len(left[0])
    lines: list[str] = []
    parts = [part for columns in regions.values() for part in _packed([[column] for column in columns], space)]
    for block in _packed(parts, space):
        lines += [*(" ".join(cells).rstrip() for cells in zip(left, *block, strict=True)), ""]
    return "\n".join([*lines, *(line for note in table.notes for line in textwrap.wrap(note, width))]) + "\n"


def _packed(parts: Sequence[list[list[str]]], space: int) -> list[list[list[str]]]:
    """Groups of columns joined to larger ones as long as they fit; a group is never divided."""
    blocks: list[list[list[str]]] = []
    for part in parts:
        if blocks and sum(len(column[0]) + 1 for column in [*blocks[-1], *part]) <= space:
            blocks[-1] = [*blocks[-1], *part]
        else:
            blocks.append(part)
    return blocks


def as_latex(table: SubsetTable) -> str:
    r"""The table in LaTeX (``booktabs``), bullets as ``\bullet`` and ``\circ``."""
    regions = list(dict.fromkeys(region for region, _ in table.columns))
    spans = [sum(name == region for name, _ in table.columns) for region in regions]
    n = len(table.modalities)
    first = " & ".join(
        [*[""] * n, *(rf"\multicolumn{{{s}}}{{c}}{{{_tex(r)}}}" for r, s in zip(regions, spans, strict=True))]
    )
    second = " & ".join(
        [*(_tex(_title(name)) for name in table.modalities), *(_tex(method) for _, method in table.columns)]
    )
    lines = [
        rf"\begin{{tabular}}{{{'c' * n}{''.join('|' + 'r' * span for span in spans)}}}",
        r"\toprule",
        first + r" \\",
        second + r" \\",
        r"\midrule",
    ]
    for subset, row in zip(table.subsets, table.means, strict=True):
        bullets = [r"$\bullet$" if b == AVAILABLE else r"$\circ$" for b in _bullets(subset, table.modalities)]
        lines.append(" & ".join([*bullets, *_bold_latex(table, row)]) + r" \\")
    average = [rf"\multicolumn{{{n}}}{{c}}{{Average}}", *_bold_latex(table, table.averages)]
    lines += [r"\midrule", " & ".join(average) + r" \\"]
    if table.p_values is not None:
        cells = [_p_cell(value).replace("–", "--") for value in table.p_values]
        lines.append(" & ".join([rf"\multicolumn{{{n}}}{{c}}{{{P_VALUE}}}", *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(f"% {note.replace('–', '--')}" for note in table.notes)]) + "\n"


def _bold_latex(table: SubsetTable, row: np.ndarray) -> list[str]:
    return [cell.replace("–", "--") for cell in _bold(table, row, r"\textbf{{{}}}")]


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def as_csv(table: SubsetTable) -> str:
    """The table as CSV: a 0/1 column per modality, the subset's name, the numbers unrounded."""
    tests = [] if table.p_values is None else [table.p_values]
    frame = pd.DataFrame(
        np.vstack([table.means, table.averages, *tests]),
        columns=[f"{region} {method}" for region, method in table.columns],
    )
    frame.insert(0, "subset", [*table.subsets, AVERAGE, *["p_value"] * len(tests)])
    for position, modality in enumerate(table.modalities):
        available = [int(modality in parse_subset(name, table.modalities)) for name in table.subsets]
        frame.insert(position, modality, pd.Series([*available, *[None] * (1 + len(tests))], dtype="Int64"))
    text = io.StringIO()
    frame.to_csv(text, index=False)
    return text.getvalue()


def _title(modality: str) -> str:
    return DISPLAY.get(canonical(modality), modality)


def _bullets(subset: str, modalities: Sequence[str]) -> list[str]:
    available = parse_subset(subset, modalities)
    return [AVAILABLE if name in available else MISSING for name in modalities]


def _cell(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.{DECIMALS}f}"


def _p_cell(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.1e}"
