"""The tables of a sweep: the papers' tables of all methods, means over seeds, and ``mmkd compare`` of the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.compare_report import CompareSettings, compare_tables
from nnunetv2_mmkd.evaluation.metric_names import metric_of
from nnunetv2_mmkd.evaluation.report import table_metrics, write_report
from nnunetv2_mmkd.evaluation.seeds import average_over_seeds, compare_seeds, summarise_seeds
from nnunetv2_mmkd.evaluation.table_files import read_columns, read_table, write_table
from nnunetv2_mmkd.files import write_text
from nnunetv2_mmkd.workflows.evaluate.subset_predictions import choose_subsets
from nnunetv2_mmkd.workflows.sweep.definition import CompareOptions, Sweep
from nnunetv2_mmkd.workflows.sweep.tasks import Evaluation

ALONE = "-"
"""Seed of a model that has none."""


def write_tables(
    sweep: Sweep, evaluations: Sequence[Evaluation], modalities: Sequence[str], output: Path
) -> tuple[list[str], list[str]]:
    """Write the tables of the models that were evaluated.

    ``results.csv`` holds the values averaged over the seeds (for ``mmkd compare``), ``results_by_seed.csv`` all.
    Beside the tables and pictures of ``mmkd evaluate``: ``seeds.md`` and ``.csv``, means and standard deviations over
    seeds; ``compare.md`` and ``.csv``, the pairs.

    Returns:
        Lines for the reader, and comparisons that were asked for and cannot be made, with the reason.

    Raises:
        InputError: a table that cannot be read or written.
    """
    parts = []
    for evaluation in evaluations:
        model = evaluation.model
        seed = ALONE if model.seed is None else str(model.seed)
        parts.append(read_table(evaluation.results).assign(method=model.trained, seed=seed))
    table = pd.concat(parts, ignore_index=True)
    pooled = average_over_seeds(table)
    write_table(table, output / "results_by_seed.csv")
    notes = [f"empty regions: policy {sweep.evaluation.empty}", _seeds_note(table)]
    write_report(pooled, output, modalities, notes=notes)
    text = _seed_table(table)
    write_text(output / "seeds.md", text)
    write_table(pd.DataFrame([_flat(row) for row in map(asdict, summarise_seeds(table))]), output / "seeds.csv")
    lines = [f"{output / 'seeds.md'}", "", text]
    problems: list[str] = []
    if sweep.compare.pairs:
        wanted = choose_subsets(sweep.compare.subsets or ("all",), modalities)
        compared, problems = _compared(sweep, table[table["subset"].isin(wanted)], output)
        write_text(output / "compare.md", compared)
        lines += [f"{output / 'compare.md'}", "", compared]
    return lines, problems


def _seeds_note(table: pd.DataFrame) -> str:
    counts = table.groupby("method", sort=False)["seed"].nunique()
    if counts.nunique() == 1:
        number = int(counts.iloc[0])
        return f"values averaged over {number} training{'s' * (number > 1)} of each method"
    return "values averaged over trainings: " + ", ".join(f"{method} {count}" for method, count in counts.items())


def _seed_table(table: pd.DataFrame) -> str:
    lines = ["| method | metric | region | mean | sd over seeds | seeds | each |", "|---|---|---|--:|--:|--:|---|"]
    for row in summarise_seeds(table):
        if row.metric not in table_metrics(table):
            continue
        about = metric_of(row.metric)
        factor = 100.0 if about.percent else 1.0
        unit = " (%)" if about.percent else f" ({about.unit})" * bool(about.unit)
        each = " ".join(f"{factor * value:.2f}" for value in row.values)
        spread = "–" if row.seeds < 2 else f"{factor * row.sd:.2f}"
        lines.append(
            f"| {row.method} | {about.title}{unit} | {row.region} | {factor * row.mean:.2f} | {spread} | {row.seeds} "
            f"| {each} |"
        )
    return "\n".join([*lines, "", "Mean over cases of each case's mean over subsets, then over seeds.  "]) + "\n"


def _compared(sweep: Sweep, table: pd.DataFrame, output: Path) -> tuple[str, list[str]]:
    options = sweep.compare
    rows: list[dict[str, Any]] = []
    problems = []
    for rates in sweep.missing_rates:
        ending = "" if rates is None else f"_{rates.tag}"
        for first, second in options.pairs:
            for metric in options.metrics or tuple(table_metrics(table)):
                try:
                    rows += _pair(table, first + ending, second + ending, metric, options, output)
                except InputError as error:
                    problems.append(f"{first + ending} - {second + ending}, {metric}: {error}")
    if rows:
        write_table(pd.DataFrame(rows), output / "compare.csv")
    else:  # not one of an earlier call
        (output / "compare.csv").unlink(missing_ok=True)
    level = f"{100 * options.confidence:g} %"
    lines = [
        f"| A - B | metric | region | A | B | difference | {level} interval: patients | patients and seeds "
        "| Wilcoxon p | cases | seeds |",
        "|---|---|---|--:|--:|--:|---|---|--:|--:|--:|",
        *map(_line, rows),
        "",
        "First interval and p: these trained models, as `mmkd compare` of the values averaged over seeds, patients "
        "drawn. Second: new trainings as well, seeds and patients drawn.  ",
        *(f"Not compared: {problem}.  " for problem in problems),
    ]
    return "\n".join(lines) + "\n", problems


def _pair(
    table: pd.DataFrame, first: str, second: str, metric: str, options: CompareOptions, output: Path
) -> list[dict[str, Any]]:
    """A row per region: the cells of ``mmkd compare``, and the interval over seeds."""
    seeds = [set(table[table["method"] == name]["seed"]) for name in (first, second)]
    common = seeds[0] & seeds[1]
    both = table[table["method"].isin([first, second]) & table["seed"].isin(common)]
    if not all(seeds):
        raise InputError("one of them was not evaluated")
    if both.empty:
        raise InputError("they were not evaluated with the same seed")
    settings = CompareSettings(metric, options.regions, confidence=options.confidence, resamples=options.resamples)
    work = output / "compare"
    source, target = work / "averaged.csv", work / f"{first}-{second}_{metric.replace('@', '_')}.csv"
    write_table(average_over_seeds(both), source)
    compare_tables([source], first, second, settings, options.patients, target)
    source.unlink()
    patients = None
    if options.patients is not None:
        patients = {
            cells["case"]: cells["patient"] for _, cells in read_columns(options.patients, _PATIENTS, "patients")
        }
    found = []
    for row in pd.read_csv(target).to_dict("records"):
        drawn = compare_seeds(
            both, first, second, region=str(row["region"]), metric=metric, patients=patients,
            confidence=options.confidence, resamples=options.resamples,
        )  # fmt: skip
        found.append(
            {**{str(key): value for key, value in row.items()}, "seeds": " ".join(drawn.seeds),
             "seeds_better": drawn.better, "ci_low_seeds": drawn.ci_low, "ci_high_seeds": drawn.ci_high}
        )  # fmt: skip
    return found


_PATIENTS = ("case", "patient")


def _line(row: dict[str, Any]) -> str:
    about = metric_of(str(row["metric"]))
    factor = 100.0 if about.percent else 1.0
    unit = " (points)" if about.percent else f" ({about.unit})" * bool(about.unit)

    def interval(low: float, high: float) -> str:
        return "–" if pd.isna(low) else f"[{factor * low:+.2f}, {factor * high:+.2f}]"

    seeds = str(row["seeds"]).split()
    cells = [
        f"{row['first']} - {row['second']}",
        f"{about.title}{unit}" + ", less is better" * (not about.higher_is_better),
        row["region"],
        f"{factor * row['mean_first']:.2f}",
        f"{factor * row['mean_second']:.2f}",
        f"{factor * row['difference']:+.2f}",
        interval(row["ci_low"], row["ci_high"]),
        interval(row["ci_low_seeds"], row["ci_high_seeds"]),
        f"{row['p_value']:.4g}",
        str(row["cases"]),
        str(len(seeds)),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "values": " ".join(map(str, row["values"]))}
