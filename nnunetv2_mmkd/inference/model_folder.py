"""A trained model's folder: is it complete, and was it trained by this package?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunetv2.utilities.file_path_utilities import get_output_folder

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.nnunet_json import DatasetJson, Plans, read_dataset_json, read_plans


@dataclass(frozen=True)
class ModelDescription:
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
        InputError: no such data set or no such model; the message lists the models that exist.
    """
    try:
        folder: str = get_output_folder(dataset, trainer, plans, configuration)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"data set {dataset!r}: {error}") from error
    if not os.path.isdir(folder):
        parent = os.path.dirname(folder)
        trained = sorted({path.parent.parent.name for path in Path(parent).glob("*/fold_*/checkpoint_*.pth")})
        raise InputError(
            f"there is no trained model {folder}. Trained for this data set: {', '.join(trained) or 'nothing'}. Check "
            "-d, -tr, -p and -c, or give the folder with -m"
        )
    return folder


@dataclass(frozen=True)
class TrainedModel:
    """The files of a trained model of this package, without its weights.

    Attributes:
        folder: nnU-Net's model folder.
        plans: its ``plans.json``.
        dataset_json: its ``dataset.json``.

    Raises:
        InputError: no trainer of this package made it, or plans and ``dataset.json`` contradict each other.
    """

    folder: str
    plans: Plans
    dataset_json: DatasetJson

    def __post_init__(self) -> None:
        names, channels = self.plans.modalities, self.dataset_json.modalities
        if not names:
            raise InputError(
                f"{self.folder} was not trained with a trainer of this package: its plans.json has no 'mmkd' entry, so "
                "it does not know what a missing modality is. Use nnUNetv2_predict with all images, or train with "
                "`mmkd train ... -tr nnUNetTrainerModalityDropout` or another of our trainers"
            )
        if names != channels:
            raise InputError(
                f"{self.folder}: plans.json names the modalities {', '.join(names)}, dataset.json has "
                f"{', '.join(channels)}; the folder has been mixed up: restore both from one training"
            )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of its M modalities, in channel order."""
        return self.plans.modalities

    @property
    def subset(self) -> tuple[str, ...]:
        """What it is a specialist for; empty: it takes any subset."""
        return self.plans.subset

    @property
    def takes(self) -> str:
        """What it takes, in words."""
        return " + ".join(self.subset) or "any subset"


def read_model(folder: str) -> TrainedModel:
    """Read the files of a trained model.

    Raises:
        InputError: one does not exist or broken, or see :class:`TrainedModel`.
    """
    files = [os.path.join(folder, name) for name in ("plans.json", "dataset.json")]
    for file in files:
        if not os.path.isfile(file):
            why = "is not a file" if os.path.lexists(file) else "does not exist"
            raise InputError(
                f"{folder} is not the folder of a trained model: {os.path.basename(file)} {why}. Give the folder that "
                "has plans.json, dataset.json and fold_0"
            )
    return TrainedModel(folder, read_plans(files[0]), read_dataset_json(files[1]))


def trained_folds(folder: str, checkpoint: str) -> list[int | str]:
    """The folds of a model that have a checkpoint; none of a folder that does not exist."""
    names = sorted(file.parent.name.removeprefix("fold_") for file in Path(folder).glob(f"fold_*/{checkpoint}"))
    return [int(name) if name.isdecimal() else name for name in names]


def check_model(folder: str, folds: Sequence[int | str], checkpoint: str) -> TrainedModel:
    """Read a model's files, and check that its checkpoints exist.

    Raises:
        InputError: something does not exist, or the model is not one of ours.
    """
    model = read_model(folder)
    complete = list(map(str, trained_folds(folder, checkpoint)))
    if len(set(map(str, folds))) < len(folds):
        raise InputError(f"-f {' '.join(map(str, folds))}: a fold is given twice, and would count twice")
    absent = [str(fold) for fold in folds if str(fold) not in complete]
    if absent or not folds:
        raise InputError(
            f"{folder} has no {checkpoint} for fold {' '.join(absent) or '0-4'}; folds with it: "
            f"{' '.join(complete) or 'none'}. Choose with -f (and -chk for another checkpoint)"
        )
    return model
