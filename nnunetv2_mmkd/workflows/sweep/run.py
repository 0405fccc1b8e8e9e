"""What ``mmkd sweep`` does: check everything, train, evaluate, pool the seeds; what is finished is left alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.crossval_split import generate_crossval_split
from tqdm import tqdm

from nnunetv2_mmkd.evaluation.table_files import write_table
from nnunetv2_mmkd.files import locked, write_json, write_text
from nnunetv2_mmkd.output_folders import check_writable
from nnunetv2_mmkd.protocols.missing_rates import write_rates
from nnunetv2_mmkd.protocols.splits import USUAL_FOLDS
from nnunetv2_mmkd.workflows.sweep.checks import CheckedSweep, check_sweep, naming
from nnunetv2_mmkd.workflows.sweep.cluster import ClusterEngine
from nnunetv2_mmkd.workflows.sweep.definition import Sweep
from nnunetv2_mmkd.workflows.sweep.guard import GRACE
from nnunetv2_mmkd.workflows.sweep.local import run_local
from nnunetv2_mmkd.workflows.sweep.process import log_of, state_of, wait_for_earlier
from nnunetv2_mmkd.workflows.sweep.tables import write_tables
from nnunetv2_mmkd.workflows.sweep.tasks import Task, Training, evaluations_of, trainings_of

T = TypeVar("T", bound=Task)

log = logging.getLogger(__name__)

Engine = Callable[[Sequence[Task], Callable[[Task, bool], None]], None]
"""Runs tasks, and calls the function with each that has ended and whether it ended well."""


@dataclass(frozen=True)
class SweepSettings:
    """How a sweep is run.

    Attributes:
        engine: ``local``, ``slurm`` or ``submitit``; the last tries a cluster's way with submitit's local executor.
        processes: tasks at a time, on this machine.
        dry_run: check and list the tasks, write nothing.
        progress: show a bar.
        patience: seconds between looks at a cluster's queue.
    """

    engine: str = "local"
    processes: int = 1
    dry_run: bool = False
    progress: bool = True
    patience: float = 15.0


@dataclass(frozen=True)
class TaskRow:
    """A task in the table of tasks: its state is done, skipped (finished before), failed, waiting (not begun), or, in a
    dry run, finished, goes on or new."""

    task: str
    state: str
    seconds: float | None = None
    log: str = ""


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep ended.

    Attributes:
        lines: for the reader.
        problems: what failed, the first one first; empty: nothing.
    """

    lines: tuple[str, ...]
    problems: tuple[str, ...]


def run_sweep(file: Path, output: Path, settings: SweepSettings) -> SweepOutcome:
    """Run what a file asks for.

    Args:
        file: see :func:`~nnunetv2_mmkd.workflows.sweep.definition.read_sweep`.
        output: folder for logs, evaluations and tables; models go to nnUNet_results.
        settings: how.

    Raises:
        InputError: anything wrong with file, installation, data or output, before the first task.
    """
    check_writable(str(output))
    with nullcontext() if settings.dry_run else locked(output):
        return _run_sweep(file, output, settings)


def _run_sweep(file: Path, output: Path, settings: SweepSettings) -> SweepOutcome:
    checked = check_sweep(file, None if settings.engine == "local" else "cpu")
    sweep, models, output = checked.sweep, list(checked.models), output.absolute()
    trainings = trainings_of(sweep, models, output)
    evaluations = evaluations_of(sweep, models, output)
    tasks: list[Task] = [*trainings, *evaluations]
    with naming(f"{file}: "):
        engine = _engine(sweep, output, settings)
    wait_for_earlier(tasks, 0 if settings.dry_run else GRACE + 5)
    if settings.dry_run:
        return SweepOutcome((_listed([TaskRow(task.name, _outlook(task)) for task in tasks]),), ())
    _prepare(checked)
    with tqdm(desc=file.stem, total=len(tasks), unit="task", disable=not settings.progress) as bar:
        trained, rows = _run(trainings, engine, bar)
        ready = [each for each in evaluations if all(task in trained for task in trainings if task.model == each.model)]
        scored, more = _run(ready, engine, bar)
    rows += [*more, *(TaskRow(each.name, "waiting") for each in evaluations if each not in ready)]
    problems = _failures(rows)
    lines: list[str] = []
    if scored:
        lines, not_compared = write_tables(sweep, scored, checked.data_set.modalities, output)
        problems += [f"not compared: {each}" for each in not_compared]
    write_table(pd.DataFrame(rows), output / "tasks.csv")
    write_text(output / "tasks.md", _listed(rows))
    return SweepOutcome((*lines, str(output / "tasks.md"), "", _listed(rows)), tuple(problems))


def _engine(sweep: Sweep, output: Path, settings: SweepSettings) -> Engine:
    if settings.engine != "local":
        cluster = "slurm" if settings.engine == "slurm" else "local"
        return ClusterEngine(output / "submitit", sweep.slurm, cluster, settings.patience).run
    devices: list[str] = []
    if sweep.device == "cuda" and settings.processes > 1 and torch.cuda.device_count() > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        devices = visible.split(",") if visible else [str(each) for each in range(torch.cuda.device_count())]
    return partial(run_local, processes=settings.processes, devices=devices)


def _prepare(checked: CheckedSweep) -> None:
    """Write what the tasks would otherwise all write: missing-rate tables, and nnU-Net's splits."""
    number = int(checked.data_set.name.removeprefix("Dataset").partition("_")[0])
    for rates in checked.unwritten:
        for line in write_rates(number, rates.tag, rates=rates.words(), seed=rates.seed).lines():
            log.info("%s", line)
    if not checked.splits.is_file():
        # as nnUNetTrainer.do_split, which writes them where there are none
        folder = str(checked.preprocessed_cases)
        cases = np.sort(list(infer_dataset_class(folder).get_identifiers(folder)))
        splits = generate_crossval_split(list(cases), seed=12345, n_splits=USUAL_FOLDS)
        write_json(checked.splits, [{part: list(map(str, fold[part])) for part in ("train", "val")} for fold in splits])


def _run(tasks: Sequence[T], engine: Engine, bar: tqdm) -> tuple[list[T], list[TaskRow]]:
    """Run what is not finished; returns the finished tasks, and a row per task, in order."""
    states = {task.name: "skipped" for task in tasks if task.finished()}
    bar.update(len(states))

    def ended(task: Task, good: bool) -> None:
        states[task.name] = "done" if good else "failed"
        if not good:
            log.warning("%s failed: %s", task.name, log_of(task))
        bar.update()

    to_do = [task for task in tasks if task.name not in states]
    if to_do:
        engine(to_do, ended)
    rows = [TaskRow(task.name, states[task.name], state_of(task).get("seconds"), str(log_of(task))) for task in tasks]
    return [task for task in tasks if states[task.name] != "failed"], rows


def _outlook(task: Task) -> str:
    if task.finished():
        return "finished"
    return "goes on" if isinstance(task, Training) and task.begun() else "new"


def _failures(rows: Sequence[TaskRow]) -> list[str]:
    failed = [row for row in rows if row.state == "failed"]
    if not failed:
        return []
    return [f"{len(failed)} of {len(rows)} tasks failed, first {failed[0].task}; see {failed[0].log}"]


def _listed(rows: Sequence[TaskRow]) -> str:
    lines = ["| task | state | time |", "|---|---|--:|"]
    lines += [f"| {row.task} | {row.state} | {_time(row.seconds)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
