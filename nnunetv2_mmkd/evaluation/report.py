"""Everything that is written about a long result table: summary, tables in the papers' shape, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metric_names import metric_of
from nnunetv2_mmkd.evaluation.published import load_published
from nnunetv2_mmkd.evaluation.report_figures import draw_figures
from nnunetv2_mmkd.evaluation.shapley import shapley_by_region
from nnunetv2_mmkd.evaluation.subsets import AVERAGE, all_subset_names, parse_subset
from nnunetv2_mmkd.evaluation.summary import summarise
from nnunetv2_mmkd.evaluation.table_files import write_table
from nnunetv2_mmkd.evaluation.tables import as_csv, as_latex, as_markdown, subset_table
from nnunetv2_mmkd.files import write_text

RESULTS = "results.csv"
"""The long table, in the output folder."""


def check_report(
    methods: Sequence[str], modalities: Sequence[str], published: Sequence[str], improvement_of: str | None
) -> None:
    """Refuse, before anything is computed, what :func:`write_report` would refuse in the end.

    Raises:
        InputError: an unknown method, or a printed table that is unknown or of other modalities.
    """
    if improvement_of is not None and improvement_of not in methods:
        raise InputError(f"--improvement {improvement_of}: no such method; there are {', '.join(methods)}")
    for name in published:
        for cell in load_published(name)["subset"].unique():
            if cell != AVERAGE:
                try:
                    parse_subset(cell, modalities)
                except InputError as error:
                    raise InputError(f"printed table {name}: {error}") from error


def write_report(
    table: pd.DataFrame,
    output: Path,
    modalities: Sequence[str],
    *,
    published: Sequence[str] = (),
    improvement_of: str | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write ``results.csv``, ``summary.csv``, ``shapley.csv``, ``tables/`` and ``figures/``.

    Args:
        table: long result table.
        output: folder.
        modalities: of the data set, in channel order.
        published: printed tables to lay beside the run.
        improvement_of: method of MetaKD's improvement column.
        notes: lines for below the tables, e.g. the policy for empty regions.

    Raises:
        InputError: an unknown printed table or method.
    """
    write_table(table, output / RESULTS)
    write_table(pd.DataFrame([asdict(row) for row in summarise(table)]), output / "summary.csv")
    for metric in table_metrics(table):
        made = subset_table(table, metric, modalities, published=published, improvement_of=improvement_of, notes=notes)
        for ending, text in (("md", as_markdown(made)), ("tex", as_latex(made)), ("csv", as_csv(made))):
            write_text(output / "tables" / f"{metric.replace('@', '_')}.{ending}", text)
    whole = complete_methods(table, modalities)
    if whole:
        rows = [
            {"method": found.method, "region": found.region, "metric": found.metric, "modality": name, "value": value}
            for metric in table_metrics(table)
            if metric_of(metric).percent and metric_of(metric).higher_is_better
            for found in shapley_by_region(table[table["method"].isin(whole)], modalities, metric=metric)
            for name, value in found.values.items()
        ]
        write_table(pd.DataFrame(rows), output / "shapley.csv")
    draw_figures(table, table_metrics(table), output / "figures", modalities)


def table_metrics(table: pd.DataFrame) -> list[str]:
    """The metrics of a table that get tables and pictures (not the counts of lesions)."""
    return [str(name) for name in table["metric"].unique() if not str(name).startswith("n_")]


def complete_methods(table: pd.DataFrame, modalities: Sequence[str]) -> list[str]:
    """The methods that have all subsets, with a value somewhere; a specialist has one."""
    wanted = set(all_subset_names(modalities))
    defined = table.dropna(subset=["value"])
    return [
        str(method)
        for method, rows in defined.groupby("method", sort=False)
        if all(set(part["subset"]) >= wanted for _, part in rows.groupby(["region", "metric"]))
    ]
