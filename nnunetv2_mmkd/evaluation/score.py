"""From folders of segmentations to the long result table: ``method, case, subset, region, metric, value``.

Each case is scored by itself and its rows kept, so that a run that is interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.label_map import LabelMap, read_label_map, require_same_grid
from nnunetv2_mmkd.evaluation.metrics.empty import empty_policy
from nnunetv2_mmkd.evaluation.metrics.lesion_tasks import lesion_task
from nnunetv2_mmkd.evaluation.metrics.measure import LESION_METRICS, METRICS, measure, measure_lesions
from nnunetv2_mmkd.evaluation.metrics.postprocessing import POSTPROCESSED, remove_small
from nnunetv2_mmkd.evaluation.metrics.regions import region_masks
from nnunetv2_mmkd.evaluation.regions import evaluated_regions, label_values
from nnunetv2_mmkd.evaluation.statistics import COLUMNS


@dataclass(frozen=True)
class ScoreSettings:
    """What is measured.

    Attributes:
        metrics: keys of :data:`~nnunetv2_mmkd.evaluation.metrics.measure.METRICS`.
        empty: policy for empty regions.
        tolerance: of the NSD, mm.
        task: also lesion-wise scores by the rules of this task.
        et_threshold: also every metric of ET after predictions of ET with fewer voxels were removed; 0: not.

    Raises:
        InputError: an unknown metric, policy or task, or nothing to measure.
    """

    metrics: tuple[str, ...] = ("dice", "hd95")
    empty: str = "legacy"
    tolerance: float = 1.0
    task: str | None = None
    et_threshold: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown:
            hint = "; lesion-wise scores are asked for by naming their task" if unknown[0] in LESION_METRICS else ""
            raise InputError(f"unknown metric {unknown[0]!r}: choose from {', '.join(METRICS)}{hint}")
        if not self.metrics and self.task is None:
            raise InputError(f"no metric: choose from {', '.join(METRICS)}, or a lesion-wise task")
        empty_policy(self.empty)
        if self.task is not None:
            lesion_task(self.task)


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
    kept: Path,
    *,
    processes: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Score all segmentations.

    Args:
        predictions: one entry per method.
        labels: folder of the truth, ``<case><file ending>``.
        dataset_json: of the data set: regions, labels, file ending.
        settings: what is measured.
        kept: folder for the rows of each case. Rows are used again if settings and regions are the same and no
            segmentation is newer.
        processes: workers.
        progress: show a progress bar.

    Returns:
        The long table. A metric that is undefined is NaN, never 0 or 1.

    Raises:
        InputError: a segmentation or label that is absent, damaged, on another grid, or holds unknown labels.
    """
    ending = str(dataset_json["file_ending"])
    regions = evaluated_regions(dataset_json)
    _check_task(settings, regions)
    work = [
        _Work(entry.method, case, entry.folder, tuple(subsets), labels / (case + ending), ending)
        for entry in predictions
        for case, subsets in entry.expected.items()
    ]
    for item in work:
        item.check()
    about = {"settings": asdict(settings), "regions": regions}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
    run = partial(_rows, kept=kept / digest, dataset_json=dict(dataset_json), settings=settings)
    bar = tqdm(desc="scoring", total=len(work), unit="case", disable=not progress)
    with bar:
        tables = []
        for table in _map(run, work, processes):
            tables.append(table)
            bar.update()
    if not tables:
        raise InputError("there is no case to score")
    return pd.concat(tables, ignore_index=True)


def _map(run: Any, work: Sequence[_Work], processes: int) -> Iterator[pd.DataFrame]:
    if processes < 2 or len(work) < 2:
        yield from map(run, work)
        return
    with ProcessPoolExecutor(min(processes, len(work)), mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(run, work)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _check_task(settings: ScoreSettings, regions: Mapping[str, Any]) -> None:
    if settings.task is None:
        return
    task = lesion_task(settings.task)
    lacking = [name for name in task.reported if name not in regions]
    if lacking:
        raise InputError(
            f"lesion-wise scores of {task.title} need the region {lacking[0]}; this data set has {', '.join(regions)}"
        )


@dataclass(frozen=True)
class _Work:
    method: str
    case: str
    folder: Path
    subsets: tuple[str, ...]
    truth: Path
    ending: str

    def files(self) -> dict[str, Path]:
        return {subset: self.folder / subset / (self.case + self.ending) for subset in self.subsets}

    def check(self) -> None:
        if not self.truth.is_file():
            raise InputError(f"case {self.case} has no label {self.truth}")
        for subset, file in self.files().items():
            if not file.is_file():
                raise InputError(
                    f"{self.method}: case {self.case} has no prediction with {subset} ({file}). Predict it, or take "
                    "the subset out of --subsets"
                )


def _rows(work: _Work, kept: Path, dataset_json: Mapping[str, Any], settings: ScoreSettings) -> pd.DataFrame:
    """The rows of a case: those kept if they are up to date, else measured and kept."""
    file = kept / work.method / f"{work.case}.csv"
    sources = [work.truth, *work.files().values()]
    if file.is_file() and file.stat().st_mtime_ns > max(path.stat().st_mtime_ns for path in sources):
        table = read_table(file)
        if set(table["subset"]) >= set(work.subsets):
            return table[table["subset"].isin(work.subsets)]
    allowed, ignored = label_values(dataset_json)
    regions = evaluated_regions(dataset_json)
    truth = read_label_map(work.truth, allowed)
    rows = []
    for subset, path in work.files().items():
        prediction = read_label_map(path, allowed)
        require_same_grid(prediction, truth)
        for region, metric, value in _measure(prediction, truth, regions, ignored, settings):
            rows.append((work.method, work.case, subset, region, metric, value))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_table(table, file)
    return table


def _measure(
    prediction: LabelMap,
    truth: LabelMap,
    regions: Mapping[str, tuple[int, ...]],
    ignored: int | None,
    settings: ScoreSettings,
) -> Iterator[tuple[str, str, float]]:
    predicted, true = region_masks(prediction.values, regions), region_masks(truth.values, regions)
    if ignored is not None:
        counts = truth.values != ignored
        predicted = {name: mask & counts for name, mask in predicted.items()}
        true = {name: mask & counts for name, mask in true.items()}
    yield from _measured(predicted, true, truth.spacing, settings, "")
    if settings.et_threshold and "ET" in regions:
        cleaned = {"ET": remove_small(predicted["ET"], settings.et_threshold)}
        yield from _measured(cleaned, {"ET": true["ET"]}, truth.spacing, settings, POSTPROCESSED)
    if settings.task is not None:
        for region, values in measure_lesions(predicted, true, truth.spacing, settings.task).items():
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
        values = measure(predicted[region], true[region], spacing, settings.metrics, settings.empty, settings.tolerance)
        for name, value in values.items():
            yield region, name + ending, float(value)


def write_table(table: pd.DataFrame, file: Path) -> None:
    """Write a CSV whole or not at all; floats as they are."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    table.to_csv(temporary, index=False)
    os.replace(temporary, file)


def read_table(file: str | Path) -> pd.DataFrame:
    """Read a long result table.

    Raises:
        InputError: it is not one.
    """
    try:
        table = pd.read_csv(file, dtype={name: str for name in COLUMNS if name != "value"}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as a table of results ({error})") from error
    lacking = [name for name in COLUMNS if name not in table.columns]
    if lacking:
        raise InputError(f"{file}: has no column {lacking[0]!r}; a table of results has {', '.join(COLUMNS)}")
    values = pd.to_numeric(table["value"].replace({"": "nan"}), errors="coerce")
    wrong = np.flatnonzero(values.isna() & ~table["value"].astype(str).str.lower().isin(["", "nan"]))
    if len(wrong):
        raise InputError(f"{file}, line {wrong[0] + 2}: value {table['value'].iloc[wrong[0]]!r} is not a number")
    return table.assign(value=values.astype(float))[list(COLUMNS)]
