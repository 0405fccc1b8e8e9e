"""What ``mmkd evaluate`` does: models or folders of segmentations in; table, pictures and performance card out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.card import CARD_METRIC, fold_card, write_card
from nnunetv2_mmkd.evaluation.report import check_report, draw_overlay, median_case, overlay_subsets, write_report
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.score import Predictions, ScoreSettings, check_scores, score
from nnunetv2_mmkd.files import check_writable
from nnunetv2_mmkd.modalities import indices, modality_names
from nnunetv2_mmkd.nnunet_json import missing_modalities, read_dataset_json
from nnunetv2_mmkd.workflows.evaluate.subset_predictions import (
    SubsetJob,
    SubsetPredictions,
    WindowSettings,
    choose_subsets,
    prepare_all_subsets,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """What is evaluated on.

    Attributes:
        subsets: ``all``, ``singles``, ``full``, or names such as ``t1+t2``.
        folds: of the models; None: all that exist.
        checkpoint: of the models.
        images: folder of images instead of the models' validation cases; for folders of segmentations only under the
            overlays.
        labels: their segmentations.
        dataset_json: for folders of segmentations: the file; default: beside the labels.
        test: the data set's test cases instead of the validation cases.
    """

    subsets: tuple[str, ...] = ("all",)
    folds: tuple[int | str, ...] | None = None
    checkpoint: str = "checkpoint_final.pth"
    images: str | None = None
    labels: str | None = None
    dataset_json: str | None = None
    test: bool = False


@dataclass(frozen=True)
class ReportOptions:
    """What is written beside the numbers.

    Attributes:
        published: published tables to show alongside.
        improvement_of: method of the improvement column.
        card: write the performance card into the models' folders.
        overlay: cases to draw; empty: the one with the median of the mean Dice.
        reference: modality under the overlays, or a file (one that the models never got, say); None: the last one.
        specialists: name under which all specialists are one method in results and tables, a subset from each; None:
            each has a name of its own.
    """

    published: tuple[str, ...] = ()
    improvement_of: str | None = None
    card: bool = True
    overlay: tuple[str, ...] = ()
    reference: str | None = None
    specialists: str | None = None


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
    """Predict, score and report.

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
        InputError: anything wrong with models, cases, segmentations or output.
    """
    if not models and not folders:
        raise InputError("nothing to evaluate: name models or folders of predictions")
    check_writable(str(output))
    jobs: dict[str, SubsetJob] = {}
    for method, model in models.items():
        jobs[method] = prepare_all_subsets(
            model,
            output / "predictions" / method,
            subsets=target.subsets,
            folds=target.folds,
            checkpoint=target.checkpoint,
            images=target.images,
            labels=target.labels,
            test=target.test,
            settings=window,
            overwrite=overwrite,
        )
    made = {method: job.result for method, job in jobs.items()}
    for method, folder in folders.items():
        made[method] = given_predictions(Path(folder), target, next(iter(made.values()), None))
    first = next(iter(made.values()))
    modalities = modality_names(first.dataset_json)
    for method, each in made.items():
        if each.labels != first.labels or modality_names(each.dataset_json) != modalities:
            raise InputError(f"{method} belongs to other labels or modalities than {next(iter(made))}: evaluate apart")
    check_scores(settings, first.dataset_json)
    together = _together(jobs, list(made), report.specialists)
    methods = list(dict.fromkeys(together.get(method, method) for method in made))
    check_report(methods, modalities, report.published, report.improvement_of)
    _check_overlays(first, target, report)
    for method, job in jobs.items():
        log.info("%s: %s", method, models[method])
        job.run()
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
        improvement_of=report.improvement_of,
        notes=(f"empty regions: policy {settings.empty}", f"{len(first.expected)} cases"),
    )
    _draw(output, table, made, target, report)
    if report.card and target.images is None and not target.test and CARD_METRIC in settings.metrics:
        for method, model in models.items():
            _write_card(model, made[method], scored.select(methods=[method]), target, window, settings)
    return table


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


def _draw(
    output: Path, table: ResultTable, made: Mapping[str, SubsetPredictions], target: Target, report: ReportOptions
) -> None:
    """Overlays of the cases that were asked for, or of one in the middle if its images are at hand."""
    first = next(iter(made.values()))
    modalities = modality_names(first.dataset_json)
    cases = report.overlay or (median_case(table),)
    for case in cases:
        there = dict.fromkeys(name for each in made.values() for name in each.expected.get(case, ()))
        subsets = overlay_subsets(list(there), modalities)
        image, reference = _reference(case, first, target, report.reference)
        if image is None:
            log.warning("no overlay of %s: its image of %s was not found (nnUNet_raw, -i)", case, reference)
            continue
        folders = {method: each.folder for method, each in made.items()}
        path = output / "figures" / f"overlay_{case}.png"
        draw_overlay(case, image, reference, first.labels, folders, subsets, first.dataset_json, path)


def _check_overlays(first: SubsetPredictions, target: Target, report: ReportOptions) -> None:
    """Refuse cases that cannot be drawn, and a modality that is unknown."""
    for case in report.overlay:
        if case not in first.expected:
            raise InputError(f"--overlay {case}: no such case; there are {', '.join(list(first.expected)[:5])}, ...")
    for case in report.overlay or list(first.expected)[:1]:
        image, reference = _reference(case, first, target, report.reference)
        if image is None and report.overlay:
            raise InputError(
                f"--overlay {case}: its image of {reference} was not found. Set nnUNet_raw, give the images with -i, "
                "or a file with --reference"
            )


def _reference(case: str, made: SubsetPredictions, target: Target, reference: str | None) -> tuple[Path | None, str]:
    """The image under a case's overlay, if it is found, and its modality."""
    if reference is not None and os.path.isfile(reference):
        return Path(reference), os.path.basename(reference)
    modalities = modality_names(made.dataset_json)
    channel = len(modalities) - 1 if reference is None else indices([reference], modalities)[0]
    name = f"{case}_{channel:04d}{made.dataset_json['file_ending']}"
    raw, dataset = os.environ.get("nnUNet_raw", ""), made.dataset_name
    folders = [target.images] if target.images else []
    folders += [os.path.join(raw, dataset, part) for part in ("imagesTr", "imagesTs")] if raw and dataset else []
    found = next((Path(folder, name) for folder in folders if Path(folder, name).is_file()), None)
    return found, modalities[channel]


def _write_card(
    model: str,
    made: SubsetPredictions,
    table: ResultTable,
    target: Target,
    window: WindowSettings,
    settings: ScoreSettings,
) -> None:
    about: dict[str, Any] = {
        "checkpoint": target.checkpoint,
        "empty": settings.empty,
        "step_size": window.step_size,
        "mirroring": window.mirroring,
    }
    entries = {
        fold: fold_card(table, [case for case, of in made.folds.items() if of == fold], about)
        for fold in sorted(set(made.folds.values()))
    }
    write_card(model, entries)
    log.info("performance card of fold %s: %s", ", ".join(entries), os.path.join(model, "dataset.json"))


def given_predictions(folder: Path, target: Target, beside: SubsetPredictions | None = None) -> SubsetPredictions:
    """Segmentations that exist already, one folder per subset.

    Args:
        folder: ``<subset>/<case><file ending>`` are in it; a folder's name may have aliases and any order.
        target: cases and subsets.
        beside: the predictions of a model they are compared with; its labels and dataset.json are used if the target
            names none.

    Raises:
        InputError: no labels, no dataset.json, no folder of a subset, or a folder that is no subset.
    """
    if not folder.is_dir():
        raise InputError(f"the folder of predictions {folder} does not exist")
    labels = Path(target.labels) if target.labels else beside.labels if beside else None
    if labels is None or not labels.is_dir():
        raise InputError(f"-l: the folder of labels {labels or ''} is needed to score {folder}")
    dataset = _dataset_json(target, labels, beside)
    modalities = modality_names(dataset)
    ending = str(dataset["file_ending"])
    there = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    wanted = choose_subsets(target.subsets, modalities)
    found = [name for name in choose_subsets(there, modalities) if name in wanted] if there else []
    odd = [name for name in there if name not in choose_subsets([name], modalities)]
    if odd:
        raise InputError(f"{folder / odd[0]}: name the folder {choose_subsets([odd[0]], modalities)[0]}")
    if not found:
        raise InputError(
            f"{folder} has no folder of one of the subsets {', '.join(wanted[:3])}, ...: segmentations lie in "
            f"{folder}/<subset>/<case>{ending}"
        )
    cases = sorted(path.name[: -len(ending)] for path in labels.iterdir() if path.name.endswith(ending))
    declared = missing_modalities(dataset, modalities)
    expected = {}
    for case in cases if beside is None else list(beside.expected):
        lacking = set(declared.get(case, ()))
        expected[case] = tuple(
            name for name in found if (folder / name / (case + ending)).is_file() or not lacking & set(name.split("+"))
        )
    name = beside.dataset_name if beside else labels.parent.name
    return SubsetPredictions(folder, labels, dataset, tuple(found), {}, expected, name)


def _dataset_json(target: Target, labels: Path, beside: SubsetPredictions | None) -> dict[str, Any]:
    if target.dataset_json is None and beside is not None:
        return beside.dataset_json
    tried = [target.dataset_json] if target.dataset_json else [labels / "dataset.json", labels.parent / "dataset.json"]
    for file in tried:
        if os.path.isfile(str(file)):
            return read_dataset_json(str(file)).content
    raise InputError(f"{tried[-1]} does not exist: name the dataset.json of the labels with --dataset_json")
