"""The page of ``mmkd evaluate``: how methods do with every subset of the modalities, and on every case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunetv2_mmkd.evaluation.figures import FIGURES
from nnunetv2_mmkd.evaluation.figures.style import shown
from nnunetv2_mmkd.evaluation.grid import AVAILABLE, MISSING
from nnunetv2_mmkd.evaluation.metrics.registry import metric_spec
from nnunetv2_mmkd.evaluation.metrics.spec import MetricSpec
from nnunetv2_mmkd.evaluation.page.case_view import CaseView
from nnunetv2_mmkd.evaluation.page.content import Cell, Figure, Page, Row, Table, number
from nnunetv2_mmkd.evaluation.page.pictures import figure_image
from nnunetv2_mmkd.evaluation.page.prediction import missing_text
from nnunetv2_mmkd.evaluation.report import file_stem, table_metrics
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.subsets import parse_subset
from nnunetv2_mmkd.evaluation.summary import subset_means
from nnunetv2_mmkd.evaluation.tables import SubsetTable, subset_table

MEAN = "mean over all subsets"
"""A view of the table of cases."""

_METRICS_OF_CASES = 2  # more columns than these nobody can look through
_FIGURE_TITLES = {
    "heat_map": "by subset and region",
    "boxplots": "of the cases, by subset",
    "boxplots_by_count": "of the cases, by how many images are there",
    "change": "lost against all images",
    "contributions": "contributed by each image (Shapley values)",
}


@dataclass(frozen=True)
class Evaluated:
    """An evaluation, as far as its page shows it.

    Attributes:
        name: of the data set.
        table: results, with their modalities.
        regions: names.
        predictions: name in the viewer -> method in the table, and subset.
        missing: case -> modality -> why it is missing.
        views: of the cases, in order.
        folder: where the figures are.
        notes: how it was made.
    """

    name: str
    table: ResultTable
    regions: Sequence[str]
    predictions: Mapping[str, tuple[str, str]]
    missing: Mapping[str, Mapping[str, str]]
    views: Sequence[CaseView]
    folder: Path
    notes: Sequence[str] = ()


def subset_label(subset: str, modalities: Sequence[str]) -> str:
    """A subset in words: ``"all images"``, ``"without T1ce"``, ``"FLAIR alone"``."""
    there = parse_subset(subset, modalities)
    lacking = [shown(name) for name in modalities if name not in there]
    if not lacking:
        return "all images"
    return f"{shown(there[0])} alone" if len(there) == 1 else f"without {' and '.join(lacking)}"


def evaluation_page(about: Evaluated) -> Page:
    """The page of an evaluation."""
    table, metrics = about.table, table_metrics(about.table)
    incomplete = sum(bool(each) for each in about.missing.values())
    facts = [
        ("Cases", f"{len(table.cases)}, {incomplete or 'none'} with images missing"),
        ("Images", ", ".join(map(shown, table.modalities))),
        ("Subsets of them", f"{len(table.subsets)} of {2 ** len(table.modalities) - 1}"),
        ("Method" + "s" * (len(table.methods) > 1), ", ".join(table.methods)),
    ]
    problems = [f"{view.case}: {problem}" for view in about.views for problem in view.problems]
    return Page(
        title=f"Evaluation on {about.name}",
        lead="How good the segmentations are with all images, and with every subset of them.",
        facts=tuple(facts),
        warnings=tuple(problems),
        tables=(
            _in_short(table, metrics[0]),
            *(_by_subset(subset_table(table, metric)) for metric in metrics),
            _cases(about, metrics[:_METRICS_OF_CASES]),
        ),
        figures=tuple(_figures(table, metrics, about.folder)),
        cases=tuple(
            {**view.viewer, "numbers": _numbers(view, about, metrics), "details": _details(view, about)}
            for view in about.views
            if view.viewer
        ),
        notes=(
            *about.notes,
            "Beside this page: every value of every subset in results.csv, tables for a paper in tables/, figures and "
            "their numbers in figures/.",
        ),
    )


def _score(value: float, spec: MetricSpec) -> Cell:
    return number(value * spec.scale)


def _in_short(table: ResultTable, metric: str) -> Table:
    """A row for each method and region."""
    spec = metric_spec(metric)
    full = "+".join(table.modalities)
    rows: list[Row] = []
    for region in table.regions:
        means = subset_means(table, region=region, metric=metric)
        best_of = {name: means[name].mean(skipna=False) for name in means}
        best = max(best_of.values()) if spec.higher_is_better else min(best_of.values())
        for method, values in means.items():
            known = values.dropna()
            worst = (known.idxmin() if spec.higher_is_better else known.idxmax()) if len(known) else None
            mean = _score(best_of[method], spec)
            marked = len(best_of) > 1 and best_of[method] == best
            rows.append(
                (
                    Cell(region),
                    Cell(str(method)),
                    _score(float(values.get(full, np.nan)), spec),
                    Cell(mean.text, mean.sort, best=marked),
                    _score(float(known[worst]) if worst is not None else np.nan, spec),
                    Cell(subset_label(str(worst), table.modalities) if worst is not None else "–"),
                )
            )
    return Table(
        "In short",
        ("Region", "Method", "With all images", "Mean over the subsets", "Weakest subset", "Which that is"),
        {"all": tuple(rows)},
        lead=f"{spec.label()}, mean over the cases; {'more' if spec.higher_is_better else 'less'} is better.",
        numbers=4,
    )


def _by_subset(made: SubsetTable) -> Table:
    """The papers' table."""
    spec = metric_spec(made.metric)
    rows = [
        (*_dots(subset, made.modalities), *_marked(made, row))
        for subset, row in zip(made.subsets, made.means, strict=True)
    ]
    groups = {region: sum(name == region for name, _ in made.columns) for region, _ in made.columns}
    several = len({method for _, method in made.columns}) > 1
    return Table(
        f"{spec.title} of each subset",
        (*map(shown, made.modalities), *(method if several else region for region, method in made.columns)),
        {"all": tuple(rows)},
        (("", len(made.modalities)), *groups.items()) if several else (),
        last=(Cell("Average"), *[Cell("")] * (len(made.modalities) - 1), *_marked(made, made.averages)),
        lead=f"{AVAILABLE} there, {MISSING} missing. A row says what to expect where just these images are there.",
        notes=tuple(made.notes),
        numbers=len(made.columns),
    )


def _dots(subset: str, modalities: Sequence[str]) -> list[Cell]:
    there = parse_subset(subset, modalities)
    return [Cell(AVAILABLE, 1.0, "there") if name in there else Cell(MISSING, 0.0, "missing") for name in modalities]


def _marked(made: SubsetTable, row: np.ndarray) -> list[Cell]:
    cells = [number(float(value)) for value in row]
    return [Cell(cell.text, cell.sort, best=best) for cell, best in zip(cells, made.best(row), strict=True)]


def _cases(about: Evaluated, metrics: Sequence[str]) -> Table:
    table, regions = about.table, about.regions
    views = {view.case: view for view in about.views}
    numbers = {view.case: index for index, view in enumerate(view for view in about.views if view.viewer)}
    several = len(table.methods) > 1
    values = _values(table.rows)
    means = table.rows.groupby(["method", "case", "region", "metric"], sort=False)["value"].mean().to_dict()
    names = {pair: name for name, pair in about.predictions.items()}
    unit = next((view.unit for view in about.views if view.volumes), "ml")

    def row(method: str, case: str, subset: str | None) -> Row:
        view = views.get(case)
        volumes = view.volumes if view else {}
        mine = volumes.get(names.get((method, subset or ""), "\0"), {})
        return (
            Cell(case, case=numbers.get(case)),
            *([Cell(method)] if several else []),
            Cell(missing_text(about.missing.get(case, {})) or "nothing"),
            *(
                _score(
                    means.get((method, case, region, metric), np.nan)
                    if subset is None
                    else values.get((method, case, subset, region, metric), np.nan),
                    metric_spec(metric),
                )
                for metric in metrics
                for region in regions
            ),
            *(number(volumes.get("", {}).get(region, np.nan)) for region in regions),
            *(number(mine.get(region, np.nan)) for region in regions),
        )

    scored = dict.fromkeys(zip(table.rows["method"], table.rows["case"], table.rows["subset"], strict=True))
    shown_subsets = list(dict.fromkeys(subset for _, subset in about.predictions.values()))
    rows = {
        subset_label(subset, table.modalities): tuple(row(*each) for each in scored if each[2] == subset)
        for subset in shown_subsets
    }
    rows[MEAN] = tuple(row(method, case, None) for method, case in dict.fromkeys((m, c) for m, c, _ in scored))
    count = len(regions)
    return Table(
        "Cases",
        ("Case", *(["Method"] if several else []), "Missing in the data set", *(list(regions) * (len(metrics) + 2))),
        rows,
        (
            ("", 2 + several),
            *((metric_spec(metric).label(), count) for metric in metrics),
            (f"True volume ({unit})", count),
            (f"Segmented volume ({unit})", count),
        ),
        lead="Choose what the segmentations were made from; follow a case's name to look at it.",
        numbers=count * (len(metrics) + 2),
        filtered=True,
    )


def _values(rows: pd.DataFrame) -> dict[tuple[str, ...], float]:
    columns = [rows[name] for name in ("method", "case", "subset", "region", "metric")]
    return dict(zip(zip(*columns, strict=True), rows["value"], strict=True))


def _figures(table: ResultTable, metrics: Sequence[str], folder: Path) -> list[Figure]:
    drawn = [
        (
            f"{metric_spec(metric).title} {_FIGURE_TITLES.get(figure.name, figure.name)}",
            f"{file_stem(metric)}_{figure.name}",
        )
        for metric in metrics
        for figure in FIGURES
        if figure.applies(table.select(metric=metric))
    ]
    return [
        Figure(title, f"{title}. Its numbers are in figures/{stem}.csv", figure_image(folder / f"{stem}.png"))
        for title, stem in drawn
        if (folder / f"{stem}.png").is_file()
    ]


def _numbers(view: CaseView, about: Evaluated, metrics: Sequence[str]) -> dict[str, Any]:
    """The tables beside the viewer, one for each prediction."""
    of_case = _values(about.table.rows[about.table.rows["case"] == view.case])
    specs = [metric_spec(metric) for metric in metrics]

    def line(name: str, region: str) -> list[str]:
        method, subset = about.predictions[name]
        scores = [
            _score(of_case.get((method, view.case, subset, region, spec.name), np.nan), spec).text for spec in specs
        ]
        volumes = [number(view.volumes.get(each, {}).get(region, np.nan)).text for each in ("", name)]
        return [region, *scores, *volumes]

    columns = ["Region", *(spec.label() for spec in specs), f"Truth ({view.unit})", f"Segmented ({view.unit})"]
    return {
        name: {"columns": columns, "rows": [line(name, region) for region in about.regions]}
        for name in view.volumes
        if name in about.predictions
    }


def _details(view: CaseView, about: Evaluated) -> list[str]:
    missing = missing_text(about.missing.get(view.case, {}))
    return [f"Missing in the data set: {missing or 'nothing'}.", *view.problems]
