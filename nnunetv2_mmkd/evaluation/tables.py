"""Result tables in the papers' shape: a row per subset with bullets, a block per region, a column per method.

A cell is the mean over the cases whose value is defined. The last row is the average over the rows above it, of all of
them or of none: a column that lacks a row has no average, for it would not compare with that of its neighbours.
Numbers printed in a paper belong to other cases; they stand beside, and neither marks nor improvements heed them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metric_names import metric_of
from nnunetv2_mmkd.evaluation.metrics.measure import Metric
from nnunetv2_mmkd.evaluation.published import load_published
from nnunetv2_mmkd.evaluation.subsets import AVERAGE, parse_subset, row_order, subset_name
from nnunetv2_mmkd.evaluation.summary import improvement
from nnunetv2_mmkd.names import canonical

THERE, ABSENT = "●", "○"
"""Bullets of the papers: the modality is available, or not."""

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
class SubsetTable:
    """A table of means, ready to be written.

    Attributes:
        metric: what it shows.
        unit: of the cells: ``"%"``, ``"mm"`` or ``""``.
        modalities: columns of bullets.
        subsets: rows, in order.
        columns: (region, method) of each column of numbers; the method ``"improvement"`` compares the others, and one
            that ends in ``"[printed]"`` is of a paper.
        means: ``[subsets, columns]``; NaN: no value.
        averages: over the subsets, ``[columns]``: the last row; NaN where a subset has no value.
        lower_is_better: which way the best is.
        notes: lines for below the table.
    """

    metric: str
    unit: str
    modalities: tuple[str, ...]
    subsets: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    means: np.ndarray
    averages: np.ndarray
    lower_is_better: bool
    notes: tuple[str, ...] = ()

    def best(self, row: np.ndarray) -> list[bool]:
        """Which cells of a row are the best of their region, among the methods that were run (more than one needed).

        Cells that look the same in the written table are all best.
        """
        marks = [False] * len(self.columns)
        for region in dict.fromkeys(name for name, _ in self.columns):
            places = [i for i, (name, method) in enumerate(self.columns) if name == region and _was_run(method)]
            values = np.round(row[places], _DECIMALS)
            if len(places) > 1 and np.isfinite(values).any():
                wanted = np.nanmin(values) if self.lower_is_better else np.nanmax(values)
                for place, value in zip(places, values, strict=True):
                    marks[place] = bool(value == wanted)
        return marks


IMPROVEMENT = "improvement"
"""Column with MetaKD's relative improvement over the best of the other methods, in per cent."""

PRINTED = "[printed]"
"""Ending of a column of numbers that a paper prints."""

_DECIMALS = 2
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"} | {
    character: "\\" + character for character in "&%$#_{}"
}


def _was_run(method: str) -> bool:
    return method != IMPROVEMENT and not method.endswith(PRINTED)


def subset_table(
    table: pd.DataFrame,
    metric: str,
    modalities: Sequence[str],
    *,
    regions: Sequence[str] | None = None,
    published: Sequence[str] = (),
    improvement_of: str | None = None,
    notes: Sequence[str] = (),
) -> SubsetTable:
    """The papers' table of one metric.

    Means are over the cases (NaN left out), averages over the rows of the table; ratios in per cent.

    Args:
        table: long result table.
        metric: which of its metrics.
        modalities: of the data set, in channel order; columns of bullets and rows follow ``results_templates``.
        regions: columns; default: all, in the order of the table.
        published: names of printed tables to lay beside (``metakd_table1``); their cells are marked as printed.
        improvement_of: add MetaKD's improvement column for this method, over the others that were run.
        notes: more lines for below the table, e.g. the policy for empty regions.

    Raises:
        InputError: no such metric, region or method, a subset of other modalities, a result given twice, or a printed
            table of other modalities.
    """
    about = metric_of(metric)
    rows, regions = _rows_of(table, metric, regions)
    methods = list(dict.fromkeys(map(str, rows["method"])))
    if improvement_of is not None and improvement_of not in methods:
        raise InputError(f"no method {improvement_of!r} with {metric}; there are {', '.join(methods)}")
    reserved = [name for name in methods if not _was_run(name)]
    if reserved:
        raise InputError(f"a method may not be called {reserved[0]!r}: the table has a column of that name")
    order = _present(rows, modalities)
    beside = {name: {region: _printed(name, metric, region, modalities) for region in regions} for name in published}
    columns: list[tuple[str, str]] = []
    blocks = []
    for region in regions:
        means = _means(rows, region, order, methods) * (100.0 if about.percent else 1.0)
        block = np.vstack([means.to_numpy(float), means.mean(skipna=False).to_numpy(float)])
        names, parts = [*methods], [block]
        if improvement_of is not None:
            place = methods.index(improvement_of)
            gains = [_gain([float(value) for value in row], place, not about.higher_is_better) for row in block]
            names, parts = [*names, IMPROVEMENT], [*parts, np.array(gains)[:, None]]
        for name, values in _side_by_side({name: found[region] for name, found in beside.items()}).items():
            cells = values.reindex(order).to_numpy(float)
            average = values[AVERAGE] if AVERAGE in values and len(order) == 2 ** len(modalities) - 1 else cells.mean()
            names, parts = [*names, name], [*parts, np.append(cells, average)[:, None]]
        columns += [(region, name) for name in names]
        blocks.append(np.hstack(parts))
    cells = np.hstack(blocks)
    described = _notes(rows, about, cells, len(order), len(modalities))
    if improvement_of is not None:
        described.append(
            f"{IMPROVEMENT}: of {improvement_of} over the best other method that was run, in % of the latter's value"
        )
    if published:
        described.append(f"{PRINTED}: numbers of the paper, of its own data and protocol, averaged over the rows here")
        if any(AVERAGE in values for found in beside.values() for each in found.values() for values in each.values()):
            described.append("where the paper prints nothing but an average over all subsets, that stands beside")
        described += [
            f"{name} prints no {about.title} of {', '.join(regions)} that could stand beside"
            for name, found in beside.items()
            if not any(found.values())
        ]
    return SubsetTable(
        metric,
        "%" if about.percent else about.unit,
        _bullet_order(modalities),
        tuple(order),
        tuple(columns),
        cells[:-1],
        cells[-1],
        not about.higher_is_better,
        (*described, *notes),
    )


def _rows_of(table: pd.DataFrame, metric: str, regions: Sequence[str] | None) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a metric and of the regions, and the regions."""
    rows = table[table["metric"] == metric]
    if rows.empty:
        raise InputError(f"the results hold no {metric!r}; they hold {', '.join(map(str, table['metric'].unique()))}")
    there = [str(region) for region in rows["region"].unique()]
    unknown = [region for region in regions or () if region not in there]
    if unknown:
        raise InputError(f"the results hold no {metric} of {unknown[0]!r}; they hold {', '.join(there)}")
    rows = rows[rows["region"].isin(list(regions or there))]
    doubled = rows[rows.duplicated(["method", "case", "subset", "region"])]
    if not doubled.empty:
        row = doubled.iloc[0]
        raise InputError(
            f"{row['method']}, case {row['case']}, {row['subset']}, {row['region']}, {metric} has two values: keep one"
        )
    return rows, list(regions or there)


def _present(rows: pd.DataFrame, modalities: Sequence[str]) -> list[str]:
    """The subsets there are, in the order of the rows of the table."""
    order = row_order(modalities)
    there = [str(name) for name in rows["subset"].unique()]
    for name in there:
        if name not in order:
            expected = subset_name(name.split("+"), modalities)
            raise InputError(f"the results hold the subset {name!r}; expected its name to be {expected!r}")
    return [name for name in order if name in there]


def _means(rows: pd.DataFrame, region: str, subsets: Sequence[str], methods: Sequence[str]) -> pd.DataFrame:
    """Means over the cases: a row per subset, a column per method; an infinite value makes its mean infinite."""
    values = rows[rows["region"] == region].groupby(["subset", "method"], sort=False)["value"]
    return values.mean().unstack("method").reindex(index=list(subsets), columns=list(methods))


def _gain(values: Sequence[float], place: int, lower_is_better: bool) -> float:
    others = [value for i, value in enumerate(values) if i != place]
    return improvement(values[place], others, lower_is_better=lower_is_better)


def _notes(rows: pd.DataFrame, about: Metric, cells: np.ndarray, count: int, modalities: int) -> list[str]:
    cases = rows.groupby(["method", "subset"])["case"].nunique()
    few, many = int(cases.min()), int(cases.max())
    unit = "%" if about.percent else about.unit
    number = f"{many} case{'s' * (many > 1)}" if few == many else f"{few} to {many} cases, not the same in all cells"
    average = f"average over the {count} rows (of {2**modalities - 1} subsets)"
    if np.isnan(cells[:-1]).any():
        average += "; – in a column that lacks one of them"
    undefined = int(rows["value"].isna().sum())
    return [
        f"{about.title}, mean over {number}" + f", in {unit}" * bool(unit),
        average,
        *[f"{undefined} undefined value{'s are' if undefined > 1 else ' is'} left out"] * bool(undefined),
    ]


def _printed(name: str, metric: str, region: str, modalities: Sequence[str]) -> dict[str, pd.Series]:
    """Printed cells of a region: method -> values by subset (per cent or mm, as printed).

    Averages are left out, unless nothing else is printed of a method: then its average stands alone.
    """
    frame = load_published(name)
    frame = frame[(frame["metric"] == metric) & (frame["region"] == region)]
    found: dict[str, pd.Series] = {}
    for (dataset, setting, method), cells in frame.groupby(["dataset", "setting", "method"], sort=False):
        rows = cells[cells["subset"] != AVERAGE]
        try:
            index = [subset_name(cell.split("+"), modalities) for cell in rows["subset"]] or [AVERAGE]
        except InputError as error:
            raise InputError(f"printed table {name}: {error}") from error
        key = f"{method}, {dataset}" + (f", {setting}" if setting else "")
        found[key] = pd.Series((cells if rows.empty else rows)["value"].to_numpy(float), index=index)
    return found


def _side_by_side(tables: Mapping[str, Mapping[str, pd.Series]]) -> dict[str, pd.Series]:
    """Columns of several printed tables, the tables named where two have a column of one name."""
    titles = [title for columns in tables.values() for title in columns]
    return {
        f"{title}, {table} {PRINTED}" if titles.count(title) > 1 else f"{title} {PRINTED}": values
        for table, columns in tables.items()
        for title, values in columns.items()
    }


def _bullet_order(modalities: Sequence[str]) -> tuple[str, ...]:
    """Columns of bullets: as the single modalities follow one another in the rows."""
    return tuple(name for name in row_order(modalities) if "+" not in name)


def _title(modality: str) -> str:
    return DISPLAY.get(canonical(modality), modality)


def _bullets(subset: str, modalities: Sequence[str]) -> list[str]:
    there = parse_subset(subset, modalities)
    return [THERE if name in there else ABSENT for name in modalities]


def _cell(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.{_DECIMALS}f}"


def as_markdown(table: SubsetTable) -> str:
    """The table in Markdown, the best of each region and row in bold."""
    heads = [*map(_title, table.modalities), *(f"{region} {method}" for region, method in table.columns)]
    heads = [head.replace("|", r"\|") for head in heads]
    lines = [_markdown_row(heads), _markdown_row([":-:"] * len(table.modalities) + ["--:"] * len(table.columns))]
    for subset, row in zip(table.subsets, table.means, strict=True):
        lines.append(_markdown_row([*_bullets(subset, table.modalities), *_bold(table, row, "**{}**")]))
    last = ["Average", *[""] * (len(table.modalities) - 1)]
    lines.append(_markdown_row([*last, *_bold(table, table.averages, "**{}**")]))
    return "\n".join([*lines, "", *(f"{note}.  " for note in table.notes)]) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _bold(table: SubsetTable, row: np.ndarray, style: str) -> list[str]:
    return [
        style.format(_cell(value)) if best else _cell(value) for value, best in zip(row, table.best(row), strict=True)
    ]


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
        bullets = [r"$\bullet$" if b == THERE else r"$\circ$" for b in _bullets(subset, table.modalities)]
        lines.append(" & ".join([*bullets, *_bold_latex(table, row)]) + r" \\")
    average = [rf"\multicolumn{{{n}}}{{c}}{{Average}}", *_bold_latex(table, table.averages)]
    lines += [r"\midrule", " & ".join(average) + r" \\", r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(f"% {note.replace('–', '--')}" for note in table.notes)]) + "\n"


def _bold_latex(table: SubsetTable, row: np.ndarray) -> list[str]:
    return [cell.replace("–", "--") for cell in _bold(table, row, r"\textbf{{{}}}")]


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def as_csv(table: SubsetTable) -> str:
    """The table as CSV: a 0/1 column per modality, the subset's name, the numbers unrounded."""
    frame = pd.DataFrame(
        np.vstack([table.means, table.averages]), columns=[f"{region} {method}" for region, method in table.columns]
    )
    frame.insert(0, "subset", [*table.subsets, AVERAGE])
    for place, modality in enumerate(table.modalities):
        there = [int(modality in parse_subset(name, table.modalities)) for name in table.subsets]
        frame.insert(place, modality, pd.Series([*there, None], dtype="Int64"))
    text = io.StringIO()
    frame.to_csv(text, index=False)
    return text.getvalue()
