"""A trained model's folder: is it all there, and was it trained by this package?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nnunetv2.utilities.file_path_utilities import get_output_folder

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.checkpoint_file import read_nnunet_checkpoint
from nnunetv2_mmkd.nnunet_json import DatasetJson, Plans, read_dataset_json, read_plans
from nnunetv2_mmkd.paths import EXT_TRAINER, set_ext_trainer
from nnunetv2_mmkd.trainer_lookup import find_trainer


@dataclass(frozen=True)
class Model:
    """What a prediction was made with.

    Attributes:
        folder: nnU-Net's model folder, absolute; empty for a network handed over in Python.
        trainer: class name of the trainer.
        configuration: nnU-Net's configuration, e.g. ``"3d_fullres"``.
        folds: the folds that were averaged.
        checkpoint: file name of the checkpoints.
    """

    folder: str = ""
    trainer: str = ""
    configuration: str = ""
    folds: tuple[int | str, ...] = ()
    checkpoint: str = ""

    def as_json(self) -> dict[str, Any]:
        """The same as JSON knows it."""
        return {**asdict(self), "folds": list(self.folds)}


def model_folder(dataset: str, trainer: str, plans: str, configuration: str) -> str:
    """The folder in ``nnUNet_results`` of a model that is named as for ``nnUNetv2_predict``.

    Raises:
        InputError: no such data set or no such model; the message lists the models that are there.
    """
    try:
        folder = get_output_folder(dataset, trainer, plans, configuration)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"data set {dataset!r}: {error}") from error
    if not os.path.isdir(folder):
        parent = os.path.dirname(folder)
        there = sorted(os.listdir(parent)) if os.path.isdir(parent) else []
        raise InputError(
            f"there is no trained model {folder}. Trained for this data set: {', '.join(there) or 'nothing'}. Check "
            "-d, -tr, -p and -c, or give the folder with -m"
        )
    return folder


def read_model_files(folder: str) -> tuple[Plans, DatasetJson]:
    """The plans and the ``dataset.json`` of a trained model.

    Raises:
        InputError: one is not there or broken, or no trainer of this package made the model.
    """
    files = [os.path.join(folder, name) for name in ("plans.json", "dataset.json")]
    for file in files:
        if not os.path.isfile(file):
            raise InputError(f"{folder} is not the folder of a trained model: {os.path.basename(file)} is not there")
    plans, dataset_json = read_plans(files[0]), read_dataset_json(files[1])
    modalities_of(plans, dataset_json, folder)
    return plans, dataset_json


def check_model(folder: str, folds: Sequence[int | str], checkpoint: str) -> None:
    """Check that a model's files are there and that this package trained it.

    Raises:
        InputError: something is not there, or the model is not one of ours.
    """
    read_model_files(folder)
    there = sorted(
        name.removeprefix("fold_")
        for name in os.listdir(folder)
        if name.startswith("fold_") and os.path.isfile(os.path.join(folder, name, checkpoint))
    )
    absent = [str(fold) for fold in folds if str(fold) not in there]
    if absent or not folds:
        raise InputError(
            f"{folder} has no {checkpoint} for fold {' '.join(absent) or '0-4'}; folds with it: "
            f"{' '.join(there) or 'none'}. Choose with -f (and -chk for another checkpoint)"
        )


def modalities_of(plans: Plans, dataset_json: DatasetJson, model: str) -> tuple[str, ...]:
    """Names of the M modalities of a trained model, in channel order.

    Raises:
        InputError: no trainer of this package made the model, or its plans and its dataset.json contradict each other.
    """
    names = plans.modalities
    if not names:
        raise InputError(
            f"{model} was not trained with a trainer of this package: its plans.json has no 'mmkd' entry, so it does "
            "not know what a missing modality is. Use nnUNetv2_predict with all images, or train with "
            "`mmkd train ... -tr nnUNetTrainerMetaKD` or another of our trainers"
        )
    if len(names) != len(dataset_json.modalities):
        raise InputError(
            f"{model}: plans.json names the modalities {', '.join(names)}, dataset.json has "
            f"{len(dataset_json.modalities)} channels; the folder has been mixed up"
        )
    return names


def check_loadable(folder: str, folds: Sequence[int | str], checkpoint: str) -> Model:
    """Check that a model's checkpoints can be read and its trainer is found, before anything else is done with it.

    Returns:
        What the model predicts with.

    Raises:
        InputError: a checkpoint cannot be read, or the trainer's class is not found.
    """
    files = [os.path.join(folder, f"fold_{fold}", checkpoint) for fold in folds]
    trainer, *_ = [str(read_nnunet_checkpoint(file, mmap=True)["trainer_name"]) for file in files]
    set_ext_trainer()
    try:
        find_trainer(trainer)
    except InputError as error:
        raise InputError(
            f"{folder}: the class of its trainer {trainer} was not found. This package's trainers are known; add the "
            f"folder of a trainer of your own to {EXT_TRAINER} ({error})"
        ) from error
    absolute = os.path.abspath(folder)
    configuration = os.path.basename(absolute).rpartition("__")[2]  # nnU-Net's name of the folder says it
    return Model(absolute, trainer, configuration, tuple(folds), checkpoint)
