"""What ``mmkd predict`` does: a folder in, a folder out, with one model or with the model for what each case has."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from nnunetv2_mmkd.chatter import without_chatter
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.regions import evaluated_regions
from nnunetv2_mmkd.inference.cases import require_modalities
from nnunetv2_mmkd.inference.inputs import InputImages, find_cases
from nnunetv2_mmkd.inference.job import JobRequest, PredictionJob, alone, prepare_job, with_model, with_models
from nnunetv2_mmkd.inference.model_check import check_loadable
from nnunetv2_mmkd.inference.model_choice import choose, read_models
from nnunetv2_mmkd.inference.model_folder import ModelDescription, TrainedModel, check_model
from nnunetv2_mmkd.inference.page import write_prediction_page
from nnunetv2_mmkd.inference.predictor import MMKDPredictor
from nnunetv2_mmkd.inference.selection import excluded_modalities
from nnunetv2_mmkd.inference.uncertainty import UncertaintyPredictor, regions_of
from nnunetv2_mmkd.workers import orderly_termination

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionSettings:
    """nnU-Net's settings of a prediction, with its defaults.

    Attributes:
        folds: averaged over.
        checkpoint: file name.
        step_size: of the sliding window, in patches.
        mirroring: test-time augmentation.
        device: ``"cuda"``, ``"cpu"`` or ``"mps"``.
        on_device: keep the results on the device.
        verbose: let nnU-Net talk.
        progress: show progress bars.
        save_probabilities: also write the probabilities.
        overwrite: predict cases again that exist already.
        preprocessing_processes, export_processes: workers; both 0 for none at all.
        previous_stage: folder of a previous stage's predictions (cascade).
        num_parts, part_id: this call does every ``num_parts``-th case from ``part_id`` on.
        dry_run: only say what was taken for what; no image is opened and nothing is written.
        uncertainty: also say how sure each segmentation is, :mod:`.uncertainty`.
        report: also write a page to look at.
    """

    folds: Sequence[int | str] = (0, 1, 2, 3, 4)
    checkpoint: str = "checkpoint_final.pth"
    step_size: float = 0.5
    mirroring: bool = True
    device: str = "cuda"
    on_device: bool = True
    verbose: bool = False
    progress: bool = True
    save_probabilities: bool = False
    overwrite: bool = True
    preprocessing_processes: int = 3
    export_processes: int = 3
    previous_stage: str | None = None
    num_parts: int = 1
    part_id: int = 0
    dry_run: bool = False
    uncertainty: bool = False
    report: bool = False


def usable_cores() -> int:
    """Cores that this process may run on: a share of the machine under taskset, Slurm or a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else multiprocessing.cpu_count()


def cpu_threads() -> int:
    """Threads for PyTorch on the CPU: ``OMP_NUM_THREADS`` where that is set, else the cores that are ours."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else usable_cores()


def check_device(name: str) -> None:
    """Refuse a device that nnU-Net does not know or this machine does not have.

    Raises:
        InputError: it does not.
    """
    if name not in ("cuda", "cpu", "mps"):
        raise InputError(f"-device must be cuda, cpu or mps, not {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no CUDA device here; use -device cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise InputError("there is no MPS device here; use -device cpu")


def pick_device(name: str) -> torch.device:
    """The torch device, with nnU-Net's choice of threads for it; but of the cores only those that are ours.

    Raises:
        InputError: see :func:`check_device`.
    """
    check_device(name)
    if name != "mps":
        torch.set_num_threads(cpu_threads() if name == "cpu" else 1)
    return torch.device(name)


def predict_folder(
    model: str,
    source: str | InputImages,
    output: str,
    settings: PredictionSettings,
    *,
    missing: Sequence[str] | None = None,
    available: Sequence[str] | None = None,
) -> None:
    """Predict all cases of a folder with a trained model.

    Args:
        model: model folder.
        source: input folder, or that and how to read it.
        output: output folder.
        settings: of the prediction.
        missing: names of modalities to leave out in all cases.
        available: names of the only modalities to use.

    Raises:
        InputError: anything wrong with model, input, output or selection; nothing has been written then.
    """
    _check(settings)
    trained = check_model(model, settings.folds, settings.checkpoint)
    if settings.dry_run:
        return _show(trained, source, missing, available)
    with orderly_termination(), alone(output, settings.part_id, settings.num_parts):
        predictor = _load(model, settings, missing, available)
        job = with_model(_prepare(trained, source, output, settings, missing, available), trained, predictor.model)
        with job.running():
            _run(predictor, job, settings)
        _write_page(job, trained, settings)


def predict_with_models(
    models: Sequence[str],
    source: str | InputImages,
    output: str,
    settings: PredictionSettings,
    *,
    missing: Sequence[str] | None = None,
    available: Sequence[str] | None = None,
) -> None:
    """Predict all cases of a folder, each with the one of several trained models that is for what it has.

    Cases are found and checked, and models chosen, before the first model is loaded; the models then follow each other
    in the order given, one loaded at a time. A case is predicted as its model alone would predict it.
    ``mmkd_report.json`` says for each case which model did.

    Args:
        models: model folders: specialists of different subsets, and at most one model for any subset.
        source: input folder.
        output: output folder.
        settings: of the prediction; its folds and checkpoint are those of every model.
        missing: names of modalities to leave out in all cases.
        available: names of the only modalities to use.

    Raises:
        InputError: anything wrong with models, input, output or selection; nothing has been written then.
    """
    _check(settings)
    candidates = read_models(models, settings.folds, settings.checkpoint)
    # in names, reader and file ending all agree; together they are no specialist
    together = replace(candidates[0], plans=replace(candidates[0].plans, subset=()))
    if settings.dry_run:
        return _show(together, source, missing, available)
    with orderly_termination(), alone(output, settings.part_id, settings.num_parts):
        job = _prepare(together, source, output, settings, missing, available)
        chosen = choose(job.cases, candidates)
        descriptions: dict[str, ModelDescription] = {}
        for candidate in candidates:
            count = list(chosen.values()).count(candidate)
            if count:
                description = check_loadable(candidate.folder, settings.folds, settings.checkpoint)
                descriptions[candidate.folder] = description
                log.info("%s, for %s: %d case%s", description.trainer, candidate.takes, count, "s" * (count > 1))
        job = with_models(job, chosen, descriptions)
        with job.running():
            for folder, description in descriptions.items():
                _run(_load(folder, settings, missing, available), job.only(description), settings)
        _write_page(job, together, settings)


def _write_page(job: PredictionJob, model: TrainedModel, settings: PredictionSettings) -> None:
    if settings.report:
        processes = max(1, settings.preprocessing_processes)
        write_prediction_page(job, model.dataset_json.content, processes=processes, progress=settings.progress)


def _check(settings: PredictionSettings) -> None:
    """Refuse a part or a device that does not exist, and cascades; a dry run needs no device."""
    if not 0 <= settings.part_id < settings.num_parts:
        raise InputError(
            f"-part_id is {settings.part_id}: with -num_parts {settings.num_parts} give one from 0 to "
            f"{settings.num_parts - 1}"
        )
    if settings.previous_stage is not None:
        raise InputError(
            "-prev_stage_predictions is for the second model of a cascade, and no trainer of this package makes one: "
            "leave it out"
        )
    if not settings.dry_run:
        pick_device(settings.device)


def _show(
    model: TrainedModel, source: str | InputImages, missing: Sequence[str] | None, available: Sequence[str] | None
) -> None:
    """Say what was taken for what, and that nothing was done."""
    excluded = excluded_modalities(model.modalities, model.subset, missing=missing, available=available)
    cases = find_cases(source if isinstance(source, InputImages) else InputImages(source), model, show=True)
    require_modalities(cases, model.subset)
    for case in cases:
        case.without(excluded)
    if isinstance(source, InputImages) and source.output_name != "{case}":
        for case, name in zip(cases, source.outputs(cases, "", model.dataset_json.file_ending), strict=True):
            log.info("%s: segmentation %s%s", case.identifier, name, model.dataset_json.file_ending)
    for name, reason in excluded.items():
        log.info("%s: %s", name, reason)
    log.info("dry run: %d case%s; no image was opened, nothing was written", len(cases), "s" * (len(cases) != 1))


def _prepare(
    model: TrainedModel,
    source: str | InputImages,
    output: str,
    settings: PredictionSettings,
    missing: Sequence[str] | None,
    available: Sequence[str] | None,
) -> PredictionJob:
    if settings.report:
        evaluated_regions(model.dataset_json.content)  # so that it is refused now
    excluded = excluded_modalities(model.modalities, model.subset, missing=missing, available=available)
    for name, reason in excluded.items():
        log.info("%s: %s", name, reason)
    request = JobRequest(
        source,
        output,
        settings.save_probabilities,
        settings.overwrite,
        settings.previous_stage,
        settings.num_parts,
        settings.part_id,
        settings.uncertainty,
    )
    if settings.uncertainty:
        regions_of(model)  # refuses a model without any
    processes = max(1, settings.preprocessing_processes)
    return prepare_job(model, request, excluded, processes=processes, progress=settings.progress)


def _load(
    model: str, settings: PredictionSettings, missing: Sequence[str] | None, available: Sequence[str] | None
) -> MMKDPredictor:
    """A predictor with a model, which is checked."""
    kind = UncertaintyPredictor if settings.uncertainty else MMKDPredictor
    predictor = kind(
        tile_step_size=settings.step_size,
        use_mirroring=settings.mirroring,
        perform_everything_on_device=settings.on_device and settings.device == "cuda",
        device=pick_device(settings.device),
        verbose=settings.verbose,
        verbose_preprocessing=settings.verbose,
        allow_tqdm=settings.progress,
        missing=missing,
        available=available,
    )
    predictor.initialize_from_trained_model_folder(model, tuple(settings.folds), settings.checkpoint)
    return predictor


def _run(predictor: MMKDPredictor, job: PredictionJob, settings: PredictionSettings) -> None:
    with nullcontext() if settings.verbose else without_chatter():
        predictor.run(job, settings.preprocessing_processes, settings.export_processes)
