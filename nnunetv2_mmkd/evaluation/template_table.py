"""A paper's own table with our numbers in it: rows and columns as printed, the published numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nnunetv2_mmkd.evaluation.grid import Grid, Row, best_of, bullets, modality_title
from nnunetv2_mmkd.evaluation.metrics.registry import metric_spec
from nnunetv2_mmkd.evaluation.published import PUBLISHED_MARK
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.statistics import subset_t_test
from nnunetv2_mmkd.evaluation.subsets import AVERAGE, all_subset_names, parse_subset, subset_name
from nnunetv2_mmkd.evaluation.summary import improvement, subset_means
from nnunetv2_mmkd.evaluation.templates import IMPROVEMENT, OUR_METRICS, P_VALUE, Template

LEFT_OUT = frozenset({"average", "implausible", "improvement", "p_value", "lost"})
"""Flags of published cells that do not add up: they are not shown, and the notes say which. Cells that look like copies
("duplicate") are left out where their column's average does not agree."""

MOST_NAMED = 3
"""Cells that one note names."""


class _Line(NamedTuple):
    """A method in a table.

    Attributes:
        setting: of its training; empty: there is but one.
        method: as printed, with its mark; or ours.
        ours: whether it was run.
    """

    setting: str
    method: str
    ours: bool


@dataclass(frozen=True)
class _Content:
    """What stands in a table: lines, subsets in the paper's order (the average last), cells ``line, subset, region,
    metric``, p-values ``line, region``, notes, and which cells are the best of ours."""

    lines: list[_Line]
    subsets: list[str]
    cells: dict[tuple[_Line, str, str, str], float]
    p_values: dict[tuple[_Line, str], str]
    notes: list[str]
    best: set[tuple[_Line, str, str, str]] = field(default_factory=set)

    @property
    def absent(self) -> bool:
        """Whether a published line lacks a cell that another one has."""
        places = {key[1:] for key in self.cells if not key[0].ours}
        return any((line, *place) not in self.cells for line in self.lines if not line.ours for place in places)


def template_table(
    table: ResultTable, template: Template, improvement_of: str | None = None, notes: Sequence[str] = ()
) -> Grid:
    """Published numbers and ours in the shape of a paper's table.

    Our averages are, as the paper's, over the means of all subsets. Ours over the regions are shown in every table,
    also where the paper has none.

    Args:
        table: results, with their modalities.
        template: that :func:`~.templates.check_template` allows.
        improvement_of: our method that the paper's test and improvements are about; None: the only one whose name
            begins with that of the paper's own, else the first.
        notes: more lines for below the table.

    Raises:
        InputError: the table lacks a metric or region of the template.
    """
    if template.subset:
        table = table.select(subsets=[template.subset])
    content = _published(template, table.modalities)
    _add_ours(content, table, template)
    own = improvement_of or _own_method(template, table.methods)
    if template.layout == "down":
        _compare(content, template, own)
    first, counts = template.published.iloc[0], table.rows.groupby(["method", "subset"])["case"].nunique()
    count = len(template.subsets(table.modalities))
    of = f"tested with {template.subset}" if template.subset else f"averages are of the {count} subsets' means"
    content.notes[:0] = [
        f"{first['paper']}, {first['table']}, {first['dataset']}: rows and columns in the paper's order; {of}",
        f"{PUBLISHED_MARK}: numbers of the paper, of its own data and protocol; the others are of this run, means over "
        + " to ".join(dict.fromkeys((str(counts.min()), str(counts.max()))))
        + " cases",
    ]
    if AVERAGE not in set(template.scores["region"]):
        content.notes.append("averages over the regions are of this run alone: the paper prints none")
    if content.absent:
        content.notes.append(f"{PUBLISHED_MARK} cells that are – or absent: left out, not printed, or lost in the scan")
    if template.p_value:
        average = template.p_value == "with_average"
        content.notes.append(
            f"p-value: the paper's own test, not one of ours: one-tailed paired t-test of {template.method} (in this "
            f"run: {own}) against the column, over the "
            f"{count} subsets' means{' and, as one more pair, their average' * average}. The means are of the same "
            "cases, and the test takes them for independent"
            + ", and an average for an observation of its own" * average
            + ": p is far too small, and says nothing about other patients. `mmkd compare` has a test over patients"
        )
    layout = {"down": _down, "across": _across, "averages": _averages}[template.layout]
    return layout(content, template, (*content.notes, *notes))


def _published(template: Template, modalities: Sequence[str]) -> _Content:
    """The paper's cells, without those that do not add up."""
    frame = template.published
    places = frame[["setting", "method", "region", "metric"]].apply(tuple, axis=1)
    bad = frame["flag"].map(lambda flag: bool(LEFT_OUT & set(flag.split(";"))))
    bad |= (frame["flag"] == "duplicate") & places.isin(places[frame["flag"] == "average"])
    average = frame["subset"] == AVERAGE
    scores = ~frame["metric"].isin((P_VALUE, IMPROVEMENT))
    hollow = ~bad & scores & average & places.isin(places[bad & scores & ~average])
    notes = _told("left out, does not add up", frame[bad]) + _told("in doubt", frame[~bad & (frame["flag"] != "")])
    notes += _told("left out", frame[hollow].assign(note="an average over a cell that is left out"))
    names = {
        name: name if name == AVERAGE else subset_name(name.split("+"), modalities) for name in frame["subset"].unique()
    }
    content = _Content([], [*(name for name in names.values() if name != AVERAGE), AVERAGE], {}, {}, notes)
    for row in frame[~bad & ~hollow].itertuples():
        line = _Line(row.setting, f"{row.method} {PUBLISHED_MARK}", False)
        if row.metric == P_VALUE:
            content.p_values[line, row.region] = row.printed
            continue
        if row.metric == IMPROVEMENT:
            line = _Line(row.setting, f"Imprv {PUBLISHED_MARK}", False)
        metric = row.metric if row.metric != IMPROVEMENT else template.scores["metric"].iloc[0]
        content.cells[line, names[row.subset], row.region, metric] = row.value
    content.lines.extend(dict.fromkeys(key[0] for key in content.cells))
    return content


def _told(what: str, rows: pd.DataFrame) -> list[str]:
    """A note per reason."""
    found = []
    for note, same in rows.groupby("note", sort=False):
        named = [
            " ".join(filter(None, (row.method, row.setting, row.region, row.subset, row.metric)))
            for row in same.head(MOST_NAMED).itertuples()
        ]
        more = f" and {len(same) - MOST_NAMED} more" if len(same) > MOST_NAMED else ""
        found.append(f"{what}: {', '.join(named)}{more} ({note})")
    return found


def _add_ours(content: _Content, table: ResultTable, template: Template) -> None:
    """Our means, their averages over the subsets, and of all of these the averages over the regions."""
    setting = "this run" if any(line.setting for line in content.lines) else ""
    content.lines.extend(_Line(setting, method, True) for method in table.methods)
    ours = [line for line in content.lines if line.ours]
    for metric in template.scores["metric"].unique():
        name = OUR_METRICS.get(metric, metric)
        for region in template.regions:
            means = subset_means(table, region=region, metric=name).reindex(columns=table.methods)
            means = means.reindex(all_subset_names(table.modalities)) * metric_spec(name).scale
            for line in ours:
                values = {**means[line.method], AVERAGE: means[line.method].mean(skipna=False)}
                content.cells.update({(line, subset, region, metric): float(values[subset]) for subset in values})
        for line, subset in product(ours, content.subsets):
            by_region = [content.cells[line, subset, region, metric] for region in template.regions]
            content.cells[line, subset, AVERAGE, metric] = float(np.mean(by_region))
        lower = not metric_spec(name).higher_is_better
        for place in {key[1:] for key in content.cells if key[0].ours and key[3] == metric}:
            cells = [(line, *place) for line in ours]
            marks = best_of([content.cells[cell] for cell in cells], lower)
            content.best.update(cell for cell, best in zip(cells, marks, strict=True) if best)


def _own_method(template: Template, methods: Sequence[str]) -> str:
    found = [name for name in methods if template.method and name.startswith(template.method)]
    return found[0] if len(found) == 1 else methods[0]


def _compare(content: _Content, template: Template, own: str) -> None:
    """The paper's improvements and p-values, of our methods."""
    ours = {line.method: line for line in content.lines if line.ours}
    if len(ours) < 2:
        return
    (metric,) = template.scores["metric"].unique()
    lower = not metric_spec(OUR_METRICS.get(metric, metric)).higher_is_better
    others = [line for name, line in ours.items() if name != own]
    gains = _Line("", f"Imprv of {own}", False)
    for region in template.regions:
        means = {
            line: {subset: content.cells[line, subset, region, metric] for subset in content.subsets}
            for line in ours.values()
        }
        if any(line.method.startswith("Imprv") for line in content.lines if not line.ours):
            for subset in content.subsets:
                rivals = [means[line][subset] for line in others]
                content.cells[gains, subset, region, metric] = improvement(
                    means[ours[own]][subset], rivals, lower_is_better=lower
                )
        for line in others if template.p_value else ():
            content.p_values[line, region] = _p_value(means[ours[own]], means[line], template, lower)
    if (gains, AVERAGE, template.regions[0], metric) in content.cells:
        content.lines.append(gains)


def _p_value(own: Mapping[str, float], other: Mapping[str, float], template: Template, lower: bool) -> str:
    first, second = ({name: value for name, value in of.items() if name != AVERAGE} for of in (own, other))
    if sum(np.isfinite(first[name] - second[name]) for name in first) < 2:
        return "–"
    test = subset_t_test(
        first, second, average_row=template.p_value == "with_average", alternative="less" if lower else "greater"
    )
    return "–" if np.isnan(test.p_value) else f"{test.p_value:.1e}"


def _row(content: _Content, left: Any, key: tuple[str, ...], places: Sequence[tuple[Any, ...]], rule: bool) -> Row:
    """A row of the cells in some places."""
    values = tuple(content.cells.get(place, float("nan")) for place in places)
    return Row(left, key, values, tuple(place in content.best for place in places), rule)


def _down(content: _Content, template: Template, notes: tuple[str, ...]) -> Grid:
    """Rows: subsets, average, p-value; columns: method by region."""
    (metric,) = template.scores["metric"].unique()
    shown = {(key[0], key[2]) for key in content.cells}
    columns = [
        (line, region) for region in (*template.regions, AVERAGE) for line in content.lines if (line, region) in shown
    ]
    rows = []
    for subset in content.subsets:
        places = [(line, subset, region, metric) for line, region in columns]
        if subset == AVERAGE:
            rows.append(_row(content, "Average", (*[""] * len(template.modalities), AVERAGE), places, True))
            continue
        available = parse_subset(subset, template.modalities)
        key = (*(str(int(name in available)) for name in template.modalities), subset)
        rows.append(_row(content, bullets(subset, template.modalities), key, places, False))
    if template.p_value:
        p_values = tuple(content.p_values.get((line, region), "–") for line, region in columns)
        rows.append(Row("p-value", (*[""] * len(template.modalities), P_VALUE), p_values, (False,) * len(columns)))
    heads = (tuple(_region(name) for _, name in columns), tuple(line.method for line, _ in columns))
    titles = tuple(map(modality_title, template.modalities))
    return Grid(titles, (*template.modalities, "subset"), heads, tuple(rows), notes)


def _across(content: _Content, template: Template, notes: tuple[str, ...]) -> Grid:
    """Rows: methods by region; columns: subsets and their average."""
    (metric,) = template.scores["metric"].unique()
    rows = []
    for region in (*template.regions, AVERAGE):
        lines = [line for line in content.lines if any(key[0] == line and key[2] == region for key in content.cells)]
        for number, line in enumerate(lines):
            left = (_region(region), *_left(content, line))
            places = [(line, subset, region, metric) for subset in content.subsets]
            rows.append(_row(content, left, left, places, not number and region != template.regions[0]))
    shown = [bullets(subset, template.modalities) for subset in content.subsets[:-1]]
    heads = [(*each, "") for each in zip(*shown, strict=True)]
    titles = ("region", *_titles(content))
    names = tuple(map(modality_title, template.modalities))
    note = f"bullets from top to bottom, in a line from left to right: {', '.join(names)}"
    last = (*[""] * len(shown), "Avg.")
    return Grid(titles, titles, (*heads, last), tuple(rows), (*notes, note), names, tuple(content.subsets), False)


def _averages(content: _Content, template: Template, notes: tuple[str, ...]) -> Grid:
    """Rows: methods; columns: regions by metric, averages over the subsets or the only one."""
    subset = content.subsets[0] if template.subset else AVERAGE
    regions = (*template.regions, AVERAGE)
    columns = [(subset, region, metric) for metric in template.scores["metric"].unique() for region in regions]
    rows = []
    for number, line in enumerate(content.lines):
        left, places = _left(content, line), [(line, *column) for column in columns]
        new = number > 0 and line.setting != content.lines[number - 1].setting
        rows.append(_row(content, left, left, places, new))
    labels = [metric_spec(OUR_METRICS.get(metric, metric)).label() for _, _, metric in columns]
    heads = (tuple(labels), tuple("Avg." if region == AVERAGE else region for _, region, _ in columns))
    return Grid(_titles(content), _titles(content), heads, tuple(rows), notes)


def _region(name: str) -> str:
    return "Avg. over regions" if name == AVERAGE else name


def _left(content: _Content, line: _Line) -> tuple[str, ...]:
    return (line.setting, line.method) if any(each.setting for each in content.lines) else (line.method,)


def _titles(content: _Content) -> tuple[str, ...]:
    return ("training", "method") if any(line.setting for line in content.lines) else ("method",)
