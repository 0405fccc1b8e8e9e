"""Segmentations of labelled cases with every subset: ``<output>/<subset>/<case><file ending>``, one file each.

A run that is interrupted goes on where it stopped; what another model, checkpoint or window made is never mixed in.

Legend: M modalities, S subsets.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import sleep
from typing import Any

import torch
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.utilities.file_path_utilities import check_workers_alive_and_busy
from torch import Tensor
from tqdm import tqdm

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.subsets import all_subset_names, parse_subset, subset_name
from nnunetv2_mmkd.files import Marker, check_writable, differing
from nnunetv2_mmkd.inference.all_subsets import AllSubsetsPredictor
from nnunetv2_mmkd.inference.reader import partial_folder
from nnunetv2_mmkd.inference.run import orderly_termination, pick_device
from nnunetv2_mmkd.modalities import mask_of, modality_names
from nnunetv2_mmkd.workflows.evaluate.subset_cases import (
    SubsetCase,
    folder_cases,
    preprocessed_cases,
    test_cases,
    validation_cases,
)


def _differences(found: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """Why predictions may not be added: folds may be added, those that exist must not have been trained again."""
    old = found.get("checkpoints", {})
    changed = [fold for fold, stamp in old.items() if record["checkpoints"].get(fold, stamp) != stamp]
    return differing(found, record, ignoring=["checkpoints"]) + [f"checkpoint of {fold}" for fold in changed]


PREDICTIONS = Marker(
    "mmkd_predictions.json",
    "predictions of `mmkd evaluate`",
    "choose another -o, or --overwrite such predictions",
    _differences,
)
"""What made the segmentations of a folder, so that nothing is mixed in by a later run."""


@dataclass(frozen=True)
class WindowSettings:
    """nnU-Net's settings of the sliding window, with its defaults.

    Attributes:
        step_size: in patches.
        mirroring: test-time augmentation.
        device: ``"cuda"``, ``"cpu"`` or ``"mps"``.
        on_device: keep the results on the device. All subsets' heads are kept at once: S times the usual memory.
        export_processes: workers that resample and write; 0 for none.
        progress: show progress bars.
    """

    step_size: float = 0.5
    mirroring: bool = True
    device: str = "cuda"
    on_device: bool = True
    export_processes: int = 3
    progress: bool = True


@dataclass(frozen=True)
class SubsetPredictions:
    """A folder of segmentations with subsets.

    Attributes:
        folder: ``<subset>/<case><file ending>`` are in it.
        labels: folder of the truth.
        dataset_json: the model's.
        subsets: names, in order.
        folds: case -> the fold that predicted it (``"all"``: all that were asked for, averaged).
        expected: case -> the subsets that it can be predicted with.
        dataset_name: nnU-Net's name of the data set the cases are of.
    """

    folder: Path
    labels: Path
    dataset_json: dict[str, Any]
    subsets: tuple[str, ...]
    folds: dict[str, str]
    expected: dict[str, tuple[str, ...]]
    dataset_name: str = ""


def choose_subsets(chosen: Sequence[str], modalities: Sequence[str]) -> tuple[str, ...]:
    """Subset names from what the user types: ``all``, ``singles``, ``full``, or subsets such as ``t1+t2``.

    Raises:
        InputError: an unknown modality or word.
    """
    everything = all_subset_names(modalities)
    words = {"all": everything, "singles": list(modalities), "full": [everything[-1]]}
    names: list[str] = []
    for word in chosen:
        names += words.get(word.lower()) or [subset_name(parse_subset(word, modalities), modalities)]
    return tuple(name for name in everything if name in names)


@dataclass(frozen=True)
class SubsetJob:
    """A prediction with all subsets that has been checked and not begun.

    Attributes:
        predictor: with the model loaded.
        cases: by the fold that predicts them.
        result: what will exist afterwards.
        settings: of the sliding window.
        overwrite: throw away what another model, checkpoint or window made.
        where: what the cases are, where it is not the validation cases: folder of the images, or ``"test"``.
    """

    predictor: AllSubsetsPredictor
    cases: dict[str, list[SubsetCase]]
    result: SubsetPredictions
    settings: WindowSettings
    overwrite: bool
    where: str | None

    def check(self) -> None:
        """See that the folder is free or holds the same kind of predictions.

        Raises:
            InputError: it holds something else.
        """
        PREDICTIONS.check(self.result.folder, self._record(), overwrite=self.overwrite)

    def run(self) -> SubsetPredictions:
        """Predict what does not exist yet.

        Raises:
            InputError: as :meth:`check`.
        """
        output, ending = self.result.folder, str(self.predictor.dataset_json["file_ending"])
        record = self._record()
        found = PREDICTIONS.check(output, record, overwrite=self.overwrite) or {"checkpoints": {}}
        record["checkpoints"] = {**found["checkpoints"], **record["checkpoints"]}
        PREDICTIONS.claim(output, record, overwrite=self.overwrite)
        for name in self.result.subsets:
            (output / name).mkdir(exist_ok=True)
        todo = {
            fold: [(case, _undone(output, case, self.result.expected[case.identifier], ending)) for case in group]
            for fold, group in self.cases.items()
        }
        with orderly_termination():
            _predict(self.predictor, todo, output, self.settings)
        return self.result

    def _record(self) -> dict[str, Any]:
        return _record(self.predictor, self.settings, self.where)


def prepare_all_subsets(
    model: str,
    output: Path,
    *,
    subsets: Sequence[str] = ("all",),
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    images: str | None = None,
    labels: str | None = None,
    test: bool = False,
    settings: WindowSettings | None = None,
    overwrite: bool = False,
) -> SubsetJob:
    """Check everything for predicting labelled cases with every subset of what they have. Writes nothing.

    Validation cases are each predicted by the fold that did not train on them; test cases and a folder of images by
    all folds, averaged as nnU-Net does.

    Args:
        model: model folder.
        output: folder for the segmentations.
        subsets: see :func:`choose_subsets`. A case gets those that it has all images of.
        folds: default: all that have the checkpoint.
        checkpoint: file name.
        images: folder of images instead of the validation cases.
        labels: their segmentations.
        test: the data set's test cases instead of the validation cases.
        settings: of the sliding window.
        overwrite: throw away what is in ``output`` from another model, checkpoint or window.

    Returns:
        The job; of a specialist with its own subset alone.

    Raises:
        InputError: anything wrong with model, cases or output.
    """
    settings = settings or WindowSettings()
    if (images is None) != (labels is None):
        raise InputError("-i and -l belong together: a folder of images, and one of their segmentations")
    if images is not None and test:
        raise InputError("--test takes the cases from the data set: leave out -i and -l")
    check_writable(str(output))
    predictor = AllSubsetsPredictor(
        tile_step_size=settings.step_size,
        use_mirroring=settings.mirroring,
        perform_everything_on_device=settings.on_device,
        device=pick_device(settings.device),
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(model, folds, checkpoint)
    chosen = _of_model(choose_subsets(subsets, predictor.modalities), predictor)
    used = predictor.model.folds
    if images is None:
        listed = test_cases if test else validation_cases
        truth = listed(model, predictor.plans_manager.dataset_name, used)
        folder, by_fold = truth.labels, {f: preprocessed_cases(predictor, cases) for f, cases in truth.cases.items()}
    else:
        folder, by_fold = str(labels), {"all": folder_cases(predictor, images, settings.progress)}
    ending = predictor.dataset_json["file_ending"]
    cases = [case for group in by_fold.values() for case in group]
    _check_labels(folder, cases, ending)
    expected = {case.identifier: _possible(case, chosen, predictor.modalities) for case in cases}
    result = SubsetPredictions(
        output,
        Path(folder),
        dict(predictor.dataset_json),
        chosen,
        {case.identifier: fold for fold, group in by_fold.items() for case in group},
        expected,
        predictor.plans_manager.dataset_name,
    )
    where = "test" if test else None if images is None else os.path.abspath(images)
    job = SubsetJob(predictor, by_fold, result, settings, overwrite, where)
    job.check()
    return job


def _of_model(chosen: tuple[str, ...], predictor: AllSubsetsPredictor) -> tuple[str, ...]:
    """The chosen subsets that a model takes: a specialist its own, any other model all."""
    if not predictor.subset:
        return chosen
    own = subset_name(predictor.subset, predictor.modalities)
    if own not in chosen:
        raise InputError(
            f"{predictor.model.folder} is a specialist for {own}, which --subsets leaves out: add it, or leave out the "
            "model"
        )
    return (own,)


def _predict(
    predictor: AllSubsetsPredictor,
    todo: dict[str, list[tuple[SubsetCase, tuple[str, ...]]]],
    output: Path,
    settings: WindowSettings,
) -> None:
    total = sum(len(names) > 0 for group in todo.values() for _, names in group)
    with (
        tqdm(desc="predicting with all subsets", total=total, unit="case", disable=not settings.progress) as bar,
        _Exporter(predictor, output, settings.export_processes) as exporter,
    ):
        for fold, group in todo.items():
            group = [(case, names) for case, names in group if names]
            if group and fold != "all" and predictor.model.folds != (int(fold),):
                model = predictor.model
                predictor.initialize_from_trained_model_folder(model.folder, (int(fold),), model.checkpoint)
            for case, names in group:
                data, properties = case.load()
                masks = torch.stack([mask_of(predictor.modalities, available=name.split("+")) for name in names])
                logits = predictor.predict_subsets(data, masks)
                _check_finite(logits, case.identifier, names)
                exporter.submit(case.identifier, names, logits, properties)
                bar.update()


def _check_finite(logits: Tensor, case: str, names: Sequence[str]) -> None:
    """NaN would become background without a word."""
    for name, each in zip(names, logits, strict=True):
        if not torch.isfinite(each).all():
            raise InputError(
                f"case {case} with {name}: the network's output is NaN or infinite. Its training has diverged, or half "
                "precision overflows; nothing was written for this case"
            )


class _Exporter:
    """Resamples and writes segmentations, in workers as nnU-Net does, or in this process."""

    def __init__(self, predictor: AllSubsetsPredictor, output: Path, processes: int) -> None:
        self.host = (predictor.configuration_manager, predictor.plans_manager, predictor.dataset_json)
        self.folders = {path.name: path for path in output.iterdir() if path.is_dir()}
        self.partial = {name: partial_folder(str(path)) for name, path in self.folders.items()}
        self.results: list[Any] = []
        pool: Any = multiprocessing.get_context("spawn").Pool(processes) if processes else None
        self.pool = pool
        self.workers = list(pool._pool) if processes else []

    def __enter__(self) -> _Exporter:
        return self

    def submit(self, case: str, names: Sequence[str], logits: Tensor, properties: dict[str, Any]) -> None:
        """Export the segmentations of a case."""
        work = [
            (logits[index], properties, *self.host, os.path.join(self.partial[name], case))
            for index, name in enumerate(names)
        ]
        if self.pool is None:
            for arguments in work:
                export_prediction_from_logits(*arguments)
            return
        while check_workers_alive_and_busy(self.pool, self.workers, self.results, allowed_num_queued=2):
            sleep(0.1)
        self.results.append(self.pool.starmap_async(export_prediction_from_logits, work))

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None:
                for result in self.results:
                    result.get()
        finally:
            if self.pool is not None:
                self.pool.terminate()
                self.pool.join()
            for folder in self.partial.values():
                shutil.rmtree(folder, ignore_errors=True)


def _possible(case: SubsetCase, chosen: Sequence[str], modalities: Sequence[str]) -> tuple[str, ...]:
    masks = {name: mask_of(modalities, available=name.split("+")) for name in chosen}
    return tuple(name for name, mask in masks.items() if not bool((mask & ~case.available).any()))


def _undone(output: Path, case: SubsetCase, names: Sequence[str], ending: str) -> tuple[str, ...]:
    return tuple(name for name in names if not (output / name / (case.identifier + ending)).is_file())


def _check_labels(folder: str, cases: Sequence[SubsetCase], ending: str) -> None:
    if not os.path.isdir(folder):
        raise InputError(f"the folder of labels {folder} does not exist")
    for case in cases:
        if not os.path.isfile(os.path.join(folder, case.identifier + ending)):
            raise InputError(
                f"case {case.identifier} has no label {case.identifier}{ending} in {folder}: add it, or take the "
                "case's images out of the input"
            )


def _record(predictor: AllSubsetsPredictor, settings: WindowSettings, where: str | None) -> dict[str, Any]:
    """What must agree for segmentations to be of one kind."""
    checkpoints = {}
    for path in sorted(Path(predictor.model.folder).glob(f"fold_*/{predictor.model.checkpoint}")):
        status = path.stat()
        checkpoints[path.parent.name] = [status.st_size, status.st_mtime_ns]
    described = predictor.model.as_json()
    if where is None:
        del described["folds"]  # each case is predicted by one of them; others may be added
    window = {key: value for key, value in asdict(settings).items() if key in ("step_size", "mirroring")}
    modalities = list(modality_names(predictor.dataset_json))
    return {
        "model": described,
        "checkpoints": checkpoints,
        "modalities": modalities,
        "window": window,
        "images": where,
    }
