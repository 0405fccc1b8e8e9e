"""Labelled cases to be predicted with all subsets: a model's validation or test cases, or a folder of images.

Legend: M modalities.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from torch import Tensor

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.label_map import read_grid
from nnunetv2_mmkd.files import within
from nnunetv2_mmkd.geometry import align
from nnunetv2_mmkd.image_names import list_images, refuse_twins
from nnunetv2_mmkd.inference.all_subsets import AllSubsetsPredictor
from nnunetv2_mmkd.inference.cases import Case
from nnunetv2_mmkd.inference.checks import check_cases
from nnunetv2_mmkd.inference.inputs import InputImages, find_cases
from nnunetv2_mmkd.inference.model_folder import read_model
from nnunetv2_mmkd.nnunet_json import FoldCases, missing_modalities, read_object, read_splits, value_of
from nnunetv2_mmkd.paths import require_variables
from nnunetv2_mmkd.protocols.splits import read_test_cases
from nnunetv2_mmkd.workflows.evaluate.settings import Target

Preprocessed = tuple[Tensor, dict[str, Any]]
"""Images ``[M, *spatial]`` as nnU-Net preprocesses them, and its properties of the case."""


@dataclass(frozen=True)
class SubsetCase:
    """A case to be predicted with the subsets of what it has.

    Attributes:
        identifier: name of the case.
        available: bool ``[M]``: what it has.
        load: gives the preprocessed case.
        files: its images, None where there is none; nothing: they are preprocessed already.
    """

    identifier: str
    available: Tensor
    load: Callable[[], Preprocessed]
    files: tuple[str | None, ...] = ()


Listed = tuple[str, dict[str, tuple[str, ...]]]
"""Folder of the labels ``<case><file ending>``; cases by the fold that is to predict them, ``"all"``: all together."""


def labelled_cases(
    model: str, predictor: AllSubsetsPredictor, target: Target, *, progress: bool = True
) -> tuple[str, dict[str, list[SubsetCase]]]:
    """The cases that a model is evaluated on. Nothing is predicted, and of preprocessed cases nothing is resampled.

    Args:
        model: model folder, for messages and to see that its folds were validated on the same cases.
        predictor: with the model loaded.
        target: which cases.
        progress: show a progress bar.

    Returns:
        Folder of the labels; the cases by the fold that is to predict them, ``"all"`` for all folds together.

    Raises:
        InputError: see :func:`validation_cases`, :func:`test_cases`, :func:`preprocessed_cases` and
            :func:`folder_cases`; or a case without label.
    """
    if target.images is None:
        listed = test_cases if target.test else validation_cases
        labels, by_fold = listed(model, predictor.plans_manager.dataset_name, predictor.model.folds)
        cases = {fold: preprocessed_cases(predictor, names) for fold, names in by_fold.items()}
    else:
        labels, cases = (
            str(target.labels),
            {"all": folder_cases(predictor, target.images, str(target.labels), progress)},
        )
    if not os.path.isdir(labels):
        raise InputError(f"the folder of labels {labels} does not exist")
    content = list_images(labels, predictor.dataset_json["file_ending"])
    refuse_twins(content.stems, labels)
    for case in [case.identifier for group in cases.values() for case in group]:
        name = case + predictor.dataset_json["file_ending"]
        if name not in content.images:
            content.refuse_lookalikes({case: f"the label of case {case}"})
            raise InputError(
                f"case {case} has no label {name} in {labels}: add it, or take the case's images out of the input"
            )
    return labels, cases


def dataset_folder(dataset_name: str) -> str:
    """The folder of a data set in ``nnUNet_preprocessed``.

    Raises:
        InputError: the variable is not set, or the folder does not exist.
    """
    require_variables(["nnUNet_preprocessed"])
    folder = os.path.join(os.environ["nnUNet_preprocessed"], dataset_name)
    if not os.path.isdir(folder):
        raise InputError(
            f"the model was trained on {dataset_name}, which is not in nnUNet_preprocessed ({folder}). Its validation "
            "cases are needed preprocessed; or evaluate a labelled folder with -i and -l"
        )
    return folder


def validation_cases(model: str, dataset_name: str, folds: Sequence[int | str]) -> Listed:
    """The validation cases of some folds, as nnU-Net's cross-validation has them.

    Args:
        model: model folder, to see that its folds were validated on the same cases.
        dataset_name: ``plans["dataset_name"]``.
        folds: numbers.

    Raises:
        InputError: no splits, no such fold, fold ``all``, a case in two folds, or other cases than the model's.
    """
    if "all" in folds:
        raise InputError("fold 'all' has no validation cases: it was trained on all of them. Evaluate with -i and -l")
    labels, file, splits = _labels_and_splits(dataset_name)
    cases: dict[str, tuple[str, ...]] = {}
    seen: dict[str, str] = {}
    for fold in folds:
        chosen = tuple(sorted(_of_fold(file, splits, fold).val))
        for case in chosen:
            if case in seen:
                raise InputError(
                    f"{file}: case {case} is validated in fold {seen[case]} and in fold {fold}; pooled it would count "
                    "twice. Evaluate such folds one by one with -f"
                )
            seen[case] = str(fold)
        _same_as_trained(model, fold, chosen)
        cases[str(fold)] = chosen
    return labels, cases


def test_cases(model: str, dataset_name: str, folds: Sequence[int | str]) -> Listed:
    """The test cases of some folds, as ``mmkd splits`` listed them: predicted by these folds together, averaged.

    Args:
        model: model folder, to see that its folds were trained with the present splits.
        dataset_name: ``plans["dataset_name"]``.
        folds: numbers.

    Raises:
        InputError: no such list, no splits, no such fold, fold ``all``, folds with different lists, a test case that a
            fold was trained on.
    """
    if "all" in folds:
        raise InputError("fold 'all' was trained on the test cases, too: evaluate folds by their numbers, with -f")
    lists = read_test_cases(Path(dataset_folder(dataset_name)))
    labels, file, splits = _labels_and_splits(dataset_name)
    chosen: dict[tuple[str, ...], str] = {}
    for fold in folds:
        split = _of_fold(file, splits, fold)
        _same_as_trained(model, fold, split.val)
        cases = tuple(sorted(lists[int(fold)] if int(fold) < len(lists) else ()))
        trained = sorted(set(cases) & set(split.train))
        if trained:
            raise InputError(f"{file}: fold {fold} trains on the test case {trained[0]}: write the splits again")
        chosen.setdefault(cases, str(fold))
    if len(chosen) > 1:
        raise InputError(f"folds {', '.join(chosen.values())} have different test lists: evaluate them one by one, -f")
    (cases,) = chosen
    if not cases:
        raise InputError(f"fold {next(iter(chosen.values()))} has no test cases: `mmkd splits` was given no test list")
    return labels, {"all": cases}


def _labels_and_splits(dataset_name: str) -> tuple[str, str, tuple[FoldCases, ...]]:
    """Folder of the labels, file of the splits, and what is in it."""
    folder = dataset_folder(dataset_name)
    labels = os.path.join(folder, "gt_segmentations")
    if not os.path.isdir(labels):
        raise InputError(f"{labels} does not exist: preprocess {dataset_name} again, nnU-Net copies the labels there")
    file = os.path.join(folder, "splits_final.json")
    if not os.path.isfile(file):
        raise InputError(f"{file} does not exist: nnU-Net writes it when a training begins")
    return labels, file, read_splits(file)


def _of_fold(file: str, splits: Sequence[FoldCases], fold: int | str) -> FoldCases:
    if int(fold) >= len(splits):
        raise InputError(f"{file} has {len(splits)} folds, there is no fold {fold}")
    return splits[int(fold)]


def _same_as_trained(model: str, fold: int | str, cases: Sequence[str]) -> None:
    """Refuse splits that were changed after the training: its training cases could be among them."""
    summary = os.path.join(model, f"fold_{fold}", "validation", "summary.json")
    if not os.path.isfile(summary):
        return
    entries = value_of(read_object(summary), "metric_per_case", list, summary)
    files = [value_of(entry, "prediction_file", str, f"{summary}, metric_per_case") for entry in entries]
    validated = {os.path.basename(file).split(".", 1)[0] for file in files}
    left_out = {case.split(".", 1)[0] for case in _left_out(model)}
    odd = sorted(validated.symmetric_difference({case.split(".", 1)[0] for case in cases}) - left_out)
    if odd:
        raise InputError(
            f"{summary}: fold {fold} of this model was validated on other cases than splits_final.json now says "
            f"({odd[0]} is only in one of them), so cases of its training could be among those. Restore the splits, or "
            "evaluate a labelled folder with -i and -l"
        )


def _left_out(model: str) -> set[str]:
    """The cases that a specialist was not validated on because they lack a modality of its subset."""
    trained = read_model(model)
    return {case for case, names in trained.dataset_json.missing.items() if set(trained.subset) & set(names)}


def preprocessed_cases(predictor: AllSubsetsPredictor, cases: Sequence[str]) -> list[SubsetCase]:
    """Cases of the model's own data set, preprocessed already. Images of other sizes are not touched here.

    Raises:
        InputError: a case is not preprocessed for the model's configuration.
    """
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    folder = str(within(Path(dataset_folder(plans.dataset_name)), configuration.data_identifier))
    if not os.path.isdir(folder):
        raise InputError(
            f"{folder} does not exist: preprocess {plans.dataset_name} for this configuration (nnUNetv2_preprocess)"
        )
    dataset_class = infer_dataset_class(folder)
    preprocessed = set(dataset_class.get_identifiers(folder))
    absent = [case for case in cases if case not in preprocessed]
    if absent:
        raise InputError(f"case {absent[0]} is not preprocessed in {folder}: run nnUNetv2_preprocess")
    dataset = dataset_class(folder, list(cases))
    declared = missing_modalities(predictor.dataset_json, predictor.modalities)

    def available(case: str) -> Tensor:
        data, missing = dataset.load_case(case)[0], declared.get(case, ())
        return torch.tensor([name not in missing and _any(data, i) for i, name in enumerate(predictor.modalities)])

    def load(case: str) -> Preprocessed:
        images, _, _, properties = dataset.load_case(case)
        return torch.from_numpy(np.array(images[:])), properties

    return [SubsetCase(case, available(case), partial(load, case)) for case in cases]


def _any(data: Any, channel: int) -> bool:
    """Whether a channel has content; its middle slice usually tells."""
    return bool(np.any(data[channel, data.shape[1] // 2]) or np.any(data[channel]))


def folder_cases(predictor: AllSubsetsPredictor, images: str, labels: str, progress: bool = True) -> list[SubsetCase]:
    """Cases of a folder of images, read as ``mmkd predict`` reads it; any image may be absent.

    Raises:
        InputError: a broken image, a case without any, a label on another grid.
    """
    ending = predictor.dataset_json["file_ending"]
    found = find_cases(InputImages(images), predictor.trained)
    files = {case.identifier: case.files for case in found}  # those that are all zero, too
    checked = check_cases(found, predictor.plans_manager, {}, progress=progress)
    for case in checked:
        label = Path(labels, case.identifier + ending)
        if label.is_file():  # its absence is said by the caller
            image = next(file for file in case.files if file is not None)
            align(read_grid(label), read_grid(Path(image)), f"case {case.identifier}: ")
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)

    def load(case: Case) -> Preprocessed:
        data, _, properties = preprocessor.run_case(
            case.entries(ending), None, predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json
        )
        return torch.from_numpy(np.asarray(data)), properties

    return [
        SubsetCase(case.identifier, case.available, partial(load, case), files[case.identifier]) for case in checked
    ]
