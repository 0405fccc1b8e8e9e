"""What ``mmkd figure`` does: the papers' figures of finished trainings and of tables of results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.evaluation.figures.learned import CURVE_FIGURES, draw_learned, of_group, trainings_note
from nnunetv2_mmkd.evaluation.figures.sensitivity import Setting, sensitivity
from nnunetv2_mmkd.evaluation.figures.shares import election_shares
from nnunetv2_mmkd.evaluation.figures.style import plain_style, png
from nnunetv2_mmkd.evaluation.metrics.registry import metric_spec
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.seeds import summarise_seeds
from nnunetv2_mmkd.trainer_lookup import find_trainer
from nnunetv2_mmkd.workflows.training_records import read_trainings

KINDS = {
    **{name: figure.paper for name, figure in CURVE_FIGURES.items()},
    "elections": "LCKD, section 3.3",
    "alpha": "MetaKD, Fig. 3a; LCKD, Fig. 3",
}
"""What ``mmkd figure`` draws, and where the papers have it."""


def draw_curve_figure(
    kind: str, models: Sequence[str], folds: Sequence[int | str] | None, checkpoint: str, output: Path, smooth: int = 1,
    title: str = "",
) -> None:  # fmt: skip
    """Draw curves of some models; trainings that differ by seed or fold alone are one line with a band.

    Args:
        kind: of :data:`CURVE_FIGURES`.
        models: model folders.
        folds: None: all that are trained.
        checkpoint: of the folds.
        output: PNG.
        smooth: epochs of a moving average.
        title: of the figure.

    Raises:
        InputError: a model or path that cannot be used, or a training without these curves.
    """
    png(output)
    figure, records = CURVE_FIGURES[kind], read_trainings(models, folds, checkpoint)
    for record in records:
        lacking = [group for group in figure.groups if not any(of_group(record.curves, group))]
        if lacking:
            raise InputError(
                f"{record.file}: {record.run} logs no curve {lacking[0]!r}, it has "
                f"{', '.join(record.groups) or 'none'}; `mmkd figure {kind}` is for trainings of {figure.trainers}"
            )
        for group in figure.groups:
            if not any(np.isfinite(values).any() for values in of_group(record.curves, group).values()):
                raise InputError(f"{record.file}: the curve {group!r} of {record.run} has no value yet: train longer")
    draw_learned(kind, [(record.run, record.curves) for record in records], output, smooth=smooth, title=title)


def draw_elections(
    models: Sequence[str], folds: Sequence[int | str] | None, checkpoint: str, output: Path, title: str = ""
) -> None:
    """Draw which modality LCKD's elections chose as the teacher of each region, over all elections and trainings.

    Raises:
        InputError: a model or path that cannot be used, or a training without elections.
    """
    png(output)
    records = read_trainings(models, folds, checkpoint)
    winners: dict[str, dict[str, list[str]]] = {}
    for record in records:
        if not record.elections:
            raise InputError(
                f"{record.file}: {record.run} has held no election; `mmkd figure elections` is for trainings of "
                "LCKD that were long enough for one"
            )
        for region, won in record.winners().items():
            winners.setdefault(record.run, {}).setdefault(region, []).extend(won)
    held = sorted({len(won) for regions in winners.values() for won in regions.values()})
    runs = [record.run for record in records]
    note = f"Elections: {' to '.join(map(str, dict.fromkeys((held[0], held[-1]))))} of each region. "
    note += trainings_note(sorted({runs.count(run) for run in runs}), band=False)
    with plain_style():
        election_shares(winners, records[0].modalities, output, note=note, title=title)


def draw_alpha(
    files: Sequence[Path], output: Path, metric: str = "dice", regions: Sequence[str] = (), subsets: Sequence[str] = (),
    title: str = "",
) -> None:  # fmt: skip
    """Draw a metric over the weight alpha of the distillation, from the results of trainings with several alphas.

    A method's alpha and what else is another in it are those of its trainer's configuration.

    Args:
        files: ``results_by_seed.csv`` of a sweep, or ``results.csv`` of evaluations.
        output: PNG.
        metric: of the tables.
        regions: empty: all.
        subsets: a value is the mean over these; empty: all.
        title: of the figure.

    Raises:
        InputError: a table or path that cannot be used, or no method with several alphas.
    """
    png(output)
    table = ResultTable.read(*files, seeds=True)
    table = table.select(metric=metric, regions=regions or None, subsets=subsets or None)
    table.require_finite()
    spec, settings = metric_spec(metric), []
    values: dict[str, dict[str, Sequence[float]]] = {}
    for row in summarise_seeds(table):
        values.setdefault(row.method, {})[row.region] = [value * spec.scale for value in row.values]
    alphas = {method: _alpha(method) for method in values}
    curves: dict[str, set[float]] = {}
    for found in alphas.values():
        if found is not None and not found[1]:
            curves.setdefault(found[0], set()).add(found[2])
    varied = [name for name, several in curves.items() if len(several) > 1]
    if not varied:
        raise InputError(
            f"{table.source}: no method with several alphas among {first_few(list(values), 8)}. Train and evaluate "
            "some together, e.g. by `mmkd sweep` with trainers: [MetaKD_alpha0, MetaKD, MetaKD_alpha05, MetaKD_alpha1]"
        )
    for method, found in alphas.items():
        if found is not None and found[0] in varied:
            settings.append(Setting(*found, values[method]))
    variants = sorted({each.variant for each in settings if each.variant})
    counts = sorted({len(each) for one in settings for each in one.values.values()})
    tested = "+".join(table.subsets) if len(table.subsets) == 1 else f"the mean over {len(table.subsets)} subsets"
    note = f"Tested with {tested}, {table.rows['case'].nunique()} cases. " + trainings_note(counts, "bars")
    note += f" Stars: {', '.join(variants)}." * bool(variants)
    with plain_style():
        sensitivity(settings, output, x_label="α", y_label=spec.label(), note=note, title=title)


def _alpha(method: str) -> tuple[str, str, float] | None:
    """Method without the endings that change its configuration, how these do that, alpha; None: it has no alpha."""
    try:
        trainer: Any = find_trainer(f"nnUNetTrainer{method}")
    except InputError:  # a name of the user's own
        return None
    config: Any = getattr(trainer, "config", None)
    if not hasattr(config, "alpha"):
        return None
    base = method.partition("_")[0]
    plain = find_trainer(f"nnUNetTrainer{base}").config
    others = [
        f"{each.name} = {getattr(config, each.name)}"
        for each in fields(config)
        if each.name != "alpha" and getattr(config, each.name) != getattr(plain, each.name)
    ]
    rest = [part for part in method.split("_")[1:] if not re.fullmatch(r"alpha\d+|\d+epochs|\d+iters|seed\d+", part)]
    if others:
        rest = [part for part in rest if f"_{part}" not in trainer.suffix_endings]
    return "_".join([base, *rest]), ", ".join(others), float(config.alpha)
