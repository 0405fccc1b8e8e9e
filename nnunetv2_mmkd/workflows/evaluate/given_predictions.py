"""Segmentations that exist already, of whatever method, one folder per subset."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.evaluation.subsets import choose_subsets
from nnunetv2_mmkd.image_names import list_images, refuse_twins
from nnunetv2_mmkd.label_names import check_same_labels, label_meanings
from nnunetv2_mmkd.names import modality_names
from nnunetv2_mmkd.nnunet_json import labels_beside, missing_modalities, read_dataset_json
from nnunetv2_mmkd.workflows.evaluate.settings import SubsetPredictions, Target

log = logging.getLogger(__name__)


def given_predictions(folder: Path, target: Target, compared: SubsetPredictions | None = None) -> SubsetPredictions:
    """Segmentations that exist already, one folder per subset.

    Args:
        folder: ``<subset>/<case><file ending>`` are in it; a folder's name may have aliases and any order.
        target: cases and subsets.
        compared: predictions of a model they are compared with; its labels and dataset.json are used if the target
            names none.

    Raises:
        InputError: no labels, no dataset.json, no folder of a subset, or a folder that is no subset.
    """
    if not folder.is_dir():
        raise InputError(f"the folder of predictions {folder} does not exist")
    labels = Path(target.labels) if target.labels else compared.labels if compared else None
    if labels is None or not labels.is_dir():
        raise InputError(f"-l: the folder of labels {labels or ''} is needed to score {folder}")
    dataset = _dataset_json(target, labels, compared)
    modalities = modality_names(dataset)
    ending = str(dataset["file_ending"])
    if target.dataset_json is None:
        same_labels(labels, dataset, "the model", parent=True)
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    wanted = choose_subsets(target.subsets, modalities)
    found = [name for name in choose_subsets(names, modalities) if name in wanted] if names else []
    odd = [name for name in names if name not in choose_subsets([name], modalities)]
    if odd:
        raise InputError(f"{folder / odd[0]}: name the folder {choose_subsets([odd[0]], modalities)[0]}")
    if not found:
        raise InputError(
            f"{folder} has no folder of one of the subsets {', '.join(wanted[:3])}, ...: segmentations lie in "
            f"{folder}/<subset>/<case>{ending}"
        )
    truth = list_images(labels, ending)
    truth.refuse_lookalikes({})
    refuse_twins(truth.stems, labels)
    declared = missing_modalities(dataset, modalities)
    cases = truth.stems if compared is None else list(compared.expected)
    expected = {case: _subsets_of(case, found, folder, ending, declared.get(case, ())) for case in cases}
    for each in found:
        same_labels(folder / each, dataset, str(labels))
        absent = {case: f"case {case}, {each}" for case in cases if not (folder / each / (case + ending)).is_file()}
        content = list_images(folder / each, ending)
        content.refuse_lookalikes(absent)
        if more := sorted(set(content.stems) - set(truth.stems)):
            log.warning("%s: not scored, as %s has no label for them: %s", content.folder, labels, first_few(more, 5))
    same_labels(folder, dataset, str(labels))
    name = compared.dataset_name if compared else labels.parent.name
    return SubsetPredictions(folder, labels, dataset, expected, name)


def same_labels(folder: Path, dataset_json: Mapping[str, Any], other: str, *, parent: bool = False) -> None:
    """Refuse segmentations whose own ``dataset.json`` gives labels of one name other values.

    Args:
        folder: of segmentations.
        dataset_json: what they are scored by.
        other: what that belongs to, for the message.
        parent: the file may also lie in the folder above.

    Raises:
        InputError: they differ.
    """
    beside = labels_beside(folder, parent=parent)
    if beside is not None:
        file, meanings = beside
        check_same_labels(meanings, label_meanings(dataset_json["labels"]), file, f"dataset.json of {other}")


def _subsets_of(
    case: str, subsets: Sequence[str], folder: Path, ending: str, lacking: Collection[str]
) -> tuple[str, ...]:
    """The subsets that a case must have been predicted with, and those that it has been."""
    return tuple(
        name
        for name in subsets
        if (folder / name / (case + ending)).is_file() or not set(lacking) & set(name.split("+"))
    )


def _dataset_json(target: Target, labels: Path, compared: SubsetPredictions | None) -> dict[str, Any]:
    if target.dataset_json is None and compared is not None:
        return compared.dataset_json
    tried = [target.dataset_json] if target.dataset_json else [labels / "dataset.json", labels.parent / "dataset.json"]
    for file in tried:
        if os.path.isfile(str(file)):
            return read_dataset_json(str(file)).content
    raise InputError(f"{tried[-1]} does not exist: name the dataset.json of the labels with --dataset_json")
