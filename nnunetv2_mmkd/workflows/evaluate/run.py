"""What ``mmkd evaluate`` does: models or folders of segmentations in; table, pictures and performance card out.

One row of the table, top-down: ``models`` (folds, ``subset_cases``, subsets), ``predictions`` (what is still to be
predicted), ``evaluation.score``, ``ResultTable``, ``evaluation.report``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.card import CARD_METRIC, fold_card, write_card
from nnunetv2_mmkd.evaluation.label_map import read_label_map
from nnunetv2_mmkd.evaluation.regions import evaluated_regions, label_values
from nnunetv2_mmkd.evaluation.report import check_report, write_report
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.score import Predictions, ScoreSettings, check_scores, score
from nnunetv2_mmkd.evaluation.templates import check_template, template_metrics
from nnunetv2_mmkd.files import locked
from nnunetv2_mmkd.names import modality_names
from nnunetv2_mmkd.output_folders import check_apart
from nnunetv2_mmkd.workflows.evaluate.given_predictions import given_predictions
from nnunetv2_mmkd.workflows.evaluate.models import SubsetJob, prepare_model
from nnunetv2_mmkd.workflows.evaluate.overlays import check_overlays, draw_overlays
from nnunetv2_mmkd.workflows.evaluate.page import write_evaluation_page
from nnunetv2_mmkd.workflows.evaluate.predictions import predict_missing, unpredicted
from nnunetv2_mmkd.workflows.evaluate.settings import ReportOptions, SubsetPredictions, Target, WindowSettings

log = logging.getLogger(__name__)


def name_models(folders: Sequence[str], names: Sequence[str] | None = None) -> dict[str, str]:
    """Methods' names in the tables: those given, else the trainers', else (for one trainer twice) the folders'.

    Raises:
        InputError: not as many names as models, or two of one name.
    """
    plain = [os.path.basename(os.path.abspath(folder)) for folder in folders]
    if names is None:
        trainers = [name.partition("__")[0].removeprefix("nnUNetTrainer") or name for name in plain]
        names = trainers if len(set(trainers)) == len(trainers) else plain
    if len(names) != len(folders) or len(set(names)) != len(names):
        raise InputError(f"--names: {len(folders)} models need as many different names, not {', '.join(names)}")
    for name in names:
        if name in ("", ".", "..") or "/" in name or os.sep in name:
            raise InputError(f"--names {name}: it is also the name of a folder and may hold no slash")
    return dict(zip(names, folders, strict=True))


def evaluate(
    output: Path,
    models: Mapping[str, str],
    folders: Mapping[str, str],
    target: Target,
    window: WindowSettings,
    settings: ScoreSettings,
    report: ReportOptions,
    *,
    processes: int = 1,
    overwrite: bool = False,
) -> ResultTable:
    """Predict, score and report. All is checked first; the folder of the output is locked meanwhile.

    Args:
        output: folder for everything.
        models: method -> model folder.
        folders: method -> folder of segmentations ``<subset>/<case><file ending>``.
        target: cases and subsets.
        window: of the predictions.
        settings: what is measured.
        report: what is written.
        processes: workers that score.
        overwrite: throw away predictions in ``output`` that another model, checkpoint or window made.

    Returns:
        The results.

    Raises:
        InputError: anything wrong with models, cases, segmentations or output, or another run uses the output.
    """
    both = [method for method in models if method in folders]
    if both:
        raise InputError(f"{both[0]} names a model and a folder of predictions")
    check_apart(output, target.images, target.labels, *models.values(), *folders.values())
    with locked(output):
        if not models and not folders:
            raise InputError("nothing to evaluate: name models or folders of predictions")
        jobs = {
            method: prepare_model(model, output / "predictions" / method, target, window, overwrite=overwrite)
            for method, model in models.items()
        }
        made = {method: job.result for method, job in jobs.items()}
        for method, folder in folders.items():
            made[method] = given_predictions(Path(folder), target, next(iter(made.values()), None))
        first = next(iter(made.values()))
        settings = settings.for_data_set(first.dataset_json)
        settings = replace(settings, metrics=template_metrics(report.templates, settings.metrics))
        together = _check(jobs, made, target, settings, report)
        _check_labels(first, {case for job in jobs.values() for case in unpredicted(job)}, progress=window.progress)
        for method, job in jobs.items():
            log.info("%s: %s", method, models[method])
            predict_missing(job)
        scored = score(
            [Predictions(method, each.folder, each.expected) for method, each in made.items()],
            first.labels,
            first.dataset_json,
            settings,
            output / "scores",
            processes=processes,
            progress=window.progress,
        )
        table = scored.renamed(together)
        write_report(
            table,
            output,
            published=report.published,
            templates=report.templates,
            improvement_of=report.improvement_of,
            notes=(f"empty regions: policy {settings.empty}", f"{len(first.expected)} cases"),
        )
        draw_overlays(output, table, made, target, report)
        if report.card and target.images is None and not target.test and CARD_METRIC in settings.metrics:
            for method, model in models.items():
                _write_card(model, jobs[method], scored.select(methods=[method]), target, settings)
        if report.page:
            write_evaluation_page(
                output, table, made, together, target, report, processes=processes, progress=window.progress
            )
        return table


def _check(
    jobs: Mapping[str, SubsetJob],
    made: Mapping[str, SubsetPredictions],
    target: Target,
    settings: ScoreSettings,
    report: ReportOptions,
) -> dict[str, str]:
    """Refuse, before anything is predicted, what a later step would refuse; returns :func:`_together`."""
    first = next(iter(made.values()))
    modalities = modality_names(first.dataset_json)
    for method, each in made.items():
        if each.labels != first.labels or modality_names(each.dataset_json) != modalities:
            raise InputError(f"{method} belongs to other labels or modalities than {next(iter(made))}: evaluate apart")
    check_scores(settings, first.dataset_json)
    together = _together(jobs, list(made), report.specialists)
    methods = list(dict.fromkeys(together.get(method, method) for method in made))
    check_report(methods, modalities, report.published, report.improvement_of)
    predicted = {subset for each in made.values() for subsets in each.expected.values() for subset in subsets}
    for name in report.templates:
        check_template(name, modalities, list(evaluated_regions(first.dataset_json)), predicted)
    check_overlays(first, target, report)
    return together


def _check_labels(made: SubsetPredictions, cases: Collection[str], *, progress: bool) -> None:
    """Refuse, before anything is predicted, labels that are damaged or of another data set."""
    allowed, _ = label_values(made.dataset_json)
    for case in tqdm(sorted(cases), "checking labels", unit="case", disable=not progress or len(cases) < 8):
        read_label_map(made.labels / f"{case}{made.dataset_json['file_ending']}", allowed)


def _together(jobs: Mapping[str, SubsetJob], methods: Sequence[str], name: str | None) -> dict[str, str]:
    """Specialist -> the name that all of them get; empty if each keeps its own.

    Raises:
        InputError: another method has the name, there is no specialist, or two are for one subset.
    """
    if name is None:
        return {}
    subsets = {method: job.predictor.subset for method, job in jobs.items() if job.predictor.subset}
    if not subsets:
        raise InputError(f"--specialists {name}: none of {', '.join(methods)} is a specialist")
    if name in methods and name not in subsets:
        raise InputError(f"--specialists {name}: another method has this name; choose another one")
    doubled = [each for each in subsets.values() if list(subsets.values()).count(each) > 1]
    if doubled:
        raise InputError(f"--specialists {name}: two models are for {' + '.join(doubled[0])}; evaluate one of them")
    return dict.fromkeys(subsets, name)


def _write_card(model: str, job: SubsetJob, table: ResultTable, target: Target, settings: ScoreSettings) -> None:
    about: dict[str, Any] = {
        "checkpoint": target.checkpoint,
        "empty": settings.empty,
        "step_size": job.window.step_size,
        "mirroring": job.window.mirroring,
    }
    entries = {
        fold: fold_card(table, [case.identifier for case in cases], about)
        for fold, cases in sorted(job.cases.items())
        if cases
    }
    write_card(model, entries)
    log.info("performance card of fold %s: %s", ", ".join(entries), os.path.join(model, "dataset.json"))
