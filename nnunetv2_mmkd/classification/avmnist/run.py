"""All trainings of the table, each kept in a file, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from nnunetv2_mmkd import __version__
from nnunetv2_mmkd.classification.avmnist.digits import read_digits
from nnunetv2_mmkd.classification.avmnist.pairs import MODALITIES, Parts, make_parts, needed, with_rate
from nnunetv2_mmkd.classification.avmnist.protocol import LOWER, UPPER, Job, Protocol, jobs_of
from nnunetv2_mmkd.classification.avmnist.sounds import Clip, find_clips, read_sounds
from nnunetv2_mmkd.classification.encoders import ImageEncoder, SoundEncoder
from nnunetv2_mmkd.classification.network import MultiModalClassifier
from nnunetv2_mmkd.classification.prediction import predict
from nnunetv2_mmkd.classification.subjects import Subjects
from nnunetv2_mmkd.classification.training import Curves, train
from nnunetv2_mmkd.files import differing, locked, read_marker, write_text
from nnunetv2_mmkd.modalities import mask_of

RUNS = "runs"
"""Folder of the trainings' results, in the output folder."""


@dataclass(frozen=True)
class Data:
    """Everything that is read.

    Attributes:
        images, labels: as :func:`~nnunetv2_mmkd.classification.avmnist.digits.read_digits` gives them.
        clips, sounds: the clips and their MFCC.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    clips: Sequence[Clip]
    sounds: NDArray[np.float32]

    def parts(self, protocol: Protocol, seed: int) -> Parts:
        """The three parts of a repetition."""
        return make_parts(self.images, self.labels, self.clips, self.sounds, seed, protocol.published_split)


@dataclass(frozen=True)
class Outcome:
    """What is kept of a training.

    Attributes:
        test: for each test subject whether it was classified rightly, with the modality that the cell tests.
        validation: the same of the validation part, for looking at settings; nothing is chosen by it.
        curves: what the method learned, a value per epoch.
    """

    test: NDArray[np.bool_]
    validation: NDArray[np.bool_]
    curves: Curves


def read_data(mnist: Path, fsdd: Path, progress: bool = False) -> Data:
    """Read digits and sounds.

    Raises:
        InputError: files that are not there or hold something else.
    """
    images, labels = read_digits(mnist)
    clips = needed(find_clips(fsdd))
    return Data(images, labels, clips, read_sounds(clips, progress))


def make_network(modalities: Sequence[str], width: int, seed: int) -> MultiModalClassifier:
    """A fresh network for these modalities; the random state of the caller stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kinds = {"image": ImageEncoder, "audio": SoundEncoder}
        return MultiModalClassifier({name: kinds[name](width) for name in modalities}, classes=10)


def run_job(job: Job, parts: Parts, protocol: Protocol) -> Outcome:
    """Train and test once.

    The validation part is masked at the same rate where a method looks at it; the test part only serves for testing.
    """
    tested: tuple[str, ...] = MODALITIES
    modalities: tuple[str, ...] = MODALITIES
    training, held_out = parts.training, parts.validation
    if job.arm == LOWER:
        assert job.cell is not None
        tested = modalities = (job.cell.known,)
        training, held_out = training.only(modalities), held_out.only(modalities)
    elif job.arm != UPPER:
        assert job.cell is not None
        tested = (job.cell.known,)
        training = with_rate(training, job.cell.scarce, job.cell.rate, job.seed)
        held_out = with_rate(held_out, job.cell.scarce, job.cell.rate, job.seed)
    settings = replace(protocol.train, seed=job.seed)
    network = make_network(modalities, protocol.width, job.seed)
    curves = train(network, protocol.method(job.arm, job.seed), training, held_out, settings)
    right = [
        _right(network, part.only(modalities), mask_of(modalities, available=tested))
        for part in (parts.test, parts.validation)
    ]
    return Outcome(right[0].numpy(), right[1].numpy(), curves)


def _right(network: MultiModalClassifier, subjects: Subjects, available: Tensor) -> Tensor:
    return predict(network, subjects, available).argmax(1) == subjects.labels


def run_all(data: Data, protocol: Protocol, output: Path, *, processes: int = 1, progress: bool = True) -> None:
    """Run every training that is not kept yet.

    Args:
        data: digits and sounds.
        protocol: what to run.
        output: folder; results go to ``runs/`` in it.
        processes: at a time, one thread each.
        progress: show a progress bar.

    Raises:
        InputError: data that do not suffice for the parts, before anything is trained.
    """
    jobs = list(jobs_of(protocol))
    for seed in range(protocol.seeds):
        parts = data.parts(protocol, seed)
        for cell in protocol.cells:
            for part in (parts.training, parts.validation):
                with_rate(part, cell.scarce, cell.rate, seed)
    waiting = [job for job in jobs if read_outcome(job, protocol, output) is None]
    with (
        locked(output),
        tqdm(total=len(jobs), initial=len(jobs) - len(waiting), desc="trainings", disable=not progress) as bar,
    ):
        for _ in _map(waiting, data, protocol, output, processes):
            bar.update()


def _map(jobs: Sequence[Job], data: Data, protocol: Protocol, output: Path, processes: int) -> Iterator[None]:
    if processes < 2 or len(jobs) < 2:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the networks are so small that more threads only wait for one another
        try:
            worker = _Worker(data, protocol, output)
            for job in jobs:
                worker.run(job)
                yield
        finally:
            torch.set_num_threads(threads)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), context, _start, (data, protocol, output)) as pool:
        try:
            yield from pool.map(_work, jobs)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Worker:
    """Runs trainings and keeps their results; parts of the last seed stay in memory."""

    def __init__(self, data: Data, protocol: Protocol, output: Path) -> None:
        self.data, self.protocol, self.output = data, protocol, output
        self._parts: tuple[int, Parts] | None = None

    def run(self, job: Job) -> None:
        if self._parts is None or self._parts[0] != job.seed:
            self._parts = (job.seed, self.data.parts(self.protocol, job.seed))
        keep_outcome(run_job(job, self._parts[1], self.protocol), job, self.protocol, self.output)


_worker: _Worker


def _start(data: Data, protocol: Protocol, output: Path) -> None:
    global _worker
    torch.set_num_threads(1)
    _worker = _Worker(data, protocol, output)


def _work(job: Job) -> None:
    _worker.run(job)


def _about(job: Job, protocol: Protocol) -> dict[str, Any]:
    """What a kept result must have been made with."""
    settings = {key: value for key, value in asdict(protocol).items() if key not in ("seeds", "arms", "rates")}
    cell = None if job.cell is None else asdict(job.cell)
    if job.arm == LOWER:
        cell = {"known": job.cell.known if job.cell else None}
    return {"version": __version__, "seed": job.seed, "arm": job.arm, "cell": cell, "settings": settings}


def keep_outcome(outcome: Outcome, job: Job, protocol: Protocol, output: Path) -> None:
    """Write the result of a training."""
    state: Mapping[str, Any] = {
        "about": _about(job, protocol),
        "test": "".join(map(str, outcome.test.astype(int))),
        "validation": "".join(map(str, outcome.validation.astype(int))),
        "curves": outcome.curves,
    }
    file = output / RUNS / f"{job.name}.json"
    write_text(file, json.dumps(state))


def read_outcome(job: Job, protocol: Protocol, output: Path) -> Outcome | None:
    """The result of a training; None if it is not there, damaged, or of other settings."""
    state = read_marker(output / RUNS / f"{job.name}.json") or {}
    try:
        if differing(state["about"], _about(job, protocol)):
            return None
        parts = [np.array([digit == "1" for digit in state[part]]) for part in ("test", "validation")]
        return Outcome(parts[0], parts[1], state["curves"])
    except (ValueError, KeyError, TypeError):
        return None
