"""Which pictures are drawn of a run: the figures of a table, and the overlays of some cases."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.figures import (
    boxplots,
    change_against_full,
    heat_map,
    modality_contributions,
    overlays,
)
from nnunetv2_mmkd.evaluation.metric_names import metric_of
from nnunetv2_mmkd.evaluation.regions import evaluated_regions, label_values
from nnunetv2_mmkd.evaluation.subsets import all_subset_names, row_order

log = logging.getLogger(__name__)


def draw_figures(table: pd.DataFrame, metrics: Sequence[str], folder: Path, modalities: Sequence[str]) -> None:
    """Heat map, change against the full set, boxplots and contributions of the modalities, for each metric."""
    folder.mkdir(parents=True, exist_ok=True)
    names = all_subset_names(modalities)
    full = names[-1]
    for metric in metrics:
        rows = table[table["metric"] == metric]
        stem = metric.replace("@", "_")
        heat_map(table, modalities, folder / f"{stem}_heat_map.png", metric=metric)
        boxplots(table, modalities, folder / f"{stem}_boxplots.png", metric=metric)
        if rows["subset"].nunique() > len(modalities):
            boxplots(table, modalities, folder / f"{stem}_boxplots_by_count.png", metric=metric, by="count")
        of_methods = [set(group["subset"]) for _, group in rows.groupby("method")]
        if any(full in subsets and len(subsets) > 1 for subsets in of_methods):
            change_against_full(table, modalities, folder / f"{stem}_change.png", metric=metric)
        about = metric_of(metric)
        if about.percent and about.higher_is_better and any(subsets >= set(names) for subsets in of_methods):
            modality_contributions(table, modalities, folder / f"{stem}_contributions.png", metric=metric)


def median_case(table: pd.DataFrame, metric: str = "dice") -> str:
    """The case whose mean over methods, subsets and regions is in the middle: neither the best nor the worst."""
    rows = table[table["metric"] == metric]
    rows = rows if len(rows) else table[table["metric"] == table["metric"].iloc[0]]
    means = rows.groupby("case")["value"].mean().sort_values(kind="stable")
    return str(means.index[(len(means) - 1) // 2])


def shown_subsets(there: Sequence[str], modalities: Sequence[str]) -> list[str]:
    """Columns of an overlay: the full set and those that lack one modality; where none is there, the first five."""
    most = len(modalities)
    chosen = [name for name in reversed(row_order(modalities)) if name in there and name.count("+") >= most - 2]
    return chosen or list(there)[:5]


def draw_overlay(
    case: str,
    image: Path,
    reference: str,
    labels: Path,
    folders: Mapping[str, Path],
    subsets: Sequence[str],
    dataset_json: Mapping[str, Any],
    output: Path,
) -> None:
    """Draw a case under some subsets, a row per method.

    Args:
        case: its name.
        image: image under the overlays.
        reference: its modality.
        labels: folder of the truth.
        folders: method -> folder with ``<subset>/<case><file ending>``.
        subsets: columns.
        dataset_json: of the data set.
        output: folder of the picture.

    Raises:
        InputError: the case has no prediction with one of the subsets, or files cannot be read.
    """
    ending = str(dataset_json["file_ending"])
    files = {
        method: {
            name: folder / name / (case + ending) for name in subsets if (folder / name / (case + ending)).is_file()
        }
        for method, folder in folders.items()
    }
    if not any(files.values()):
        raise InputError(f"case {case} has no prediction to draw; name another one with --overlay")
    output.mkdir(parents=True, exist_ok=True)
    overlays(
        image,
        labels / (case + ending),
        files,
        evaluated_regions(dataset_json),
        output / f"overlay_{case}.png",
        reference_name=reference,
        case=case,
        ignored=label_values(dataset_json)[1],
    )
