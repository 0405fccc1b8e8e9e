"""The report of a result table: summary, tables in the papers' shape, contributions of the modalities, figures.

This is the last step of ``mmkd evaluate`` (score -> :class:`ResultTable` -> report), and of sweep and demo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.figures import FIGURES
from nnunetv2_mmkd.evaluation.figures.overlay import overlays
from nnunetv2_mmkd.evaluation.figures.style import plain_style
from nnunetv2_mmkd.evaluation.metrics.registry import metric_spec
from nnunetv2_mmkd.evaluation.published import check_published
from nnunetv2_mmkd.evaluation.ranking import ranking, ranking_metrics
from nnunetv2_mmkd.evaluation.regions import evaluated_regions, label_values
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.shapley import shapley_by_region
from nnunetv2_mmkd.evaluation.subsets import all_subset_names, row_order
from nnunetv2_mmkd.evaluation.summary import summarise
from nnunetv2_mmkd.evaluation.table_files import write_table
from nnunetv2_mmkd.evaluation.table_writers import as_csv, as_latex, as_markdown, as_text
from nnunetv2_mmkd.evaluation.tables import subset_table
from nnunetv2_mmkd.evaluation.template_table import template_table
from nnunetv2_mmkd.evaluation.templates import find_template
from nnunetv2_mmkd.files import write_text
from nnunetv2_mmkd.names import modality_names

RESULTS = "results.csv"
"""The long table, in the output folder."""

WRITERS = {"txt": as_text, "md": as_markdown, "tex": as_latex, "csv": as_csv}
"""File ending -> how a table in the papers' shape is written."""


def check_report(
    methods: Sequence[str], modalities: Sequence[str], published: Sequence[str], improvement_of: str | None
) -> None:
    """Refuse, before anything is computed, what :func:`write_report` would refuse in the end.

    Raises:
        InputError: an unknown method, or a published table that is unknown or of other modalities.
    """
    if improvement_of is not None and improvement_of not in methods:
        raise InputError(f"--improvement {improvement_of}: no such method; there are {', '.join(methods)}")
    for name in published:
        check_published(name, modalities)


def write_report(
    table: ResultTable,
    output: Path,
    *,
    published: Sequence[str] = (),
    templates: Sequence[str] = (),
    improvement_of: str | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write ``results.csv``, ``summary.csv``, ``shapley.csv``, ``tables/`` and ``figures/``.

    Args:
        table: results, with their modalities.
        output: folder.
        published: published tables to show alongside.
        templates: the papers' tables to make as well, see :mod:`.templates`.
        improvement_of: method of MetaKD's improvement column.
        notes: lines for below the tables, e.g. the policy for empty regions.

    Raises:
        InputError: an unknown published table or method, or a file that cannot be written.
    """
    metrics = table_metrics(table)
    table.write(output / RESULTS)
    write_table(summarise(table), output / "summary.csv")
    for metric in metrics:
        made = subset_table(table, metric, published=published, improvement_of=improvement_of, notes=notes)
        for ending, writer in WRITERS.items():
            write_text(output / "tables" / f"{file_stem(metric)}.{ending}", writer(made))
    for name in templates:
        shaped = template_table(table, find_template(name), improvement_of, notes)
        for ending, writer in WRITERS.items():
            write_text(output / "tables" / f"{name}.{ending}", writer(shaped))
    ranked = ranking(table)
    if ranked is not None:
        write_table(ranked, output / "tables" / "ranking.csv")
        by = ", ".join(metric_spec(name).title for name in ranking_metrics(table))
        text = f"Mean rank of a case, subset, region and metric ({by})\n\n{ranked.to_string(index=False)}\n"
        write_text(output / "tables" / "ranking.txt", text)
    complete = complete_methods(table)
    if complete:
        write_table(_contributions(table.select(methods=complete), metrics), output / "shapley.csv")
    for metric in metrics:
        for figure in FIGURES:
            if figure.applies(table.select(metric=metric)):
                with plain_style():
                    figure.draw(table, output / "figures" / f"{file_stem(metric)}_{figure.name}.png", metric=metric)


def table_metrics(table: ResultTable) -> list[str]:
    """The metrics of a table that get tables and figures (not the counts of lesions)."""
    return [name for name in table.metrics if not name.startswith("n_")]


def complete_methods(table: ResultTable) -> list[str]:
    """The methods that have all subsets, with a value somewhere; a specialist has one."""
    subsets = set(all_subset_names(table.modalities))
    defined = table.rows.dropna(subset=["value"])
    return [
        str(method)
        for method, rows in defined.groupby("method", sort=False)
        if all(set(part["subset"]) >= subsets for _, part in rows.groupby(["region", "metric"]))
    ]


def _contributions(table: ResultTable, metrics: Sequence[str]) -> pd.DataFrame:
    """Shapley values of all scores, a row per modality."""
    return pd.DataFrame(
        [
            {"method": one.method, "region": one.region, "metric": one.metric, "modality": name, "value": value}
            for metric in metrics
            if metric_spec(metric).is_score
            for one in shapley_by_region(table, metric=metric)
            for name, value in one.values.items()
        ]
    )


def file_stem(metric: str) -> str:
    return metric.replace("@", "_")


def median_case(table: ResultTable, metric: str = "dice") -> str:
    """The case whose mean over methods, subsets and regions is in the middle: neither the best nor the worst."""
    rows = table.select(metric=metric if metric in table.metrics else table.metrics[0]).rows
    means = rows.groupby("case")["value"].mean().sort_values(kind="stable")
    return str(means.index[(len(means) - 1) // 2])


def overlay_subsets(available: Sequence[str], modalities: Sequence[str]) -> list[str]:
    """Columns of an overlay: the full set and those that lack one modality; without any, the first five."""
    least = len(modalities) - 2
    chosen = [name for name in reversed(row_order(modalities)) if name in available and name.count("+") >= least]
    return chosen or list(available)[:5]


def draw_overlay(
    case: str,
    image: Path,
    reference: str,
    labels: Path,
    folders: Mapping[str, Path],
    subsets: Sequence[str],
    dataset_json: Mapping[str, Any],
    path: Path,
    brightness: float = 1.0,
) -> None:
    """Draw a case under some subsets, a row per method.

    Args:
        case: its name.
        image: image under the overlays.
        reference: its modality.
        labels: folder of the truth.
        folders: method -> folder with ``<subset>/<case><file ending>``.
        subsets: columns.
        dataset_json: of the data set.
        path: PNG to write.
        brightness: of the image.

    Raises:
        InputError: the case has no prediction with one of the subsets, or files cannot be read.
    """
    name = case + str(dataset_json["file_ending"])
    files = {
        method: {subset: folder / subset / name for subset in subsets if (folder / subset / name).is_file()}
        for method, folder in folders.items()
    }
    if not any(files.values()):
        raise InputError(f"case {case} has no prediction to draw; name another one with --overlay")
    with plain_style():
        overlays(
            image,
            labels / name,
            files,
            evaluated_regions(dataset_json),
            path,
            reference_name=reference,
            case=case,
            modalities=modality_names(dataset_json),
            brightness=brightness,
            ignored=label_values(dataset_json)[1],
        )
