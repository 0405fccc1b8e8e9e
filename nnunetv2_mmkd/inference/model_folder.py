"""A trained model's folder: is it all there, and was it trained by this package?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.utilities.file_path_utilities import get_output_folder

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.modalities import canonical


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


def describe(folder: str, trainer: str, folds: Sequence[int | str], checkpoint: str) -> Model:
    """What a model folder predicts with; nnU-Net's name of the folder says the configuration."""
    absolute = os.path.abspath(folder)
    return Model(absolute, trainer, os.path.basename(absolute).rpartition("__")[2], tuple(folds), checkpoint)


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


def check_model(folder: str, folds: Sequence[int | str], checkpoint: str) -> None:
    """Check that a model's files are there and that this package trained it.

    Raises:
        InputError: something is not there, or the model is not one of ours.
    """
    for name in ("plans.json", "dataset.json"):
        if not os.path.isfile(os.path.join(folder, name)):
            raise InputError(f"{folder} is not the folder of a trained model: {name} is not there")
    modalities_of(
        load_json(os.path.join(folder, "plans.json")), load_json(os.path.join(folder, "dataset.json")), folder
    )
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


def modalities_of(plans: Mapping[str, Any], dataset_json: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Names of the M modalities of a trained model, in channel order.

    Raises:
        InputError: no trainer of this package made the model, or its plans and its dataset.json contradict each other.
    """
    names = plans.get("mmkd", {}).get("modalities")
    if not names:
        raise InputError(
            f"{model} was not trained with a trainer of this package: its plans.json has no 'mmkd' entry, so it does "
            "not know what a missing modality is. Use nnUNetv2_predict with all images, or train with "
            "`mmkd train ... -tr nnUNetTrainerMetaKD` or another of our trainers"
        )
    if len(names) != len(dataset_json["channel_names"]):
        raise InputError(
            f"{model}: plans.json names the modalities {', '.join(names)}, dataset.json has "
            f"{len(dataset_json['channel_names'])} channels; the folder has been mixed up"
        )
    return tuple(canonical(name) for name in names)


def subset_of(plans: Mapping[str, Any]) -> tuple[str, ...]:
    """The modalities that a specialist takes, in channel order; empty for a model for any subset."""
    return tuple(canonical(name) for name in plans.get("mmkd", {}).get("subset", ()))
