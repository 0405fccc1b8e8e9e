"""From folders of segmentations to the long result table: ``method, case, subset, region, metric, value``.

Each case is scored by itself and its rows cached with a stamp of the files they come from, so that a run that is
interrupted goes on where it stopped, and a file that changed is scored anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from nnunetv2_mmkd import __version__
from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.evaluation.label_map import LabelMap, read_grid, read_label_map
from nnunetv2_mmkd.evaluation.metrics.empty import empty_policy
from nnunetv2_mmkd.evaluation.metrics.lesion_tasks import lesion_task
from nnunetv2_mmkd.evaluation.metrics.masks import region_masks
from nnunetv2_mmkd.evaluation.metrics.postprocessing import POSTPROCESSED, remove_small
from nnunetv2_mmkd.evaluation.metrics.registry import (
    METRICS,
    check_metrics,
    measure,
    measure_lesions,
    metric_parameters,
)
from nnunetv2_mmkd.evaluation.regions import evaluated_regions, label_values
from nnunetv2_mmkd.evaluation.result_table import COLUMNS, ResultTable
from nnunetv2_mmkd.evaluation.table_files import number, read_columns, write_table
from nnunetv2_mmkd.geometry import align, note
from nnunetv2_mmkd.names import modality_names
from nnunetv2_mmkd.workers import end_with_starter

log = logging.getLogger(__name__)


NO_TASK = "none"
"""In place of a lesion-wise task."""


@dataclass(frozen=True)
class ScoreSettings:
    """What is measured.

    Attributes:
        metrics: keys of :data:`~nnunetv2_mmkd.evaluation.metrics.registry.METRICS`.
        empty: policy for empty regions.
        parameters: of the metrics, e.g. ``{"tolerance": 2.0}`` (mm, of the NSD); default: their own.
        task: also lesion-wise scores by the rules of this task; None: those of the data set's edition, if it has some
            (:meth:`for_data_set`); ``"none"``: none.
        et_threshold: also every metric of ET after predictions of ET with fewer voxels were removed; 0: not.

    Raises:
        InputError: an unknown metric, policy or task, a parameter or threshold out of range, or nothing to measure.
    """

    metrics: tuple[str, ...] = ("dice", "hd95")
    empty: str = "legacy"
    parameters: Mapping[str, float] = field(default_factory=dict)
    task: str | None = None
    et_threshold: int = 0

    def __post_init__(self) -> None:
        check_metrics(self.metrics, self.parameters)
        if not self.metrics and self.task is None:
            raise InputError(f"no metric: choose from {', '.join(METRICS)}, or a lesion-wise task")
        if self.et_threshold < 0:
            raise InputError(f"et_threshold {self.et_threshold}: expected a number of voxels, 0 for none")
        empty_policy(self.empty)
        if self.task is not None and self.task != NO_TASK:
            lesion_task(self.task)

    def for_data_set(self, dataset_json: Mapping[str, Any]) -> ScoreSettings:
        """The same with the lesion-wise task of the data set's edition, where none was asked for."""
        edition = EDITIONS.get(str(dataset_json.get("edition", "")).lower())
        task = (edition.lesion_task or None) if self.task is None and edition is not None else self.task
        if task != self.task:
            log.info("lesion-wise scores by the rules of %s; --lesions none leaves them out", task)
        return replace(self, task=None if task == NO_TASK else task)

    def identity(self) -> dict[str, Any]:
        """What tells these settings from others, for cached rows."""
        parameters = {name: each.default for name, each in metric_parameters().items()} | dict(self.parameters)
        return {
            "metrics": self.metrics, "empty": self.empty, **parameters, "task": self.task,
            "et_threshold": self.et_threshold,
        }  # fmt: skip


@dataclass(frozen=True)
class Predictions:
    """Segmentations of one method.

    Attributes:
        method: its name in the tables.
        folder: ``<subset>/<case><file ending>`` are in it.
        expected: case -> the subsets it must have.
    """

    method: str
    folder: Path
    expected: Mapping[str, Sequence[str]]


def score(
    predictions: Sequence[Predictions],
    labels: Path,
    dataset_json: Mapping[str, Any],
    settings: ScoreSettings,
    cache: Path,
    *,
    processes: int = 1,
    progress: bool = True,
) -> ResultTable:
    """Score all segmentations.

    Args:
        predictions: one entry per method.
        labels: folder of the truth, ``<case><file ending>``.
        dataset_json: of the data set: modalities, regions, labels, file ending.
        settings: what is measured.
        cache: folder for the rows of each case. They are used again as long as settings, regions and the files they
            come from (path, time, size) are the same.
        processes: workers.
        progress: show a progress bar.

    Returns:
        The table, in the order of ``predictions``, their cases and subsets. A metric that is undefined is NaN,
        never 0 or 1.

    Raises:
        InputError: a segmentation or label that is absent or on another grid (before anything is scored), or that is
            damaged or holds unknown labels.
    """
    ending = str(_declared(dataset_json, "file_ending"))
    regions = evaluated_regions(dataset_json)
    _, ignored = label_values(dataset_json)
    _check_regions(settings, regions)
    _check_methods(predictions)
    work = [
        _Work(entry.method, case, entry.folder, tuple(subsets), labels / (case + ending), ending)
        for entry in predictions
        for case, subsets in entry.expected.items()
        if subsets
    ]
    if not work:
        raise InputError(f"there is no case to score with labels from {labels}")
    for item in work:
        item.check_files()
    changed = [message for item in work for message in item.check_grids()]
    if changed:
        log.warning("%s", first_few(changed, 5))
    about = {"settings": settings.identity(), "regions": regions, "ignored": ignored, "version": __version__}
    run = partial(_rows, cache=cache / _digest(about), dataset_json=dict(dataset_json), settings=settings)
    tables = []
    with tqdm(desc="scoring", total=len(work), unit="case", disable=not progress) as bar:
        for table in _map(run, work, processes):
            tables.append(table)
            bar.update()
    return ResultTable.from_frame(pd.concat(tables, ignore_index=True), modality_names(dataset_json))


def _map(run: Any, work: Sequence[_Work], processes: int) -> Iterator[pd.DataFrame]:
    if processes < 2 or len(work) < 2:
        yield from map(run, work)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(work)), context, end_with_starter) as pool:
        try:
            yield from pool.map(run, work)
        except BrokenProcessPool as error:
            raise InputError(
                f"one of {processes} processes that score was killed, probably for lack of memory: use fewer with -np. "
                "What is scored already stays"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _digest(about: Any) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]


def _declared(dataset_json: Mapping[str, Any], key: str) -> Any:
    if key not in dataset_json:
        raise InputError(f"dataset.json has no {key!r}; expected nnU-Net's dataset.json of the labels")
    return dataset_json[key]


def check_scores(settings: ScoreSettings, dataset_json: Mapping[str, Any]) -> None:
    """Refuse, before anything is predicted, what :func:`score` would refuse.

    Raises:
        InputError: a data set that lacks the regions that the settings are about.
    """
    _check_regions(settings, evaluated_regions(dataset_json))


def _check_regions(settings: ScoreSettings, regions: Mapping[str, Any]) -> None:
    has = f"this data set has {', '.join(regions)}"
    if settings.et_threshold and "ET" not in regions:
        raise InputError(f"et_threshold is about the region ET; {has}: leave it out")
    if settings.task is None:
        return
    task = lesion_task(settings.task)
    missing = [name for name in task.reported if name not in regions]
    if missing:
        raise InputError(f"lesion-wise scores of {task.title} need the region {missing[0]}; {has}")


def _check_methods(predictions: Sequence[Predictions]) -> None:
    names = [entry.method for entry in predictions]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two methods are called {name!r}: give each a name of its own")
        if name in ("", ".", "..") or "/" in name or os.sep in name:
            raise InputError(f"method {name!r}: its name is also that of a folder and may hold no slash")


@dataclass(frozen=True)
class _Work:
    method: str
    case: str
    folder: Path
    subsets: tuple[str, ...]
    target: Path
    ending: str

    def files(self) -> dict[str, Path]:
        return {subset: self.folder / subset / (self.case + self.ending) for subset in self.subsets}

    def check_files(self) -> None:
        if not self.target.is_file():
            raise InputError(
                f"case {self.case} has no label: {self.target} does not exist; add it, or leave the case out"
            )
        for subset, file in self.files().items():
            if not file.is_file():
                raise InputError(
                    f"{self.method}: case {self.case} has no prediction with {subset} ({file}). Predict it, or take "
                    "the subset out of --subsets"
                )

    def check_grids(self) -> list[str]:
        """Check that all predictions are on the grid of the label, or get there by reorienting; says which."""
        target, case = read_grid(self.target), f"case {self.case}: "
        grids = [read_grid(file) for file in self.files().values()]
        notes = [note(grid, target, align(grid, target, case), case) for grid in grids]
        return [each for each in notes if each is not None]

    def stamps(self) -> dict[str, str]:
        """Subset -> what tells whether its segmentation or the truth is another file than before."""
        target = _stamp(self.target)
        return {subset: _digest([target, _stamp(file)]) for subset, file in self.files().items()}


def _stamp(file: Path) -> tuple[str, int, int]:
    about = file.stat()
    return str(file.resolve()), about.st_mtime_ns, about.st_size


Scores = list[tuple[str, str, float]]
"""Region, metric, value."""


def _rows(work: _Work, cache: Path, dataset_json: Mapping[str, Any], settings: ScoreSettings) -> pd.DataFrame:
    """The rows of a case: the cached ones if they are of the same files, else measured and cached."""
    file = cache / work.method / f"{work.case}.csv"
    stamps, cached = work.stamps(), _read_cache(file)
    scores = {subset: cached.get((subset, stamp), []) for subset, stamp in stamps.items()}
    to_measure = [subset for subset, rows in scores.items() if not rows]
    if to_measure:
        allowed, ignored = label_values(dataset_json)
        regions = evaluated_regions(dataset_json)
        target = read_label_map(work.target, allowed)
        for subset in to_measure:
            prediction = read_label_map(work.files()[subset], allowed - {ignored}).on_grid_of(target)
            scores[subset] = list(_measure(prediction, target, regions, ignored, settings))
        _write_cache(work, {**cached, **{(subset, stamps[subset]): rows for subset, rows in scores.items()}}, file)
    return _table(work, {subset: scores[subset] for subset in work.subsets})


def _table(work: _Work, scores: Mapping[str, Scores]) -> pd.DataFrame:
    rows = [(work.method, work.case, subset, *row) for subset, rows in scores.items() for row in rows]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _write_cache(work: _Work, scores: Mapping[tuple[str, str], Scores], file: Path) -> None:
    """Cache rows of a case; of a subset only those of its newest files, which come last."""
    latest = {subset: (stamp, rows) for (subset, stamp), rows in scores.items()}
    table = _table(work, {subset: rows for subset, (_, rows) in latest.items()})
    stamps = {subset: stamp for subset, (stamp, _) in latest.items()}
    write_table(table.assign(**{_STAMP: table["subset"].map(stamps)}), file)


_STAMP = "stamp"


def _read_cache(file: Path) -> dict[tuple[str, str], Scores]:
    """Cached rows by subset and stamp; none if the file does not exist or is damaged."""
    scores: dict[tuple[str, str], Scores] = {}
    try:
        for line, cells in read_columns(file, (*COLUMNS, _STAMP), "cached results") if file.is_file() else ():
            row = (cells["region"], cells["metric"], number(cells["value"], file, line))
            scores.setdefault((cells["subset"], cells[_STAMP]), []).append(row)
    except InputError:
        return {}
    return scores


def _measure(
    prediction: LabelMap,
    target: LabelMap,
    regions: Mapping[str, tuple[int, ...]],
    ignored: int | None,
    settings: ScoreSettings,
) -> Iterator[tuple[str, str, float]]:
    predicted, true = region_masks(prediction.values, regions), region_masks(target.values, regions)
    if ignored is not None:
        counted = target.values != ignored
        predicted = {name: mask & counted for name, mask in predicted.items()}
        true = {name: mask & counted for name, mask in true.items()}
    yield from _measured(predicted, true, target.spacing, settings, "")
    if settings.et_threshold and "ET" in regions:
        cleaned = {"ET": remove_small(predicted["ET"], settings.et_threshold)}
        yield from _measured(cleaned, {"ET": true["ET"]}, target.spacing, settings, POSTPROCESSED)
    if settings.task is not None:
        for region, values in measure_lesions(predicted, true, target.spacing, settings.task).items():
            for name, value in values.items():
                yield region, f"{name}@{settings.task}", float(value)


def _measured(
    predicted: Mapping[str, Any],
    true: Mapping[str, Any],
    spacing: tuple[float, ...],
    settings: ScoreSettings,
    ending: str,
) -> Iterator[tuple[str, str, float]]:
    for region in predicted:
        values = measure(
            predicted[region], true[region], spacing, settings.metrics, settings.empty, settings.parameters
        )
        for name, value in values.items():
            yield region, name + ending, float(value)
