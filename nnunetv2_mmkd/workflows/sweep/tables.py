"""The tables of a sweep: the papers' tables of all methods, means over seeds, and ``mmkd compare`` of the pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.compare_report import CompareSettings, compare_regions, comparison_rows, read_patients
from nnunetv2_mmkd.evaluation.metrics.registry import metric_spec
from nnunetv2_mmkd.evaluation.report import table_metrics, write_report
from nnunetv2_mmkd.evaluation.result_table import SEED, ResultTable
from nnunetv2_mmkd.evaluation.seeds import average_over_seeds, compare_seeds, summarise_seeds
from nnunetv2_mmkd.evaluation.statistics import holm
from nnunetv2_mmkd.evaluation.subsets import choose_subsets
from nnunetv2_mmkd.evaluation.table_files import write_table
from nnunetv2_mmkd.files import write_text
from nnunetv2_mmkd.workflows.sweep.definition import CompareOptions, Sweep
from nnunetv2_mmkd.workflows.sweep.tasks import Evaluation

NO_SEED = "-"
"""Seed of a model that has none."""


def write_tables(
    sweep: Sweep, evaluations: Sequence[Evaluation], modalities: Sequence[str], output: Path
) -> tuple[list[str], list[str]]:
    """Write the tables of the models that were evaluated.

    ``results.csv`` holds the values averaged over the seeds (for ``mmkd compare``), ``results_by_seed.csv`` all.
    Next to the report of ``mmkd evaluate``: ``seeds.md`` and ``.csv``, means and standard deviations over
    seeds; ``compare.md`` and ``.csv``, the pairs.

    Returns:
        Lines for the reader, and comparisons that were asked for and cannot be made, with the reason.

    Raises:
        InputError: a table that cannot be read or written.
    """
    parts = []
    for evaluation in evaluations:
        model = evaluation.model
        seed = NO_SEED if model.seed is None else str(model.seed)
        parts.append(ResultTable.read(evaluation.results).rows.assign(method=model.trained, seed=seed))
    table = ResultTable.from_frame(pd.concat(parts, ignore_index=True), modalities)
    table.write(output / "results_by_seed.csv")
    notes = [f"empty regions: policy {sweep.evaluation.empty}", _seeds_note(table)]
    write_report(average_over_seeds(table), output, templates=sweep.evaluation.template, notes=notes)
    text = _seed_table(table)
    write_text(output / "seeds.md", text)
    write_table(pd.DataFrame([_flat(row) for row in map(asdict, summarise_seeds(table))]), output / "seeds.csv")
    lines = [f"{output / 'seeds.md'}", "", text]
    problems: list[str] = []
    if sweep.compare.pairs:
        compared, problems = _compared(sweep, table, modalities, output)
        write_text(output / "compare.md", compared)
        lines += [f"{output / 'compare.md'}", "", compared]
    return lines, problems


def _seeds_note(table: ResultTable) -> str:
    counts = table.rows.groupby("method", sort=False)["seed"].nunique()
    if counts.nunique() == 1:
        number = int(counts.iloc[0])
        return f"values averaged over {number} training{'s' * (number > 1)} of each method"
    return "values averaged over trainings: " + ", ".join(f"{method} {count}" for method, count in counts.items())


def _seed_table(table: ResultTable) -> str:
    lines = ["| method | metric | region | mean | sd over seeds | seeds | each |", "|---|---|---|--:|--:|--:|---|"]
    for row in summarise_seeds(table):
        if row.metric not in table_metrics(table):
            continue
        spec = metric_spec(row.metric)
        each = " ".join(f"{spec.scale * value:.2f}" for value in row.values)
        spread = "–" if row.seeds < 2 else f"{spec.scale * row.sd:.2f}"
        lines.append(
            f"| {row.method}{_fewer(table, row.method)} | {spec.label()} | {row.region} "
            f"| {spec.scale * row.mean:.2f} | {spread} | {row.seeds} | {each} |"
        )
    return "\n".join([*lines, "", "Mean over cases of each case's mean over subsets, then over seeds.  "]) + "\n"


def _fewer(table: ResultTable, method: str) -> str:
    """Which subsets a method was evaluated on, if not on all of the table: its means are of these."""
    own = set(table.rows.loc[table.rows["method"] == method, "subset"])
    names = [name for name in table.subsets if name in own]
    return "" if len(names) == len(table.subsets) else f", {' '.join(names)} only"


def _compared(sweep: Sweep, table: ResultTable, modalities: Sequence[str], output: Path) -> tuple[str, list[str]]:
    options = sweep.compare
    chosen = set(choose_subsets(options.subsets or ("all",), modalities))
    table = table.select(subsets=[name for name in table.subsets if name in chosen])
    patients = None if options.patients is None else read_patients(options.patients)
    rows: list[dict[str, Any]] = []
    problems = []
    for rates in sweep.missing_rates:
        ending = "" if rates is None else f"_{rates.tag}"
        for first, second in options.pairs:
            for metric in options.metrics or tuple(table_metrics(table)):
                try:
                    rows += _pair(table, first + ending, second + ending, metric, options, patients)
                except InputError as error:
                    problems.append(f"{first + ending} - {second + ending}, {metric}: {error}")
    rows = _corrected(rows)
    if rows:
        write_table(pd.DataFrame(rows), output / "compare.csv")
    else:  # not one of an earlier call
        (output / "compare.csv").unlink(missing_ok=True)
    level = f"{100 * options.confidence:g} %"
    lines = [
        f"| A - B | metric | region | A | B | difference | {level} interval: patients | patients and seeds "
        "| Wilcoxon p | Holm | cases | seeds |",
        "|---|---|---|--:|--:|--:|---|---|--:|--:|--:|--:|",
        *map(_line, rows),
        "",
        "First interval and p: these trained models, as `mmkd compare` of the values averaged over seeds, patients "
        "drawn. Second: new trainings as well, seeds and patients drawn. Holm: p corrected for the number of methods "
        "that are compared with the same B, by metric and region. A model of one subset is compared on that.  ",
        *(f"Not compared: {problem}.  " for problem in problems),
    ]
    return "\n".join(lines) + "\n", problems


def _pair(
    table: ResultTable,
    first: str,
    second: str,
    metric: str,
    options: CompareOptions,
    patients: Mapping[str, str] | None,
) -> list[dict[str, Any]]:
    """A row per region: the cells of ``mmkd compare``, and the interval over seeds."""
    rows = table.rows
    seeds = [set(rows[rows["method"] == name][SEED]) for name in (first, second)]
    both = rows[rows["method"].isin([first, second]) & rows[SEED].isin(seeds[0] & seeds[1])]
    if not all(seeds):
        raise InputError("one of them was not evaluated")
    if both.empty:
        raise InputError("they were not evaluated with the same seed")
    both, narrowed = _shared_subsets(both, (first, second))
    common = replace(table, rows=both)
    settings = CompareSettings(metric, options.regions, confidence=options.confidence, resamples=options.resamples)
    results = compare_regions(average_over_seeds(common), first, second, settings, patients)
    cells = []
    for row in comparison_rows(results, settings):
        drawn = compare_seeds(
            common, first, second, region=row["region"], metric=metric, patients=patients,
            confidence=options.confidence, resamples=options.resamples,
        )  # fmt: skip
        cells.append(
            {**row, "narrowed": narrowed, "seeds": " ".join(drawn.seeds), "seeds_better": drawn.better,
             "ci_low_seeds": drawn.ci_low, "ci_high_seeds": drawn.ci_high}
        )  # fmt: skip
    return cells


def _shared_subsets(rows: pd.DataFrame, methods: tuple[str, str]) -> tuple[pd.DataFrame, bool]:
    """The rows of the subsets that both have, and whether one has more: a specialist is of one subset only."""
    first, second = (set(rows.loc[rows["method"] == name, "subset"]) for name in methods)
    if not first & second:
        raise InputError("they were not evaluated on the same subset")
    return rows[rows["subset"].isin(first & second)], first != second


def _corrected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with ``p_holm``, Holm's correction over all methods compared with the same one on the same subsets."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in ("second", "metric", "region", "subsets")), []).append(row)
    for group in groups.values():
        for row, value in zip(group, holm([row["p_value"] for row in group]), strict=True):
            row["p_holm"] = value
    return rows


def _line(row: dict[str, Any]) -> str:
    spec = metric_spec(row["metric"])
    factor, unit = spec.scale, f" ({spec.difference_unit})" * bool(spec.difference_unit)

    def interval(low: float, high: float) -> str:
        return "–" if pd.isna(low) else f"[{factor * low:+.2f}, {factor * high:+.2f}]"

    seeds = str(row["seeds"]).split()
    cells = [
        f"{row['first']} - {row['second']}" + f", {row['subsets']} only" * row["narrowed"],
        f"{spec.title}{unit}" + ", less is better" * (not spec.higher_is_better),
        row["region"],
        f"{factor * row['mean_first']:.2f}",
        f"{factor * row['mean_second']:.2f}",
        f"{factor * row['difference']:+.2f}",
        interval(row["ci_low"], row["ci_high"]),
        interval(row["ci_low_seeds"], row["ci_high_seeds"]),
        f"{row['p_value']:.4g}",
        f"{row['p_holm']:.4g}",
        str(row["cases"]),
        str(len(seeds)),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "values": " ".join(map(str, row["values"]))}
