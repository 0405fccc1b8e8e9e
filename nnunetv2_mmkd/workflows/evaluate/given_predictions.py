"""Segmentations that exist already, of whatever method, one folder per subset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.subsets import choose_subsets
from nnunetv2_mmkd.names import modality_names
from nnunetv2_mmkd.nnunet_json import missing_modalities, read_dataset_json
from nnunetv2_mmkd.workflows.evaluate.settings import SubsetPredictions, Target


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
    cases = sorted(path.name[: -len(ending)] for path in labels.iterdir() if path.name.endswith(ending))
    declared = missing_modalities(dataset, modalities)
    expected = {}
    for case in cases if compared is None else list(compared.expected):
        lacking = set(declared.get(case, ()))
        expected[case] = tuple(
            name for name in found if (folder / name / (case + ending)).is_file() or not lacking & set(name.split("+"))
        )
    name = compared.dataset_name if compared else labels.parent.name
    return SubsetPredictions(folder, labels, dataset, expected, name)


def _dataset_json(target: Target, labels: Path, compared: SubsetPredictions | None) -> dict[str, Any]:
    if target.dataset_json is None and compared is not None:
        return compared.dataset_json
    tried = [target.dataset_json] if target.dataset_json else [labels / "dataset.json", labels.parent / "dataset.json"]
    for file in tried:
        if os.path.isfile(str(file)):
            return read_dataset_json(str(file)).content
    raise InputError(f"{tried[-1]} does not exist: name the dataset.json of the labels with --dataset_json")
