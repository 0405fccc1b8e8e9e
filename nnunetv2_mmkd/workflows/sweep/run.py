"""What ``mmkd sweep`` does: check everything, train, evaluate, pool the seeds; what is finished is left alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.crossval_split import generate_crossval_split
from tqdm import tqdm

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.table_files import write_table
from nnunetv2_mmkd.files import check_writable, locked, write_json, write_text
from nnunetv2_mmkd.protocols.missing_rates import write_rates
from nnunetv2_mmkd.workflows.sweep.checks import FOLDS, Checked, check
from nnunetv2_mmkd.workflows.sweep.cluster import ClusterEngine
from nnunetv2_mmkd.workflows.sweep.definition import Sweep, read_sweep
from nnunetv2_mmkd.workflows.sweep.local import LocalEngine
from nnunetv2_mmkd.workflows.sweep.process import log_of, runs_elsewhere, state_of
from nnunetv2_mmkd.workflows.sweep.tables import write_tables
from nnunetv2_mmkd.workflows.sweep.tasks import Task, Training, evaluations_of, trainings_of

log = logging.getLogger(__name__)

ENGINES = ("local", "slurm", "submitit")


class Engine(Protocol):
    """Runs tasks."""

    def run(self, tasks: Sequence[Task], ended: Ended) -> None:
        """Run tasks and tell of each how it ended."""
        ...


class Ended(Protocol):
    """Is told how a task ended."""

    def __call__(self, task: Task, good: bool, /) -> None: ...


@dataclass(frozen=True)
class Settings:
    """How a sweep is run.

    Attributes:
        engine: of :data:`ENGINES`; ``submitit`` tries a cluster's way with submitit's local executor.
        processes: tasks at a time, on this machine.
        dry_run: check and tell, write nothing.
        progress: show a bar.
        patience: seconds between looks at a cluster's queue.
    """

    engine: str = "local"
    processes: int = 1
    dry_run: bool = False
    progress: bool = True
    patience: float = 15.0


@dataclass(frozen=True)
class Row:
    """A task in the table of tasks: its state is done, skipped (finished before), failed, waiting (not begun), or, of
    what is still to do in a dry run, new or goes on."""

    task: str
    state: str
    seconds: float | None
    log: str


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended.

    Attributes:
        lines: for the reader.
        problems: what failed, the first one first; empty: nothing.
    """

    lines: tuple[str, ...]
    problems: tuple[str, ...]


def run_sweep(file: Path, output: Path, settings: Settings) -> Outcome:
    """Run what a file asks for.

    Args:
        file: see :func:`~nnunetv2_mmkd.workflows.sweep.definition.read_sweep`.
        output: folder for logs, evaluations and tables; models go to nnUNet_results.
        settings: how.

    Raises:
        InputError: anything wrong with file, installation, data or output, before the first task.
    """
    sweep = read_sweep(file)
    check_writable(str(output))
    checked = check(sweep, None if settings.engine == "local" else "cpu")
    output = output.absolute()
    models = list(checked.models)
    trainings = trainings_of(sweep, models, output)
    evaluations = evaluations_of(sweep, models, output)
    tasks: list[Task] = [*trainings, *evaluations]
    engine = _engine(sweep, output, settings)
    for task in tasks:
        busy = runs_elsewhere(task)
        if busy is not None:
            raise InputError(
                f"{task.name} is being run by process {busy}, of an earlier sweep in {output}: wait for it or end it"
            )
    if settings.dry_run:
        rows = [Row(task.name, _outlook(task), None, "") for task in tasks]
        return Outcome((_listed(rows),), ())
    with locked(output):
        _prepare(checked)
        with tqdm(desc=sweep.file.stem, total=len(tasks), unit="task", disable=not settings.progress) as bar:
            rows = _run(trainings, engine, bar)
            trained = {row.task for row in rows if row.state in ("done", "skipped")}
            ready = [
                each
                for each in evaluations
                if all(task.name in trained for task in trainings if task.model == each.model)
            ]
            rows += _run(ready, engine, bar)
        rows += [Row(each.name, "waiting", None, "") for each in evaluations if each not in ready]
        scored = {row.task for row in rows if row.state in ("done", "skipped")}
        there = [each for each in ready if each.name in scored]
        problems = _failures(rows)
        lines: list[str] = []
        if there:
            lines, odd = write_tables(sweep, there, checked.modalities, output)
            problems += [f"not compared: {each}" for each in odd]
        write_table(pd.DataFrame(rows), output / "tasks.csv")
        write_text(output / "tasks.md", _listed(rows))
        return Outcome((*lines, str(output / "tasks.md"), "", _listed(rows)), tuple(problems))


def _engine(sweep: Sweep, output: Path, settings: Settings) -> Engine:
    if settings.engine == "local":
        devices: list[str] = []
        if sweep.device == "cuda" and settings.processes > 1 and torch.cuda.device_count() > 1:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            devices = visible.split(",") if visible else [str(each) for each in range(torch.cuda.device_count())]
        return LocalEngine(settings.processes, devices)
    cluster = "slurm" if settings.engine == "slurm" else "local"
    try:
        return ClusterEngine(output / "submitit", sweep.slurm, cluster, settings.patience)
    except InputError as error:
        raise InputError(f"{sweep.file}: {error}") from error


def _prepare(checked: Checked) -> None:
    """Write what the tasks would otherwise write side by side: missing-rate tables, and nnU-Net's splits."""
    number = int(checked.preprocessed.name.removeprefix("Dataset").partition("_")[0])
    for rates in checked.unwritten:
        words = [f"{name}={rate}" for name, rate in (rates.rates or {}).items()]
        for line in write_rates(number, rates.tag, rates=words, seed=rates.seed).lines():
            log.info("%s", line)
    if not checked.splits:
        # as nnUNetTrainer.do_split, which writes them where they are not there
        cases = sorted(infer_dataset_class(str(checked.data)).get_identifiers(str(checked.data)))
        splits = generate_crossval_split(list(np.sort(cases)), seed=12345, n_splits=FOLDS)
        plain = [{part: [str(case) for case in fold[part]] for part in ("train", "val")} for fold in splits]
        write_json(checked.preprocessed / "splits_final.json", plain)


def _run(tasks: Sequence[Task], engine: Engine, bar: tqdm) -> list[Row]:
    """Run what is not finished; a row per task, in order."""
    states = {}
    for task in tasks:
        if task.finished():
            states[task.name] = "skipped"
            bar.update()

    def ended(task: Task, good: bool, /) -> None:
        states[task.name] = "done" if good else "failed"
        if not good:
            log.warning("%s failed: %s", task.name, log_of(task))
        bar.update()

    todo = [task for task in tasks if task.name not in states]
    if todo:
        engine.run(todo, ended)
    return [Row(task.name, states[task.name], state_of(task).get("seconds"), str(log_of(task))) for task in tasks]


def _outlook(task: Task) -> str:
    if task.finished():
        return "finished"
    return "goes on" if isinstance(task, Training) and task.begun() else "new"


def _failures(rows: Sequence[Row]) -> list[str]:
    failed = [row for row in rows if row.state == "failed"]
    if not failed:
        return []
    return [f"{len(failed)} of {len(rows)} tasks failed, first {failed[0].task}; see {failed[0].log}"]


def _listed(rows: Sequence[Row]) -> str:
    lines = ["| task | state | time |", "|---|---|--:|"]
    lines += [f"| {row.task} | {row.state} | {_time(row.seconds)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
