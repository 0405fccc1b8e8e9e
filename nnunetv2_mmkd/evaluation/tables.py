"""Result tables in the papers' shape: a row per subset with bullets, a block per region, a column per method."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.measure import LESION_METRICS, METRICS, Metric
from nnunetv2_mmkd.evaluation.metrics.postprocessing import POSTPROCESSED
from nnunetv2_mmkd.evaluation.published import load_published
from nnunetv2_mmkd.evaluation.statistics import improvement, subset_means
from nnunetv2_mmkd.evaluation.subsets import AVERAGE, parse_subset, row_order, subset_name
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
        columns: (region, method) of each column of numbers; the method ``"improvement"`` compares the others.
        means: ``[subsets, columns]``; NaN: no value.
        averages: over the subsets, ``[columns]``: the last row.
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
        """Which cells of a row are the best of their region (more than one method needed)."""
        marks = [False] * len(self.columns)
        for region in dict.fromkeys(name for name, _ in self.columns):
            places = [i for i, (name, method) in enumerate(self.columns) if name == region and method != IMPROVEMENT]
            values = row[places]
            if len(places) > 1 and np.isfinite(values).any():
                wanted = np.nanmin(values) if self.lower_is_better else np.nanmax(values)
                for place in places:
                    marks[place] = bool(row[place] == wanted)
        return marks


IMPROVEMENT = "improvement"
"""Column with MetaKD's relative improvement over the best of the other methods, in per cent."""


def metric_of(name: str) -> Metric:
    """What is known of a metric of the long table (``dice``, ``hd95_postprocessed``, ``lesion_dice@brats2023-gli``)."""
    base, _, task = name.partition("@")
    plain = base.removesuffix(POSTPROCESSED)
    known = {**METRICS, **LESION_METRICS}.get(plain) or METRICS.get(plain.removeprefix("legacy_"))
    if known is None:
        return Metric(name, name, unit="", higher_is_better=True, percent=False)
    title = known.title + (" after post-processing" if plain != base else "")
    title = f"{title} ({task})" if task else title
    return Metric(name, title, known.unit, known.higher_is_better, known.percent)


def subset_table(
    table: pd.DataFrame,
    metric: str,
    modalities: Sequence[str],
    *,
    regions: Sequence[str] | None = None,
    published: Sequence[str] = (),
    improvement_of: str | None = None,
) -> SubsetTable:
    """The papers' table of one metric.

    Means are over the cases (NaN left out), averages over the subsets of the column; ratios in per cent.

    Args:
        table: long result table.
        metric: which of its metrics.
        modalities: of the data set, in channel order; columns of bullets and rows follow ``results_templates``.
        regions: columns; default: all, in the order of the table.
        published: names of printed tables to lay beside (``metakd_table1``); their cells are marked as printed.
        improvement_of: add MetaKD's improvement column for this method.

    Raises:
        InputError: no such metric or method, or a printed table of other modalities.
    """
    about = metric_of(metric)
    chosen = table[table["metric"] == metric]
    if chosen.empty:
        raise InputError(f"the results hold no {metric!r}; they hold {', '.join(map(str, table['metric'].unique()))}")
    regions = list(regions or chosen["region"].unique())
    there = set(chosen["subset"])
    order = [name for name in row_order(modalities) if name in there]
    factor = 100.0 if about.percent else 1.0
    columns, blocks, notes = [], [], []
    for region in regions:
        means = factor * subset_means(table, region=region, metric=metric).reindex(order)
        printed = {name: _printed(name, metric, region, modalities) for name in published}
        beside = {f"{key} [printed]": values for found in printed.values() for key, values in found.items()}
        means = means.assign(**{key: values.reindex(order) for key, values in beside.items()})
        averages = means.mean(skipna=False)
        if improvement_of is not None:
            if improvement_of not in means.columns:
                raise InputError(f"no method {improvement_of!r}; there are {', '.join(means.columns)}")
            others = means.columns.drop(improvement_of)
            lower = not about.higher_is_better
            gains = [
                improvement(row[improvement_of], row[others], lower_is_better=lower) for _, row in means.iterrows()
            ]
            overall = improvement(averages[improvement_of], averages[others], lower_is_better=lower)
            means, averages = means.assign(**{IMPROVEMENT: gains}), averages._append(pd.Series({IMPROVEMENT: overall}))
        columns += [(region, str(method)) for method in means.columns]
        blocks.append(np.vstack([means.to_numpy(float), averages.to_numpy(float)]))
    cells = np.hstack(blocks)
    notes.append(
        f"{about.title}, mean over cases" + (" in %" if about.percent else f" in {about.unit}" * bool(about.unit))
    )
    undefined = int(chosen["value"].isna().sum())
    if undefined:
        notes.append(f"{undefined} undefined values are left out")
    if improvement_of is not None:
        notes.append(f"{IMPROVEMENT}: of {improvement_of} over the best other method, in % of its own value")
    if published:
        notes.append("[printed]: numbers of the paper, of its own data and protocol")
    titles = _bullet_order(modalities)
    return SubsetTable(
        metric,
        "%" if about.percent else about.unit,
        titles,
        tuple(order),
        tuple(columns),
        cells[:-1],
        cells[-1],
        not about.higher_is_better,
        tuple(notes),
    )


def _printed(name: str, metric: str, region: str, modalities: Sequence[str]) -> dict[str, pd.Series]:
    """Printed cells of a region: method -> values by subset (per cent or mm, as printed)."""
    frame = load_published(name)
    frame = frame[(frame["metric"] == metric) & (frame["region"] == region) & (frame["subset"] != AVERAGE)]
    found: dict[str, pd.Series] = {}
    for (dataset, setting, method), cells in frame.groupby(["dataset", "setting", "method"], sort=False):
        try:
            index = [subset_name(cell.split("+"), modalities) for cell in cells["subset"]]
        except InputError as error:
            raise InputError(f"printed table {name}: {error}") from error
        key = f"{method}, {dataset}" + (f", {setting}" if setting else "")
        found[key] = pd.Series(cells["value"].to_numpy(float), index=index)
    return found


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
    return "inf" if np.isinf(value) else f"{value:.2f}"


def as_markdown(table: SubsetTable) -> str:
    """The table in Markdown, the best of each region and row in bold."""
    heads = [*map(_title, table.modalities), *(f"{region} {method}" for region, method in table.columns)]
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
    second = " & ".join([*map(_title, table.modalities), *(_tex(method) for _, method in table.columns)])
    lines = [
        rf"\begin{{tabular}}{{{'c' * n}{''.join('|' + 'r' * span for span in spans)}}}",
        r"\toprule",
        first + r" \\",
        second + r" \\",
        r"\midrule",
    ]
    for subset, row in zip(table.subsets, table.means, strict=True):
        bullets = [r"$\bullet$" if b == THERE else r"$\circ$" for b in _bullets(subset, table.modalities)]
        lines.append(" & ".join([*bullets, *_bold(table, row, r"\textbf{{{}}}")]) + r" \\")
    average = [rf"\multicolumn{{{n}}}{{c}}{{Average}}", *_bold(table, table.averages, r"\textbf{{{}}}")]
    lines += [r"\midrule", " & ".join(average) + r" \\", r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(f"% {note}" for note in table.notes)]).replace("–", "--") + "\n"


def _tex(text: str) -> str:
    for character in "\\&%$#_{}":
        text = text.replace(character, r"\textbackslash{}" if character == "\\" else "\\" + character)
    return text


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
