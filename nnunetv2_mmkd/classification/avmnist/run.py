"""All trainings of the table, each stored in a file, so that an interrupted run continues where it stopped."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from nnunetv2_mmkd import __version__
from nnunetv2_mmkd.classification.avmnist.pairs import DIGITS, MODALITIES, AudiovisionData, with_rate
from nnunetv2_mmkd.classification.avmnist.protocol import LOWER, AudiovisionProtocol, TrainingJob
from nnunetv2_mmkd.classification.encoders import ImageEncoder, SoundEncoder
from nnunetv2_mmkd.classification.prediction import predict_probabilities
from nnunetv2_mmkd.classification.rivals import builder_of
from nnunetv2_mmkd.classification.subjects import DataSplit, Subjects
from nnunetv2_mmkd.classification.training import Curves, train_classifier
from nnunetv2_mmkd.files import differing, locked, read_marker, write_text
from nnunetv2_mmkd.modalities import mask_of
from nnunetv2_mmkd.workers import end_with_starter

RUNS = "runs"
"""Folder of the trainings' results, in the output folder."""


@dataclass(frozen=True)
class TrainingResult:
    """What is stored of a training.

    Attributes:
        test: for each test subject whether it was classified correctly, with the modality that the cell tests.
        validation: the same of the validation part, for comparing settings; nothing is chosen by it.
        curves: what the method learned, a value per epoch.
    """

    test: NDArray[np.bool_]
    validation: NDArray[np.bool_]
    curves: Curves


def run_job(job: TrainingJob, split: DataSplit, protocol: AudiovisionProtocol) -> TrainingResult:
    """Train and test once.

    The validation part is masked at the same rate where a method uses it; the test part only serves for testing.
    """
    tested = MODALITIES if job.cell is None else (job.cell.known,)
    modalities = tested if job.arm == LOWER else MODALITIES
    training, held_out = split.training.only(modalities), split.validation.only(modalities)
    if job.cell is not None and job.arm != LOWER:
        training, held_out = (
            with_rate(part, job.cell.scarce, job.cell.rate, job.seed) for part in (training, held_out)
        )
    encoders = {"image": ImageEncoder, "audio": SoundEncoder}
    network = builder_of(job.arm)(lambda name: encoders[name](protocol.width), modalities, len(DIGITS), job.seed)
    settings = replace(protocol.settings(job.arm), seed=job.seed)
    curves = train_classifier(network, protocol.method(job.arm, job.seed), training, held_out, settings)
    available = mask_of(modalities, available=tested)

    def correct(subjects: Subjects) -> NDArray[np.bool_]:
        predicted = predict_probabilities(network, subjects.only(modalities), available).argmax(1)
        return (predicted == subjects.labels).numpy()

    return TrainingResult(correct(split.test), correct(split.validation), curves)


def run_all(
    data: AudiovisionData, protocol: AudiovisionProtocol, output: Path, *, processes: int = 1, progress: bool = True
) -> None:
    """Run every training that has no stored result yet.

    Args:
        data: digits and sounds.
        protocol: what to run.
        output: folder; results go to ``runs/`` in it.
        processes: at a time, one thread each.
        progress: show a progress bar.

    Raises:
        InputError: data that do not suffice for the split, before anything is trained.
    """
    for seed in range(protocol.seeds):
        split = data.split(seed, protocol.published_split)
        for cell in protocol.cells:
            for part in (split.training, split.validation):
                with_rate(part, cell.scarce, cell.rate, seed)
    jobs = protocol.jobs
    waiting = [job for job in jobs if read_result(job, protocol, output) is None]
    with (
        locked(output),
        tqdm(total=len(jobs), initial=len(jobs) - len(waiting), desc="trainings", disable=not progress) as bar,
    ):
        for _ in _map(waiting, data, protocol, output, processes):
            bar.update()


def _map(
    jobs: Sequence[TrainingJob], data: AudiovisionData, protocol: AudiovisionProtocol, output: Path, processes: int
) -> Iterator[None]:
    run = partial(_run_and_store, data=data, protocol=protocol, output=output)
    if processes < 2 or len(jobs) < 2:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the networks are so small that more threads only wait for one another
        try:
            yield from map(run, jobs)
        finally:
            torch.set_num_threads(threads)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), context, _start_worker) as pool:
        yield from pool.map(run, jobs)


def _start_worker() -> None:
    end_with_starter()
    torch.set_num_threads(1)


def _run_and_store(job: TrainingJob, data: AudiovisionData, protocol: AudiovisionProtocol, output: Path) -> None:
    store_result(run_job(job, data.split(job.seed, protocol.published_split), protocol), job, protocol, output)


def _about(job: TrainingJob, protocol: AudiovisionProtocol) -> dict[str, Any]:
    """What a stored result must have been made with."""
    settings = {key: value for key, value in asdict(protocol).items() if key not in ("seeds", "arms", "rates")}
    settings["train"] = protocol.settings(job.arm).stored()
    cell = None if job.cell is None else asdict(job.cell)
    if job.cell is not None and job.arm == LOWER:
        cell = {"known": job.cell.known}
    return {"version": __version__, "seed": job.seed, "arm": job.arm, "cell": cell, "settings": settings}


def store_result(result: TrainingResult, job: TrainingJob, protocol: AudiovisionProtocol, output: Path) -> None:
    """Write the result of a training."""
    state = {
        "about": _about(job, protocol),
        "test": "".join(map(str, result.test.astype(int))),
        "validation": "".join(map(str, result.validation.astype(int))),
        "curves": result.curves,
    }
    write_text(output / RUNS / f"{job.name}.json", json.dumps(state))


def read_result(job: TrainingJob, protocol: AudiovisionProtocol, output: Path) -> TrainingResult | None:
    """The result of a training; None if it does not exist, is damaged, or is of other settings."""
    state = read_marker(output / RUNS / f"{job.name}.json") or {}
    try:
        if differing(state["about"], _about(job, protocol)):
            return None
        parts = [np.array([digit == "1" for digit in state[part]]) for part in ("test", "validation")]
        return TrainingResult(parts[0], parts[1], state["curves"])
    except (ValueError, KeyError, TypeError):
        return None
