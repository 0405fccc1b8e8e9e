"""Segmentations of a model's cases with every subset: ``<output>/<subset>/<case><file ending>``, one file each.

A run that is interrupted goes on where it stopped; what another model, checkpoint or window made is never mixed in.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from time import sleep
from typing import Any

import torch
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.utilities.file_path_utilities import check_workers_alive_and_busy
from torch import Tensor
from tqdm import tqdm

from nnunetv2_mmkd.inference.all_subsets import AllSubsetsPredictor
from nnunetv2_mmkd.inference.reader import partial_folder
from nnunetv2_mmkd.modalities import mask_of
from nnunetv2_mmkd.workers import end_with_starter, orderly_termination
from nnunetv2_mmkd.workflows.evaluate.models import SubsetJob
from nnunetv2_mmkd.workflows.evaluate.prediction_record import PREDICTIONS, prediction_record
from nnunetv2_mmkd.workflows.evaluate.subset_cases import SubsetCase

Todo = dict[str, list[tuple[SubsetCase, tuple[str, ...]]]]
"""Fold -> its cases with segmentations still to be made, and their subsets."""


def predict_missing(job: SubsetJob) -> None:
    """Predict the (case, subset) pairs of a job that have no file yet.

    Raises:
        InputError: the folder holds something else than such predictions, or the network's output is not finite.
    """
    output = job.result.folder
    record = prediction_record(job.predictor, job.window, job.where)
    found = PREDICTIONS.check(output, record, overwrite=job.overwrite) or {"checkpoints": {}}
    record["checkpoints"] = {**found["checkpoints"], **record["checkpoints"]}
    PREDICTIONS.claim(output, record, overwrite=job.overwrite)
    for name in job.subsets:
        (output / name).mkdir(exist_ok=True)
    with orderly_termination():
        _predict(job, _todo(job))


def unpredicted(job: SubsetJob) -> list[str]:
    """The cases of which a segmentation is still to be made."""
    return [case.identifier for group in _todo(job).values() for case, _ in group]


def _todo(job: SubsetJob) -> Todo:
    output, ending = job.result.folder, str(job.predictor.dataset_json["file_ending"])

    def undone(case: str) -> tuple[str, ...]:
        return tuple(name for name in job.result.expected[case] if not (output / name / (case + ending)).is_file())

    return {
        fold: [(case, names) for case in group if (names := undone(case.identifier))]
        for fold, group in job.cases.items()
    }


def _predict(job: SubsetJob, todo: Todo) -> None:
    predictor, total = job.predictor, sum(map(len, todo.values()))
    with (
        tqdm(desc="predicting with all subsets", total=total, unit="case", disable=not job.window.progress) as bar,
        _Exporter(predictor, job.result.folder, job.window.export_processes) as exporter,
    ):
        for fold, group in todo.items():
            if group and fold != "all" and predictor.model.folds != (int(fold),):
                model = predictor.model
                predictor.initialize_from_trained_model_folder(model.folder, (int(fold),), model.checkpoint)
            for case, names in group:
                data, properties = case.load()
                masks = torch.stack([mask_of(predictor.modalities, available=name.split("+")) for name in names])
                logits = predictor.predict_subsets(data, masks, case.identifier)
                exporter.submit(case.identifier, names, logits, properties)
                bar.update()


class _Exporter:
    """Resamples and writes segmentations, in workers as nnU-Net does, or in this process."""

    def __init__(self, predictor: AllSubsetsPredictor, output: Path, processes: int) -> None:
        self.host = (predictor.configuration_manager, predictor.plans_manager, predictor.dataset_json)
        self.folders = {path.name: path for path in output.iterdir() if path.is_dir()}
        self.partial = {name: partial_folder(str(path)) for name, path in self.folders.items()}
        self.results: list[Any] = []
        pool: Any = multiprocessing.get_context("spawn").Pool(processes, end_with_starter) if processes else None
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
