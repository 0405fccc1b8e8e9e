"""What finished trainings have logged: curves and elections, from their checkpoints."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.figures.shares import NOBODY
from nnunetv2_mmkd.inference.checkpoint_file import read_nnunet_checkpoint
from nnunetv2_mmkd.inference.model_folder import check_model, trained_folds
from nnunetv2_mmkd.training.checkpoint import KEY

PREFIX = "mmkd/"
"""Of our curves in nnU-Net's log."""

OF_ELECTIONS = "single-modality Dice of "
"""Curves that name the regions of LCKD's elections."""


@dataclass(frozen=True)
class TrainingRecord:
    """One training.

    Attributes:
        run: trainer without seed: what trainings that differ only by chance have in common.
        file: the checkpoint.
        modalities: of the model, in channel order.
        curves: ``"group/name"`` -> a value per epoch, NaN where there was none.
        elections: of each the elected modality of each region (None: nobody); empty: the method holds none.
    """

    run: str
    file: str
    modalities: tuple[str, ...]
    curves: Mapping[str, NDArray[np.float64]]
    elections: tuple[tuple[str | None, ...], ...]

    @property
    def groups(self) -> list[str]:
        """Groups of its curves."""
        return list(dict.fromkeys(name.partition("/")[0] for name in self.curves))

    def winners(self) -> dict[str, list[str]]:
        """Region -> the elected modality of each election."""
        regions = [name.removeprefix(OF_ELECTIONS) for name in self.groups if name.startswith(OF_ELECTIONS)]
        return {region: [won[place] or NOBODY for won in self.elections] for place, region in enumerate(regions)}


def read_trainings(
    models: Sequence[str], folds: Sequence[int | str] | None, checkpoint: str = "checkpoint_final.pth"
) -> list[TrainingRecord]:
    """The trainings of some models.

    Args:
        models: model folders.
        folds: of each; None: all that are trained.
        checkpoint: of the folds.

    Raises:
        InputError: a model that is not one of ours, a fold that is not trained, or a checkpoint that cannot be read.
    """
    found = []
    for folder in dict.fromkeys(map(os.path.abspath, models)):
        chosen = trained_folds(folder, checkpoint) if folds is None else folds
        model = check_model(folder, chosen, checkpoint)
        for fold in chosen:
            file = os.path.join(folder, f"fold_{fold}", checkpoint)
            found.append(_record(read_nnunet_checkpoint(file, mmap=True, verify=False), file, model.modalities))
    names = _short_names([record.run for record in found])
    return [TrainingRecord(names[each.run], each.file, each.modalities, each.curves, each.elections) for each in found]


def _record(content: Mapping[str, Any], file: str, modalities: tuple[str, ...]) -> TrainingRecord:
    logged, state = content.get("logging"), content.get(KEY)
    if not isinstance(logged, Mapping) or not isinstance(state, Mapping):
        raise InputError(f"{file} holds no log of a training of nnunetv2-mmkd: give models trained by its trainers")
    method = state.get("method")
    elections = method.get("elections", ()) if isinstance(method, Mapping) else ()
    return TrainingRecord(
        re.sub(r"_seed\d+(?=_|$)", "", str(content.get("trainer_name", ""))).removeprefix("nnUNetTrainer"),
        file,
        modalities,
        {name[len(PREFIX) :]: np.asarray(values, float) for name, values in logged.items() if name.startswith(PREFIX)},
        tuple(tuple(election["winners"]) for election in elections),
    )


def _short_names(runs: Sequence[str]) -> dict[str, str]:
    """The runs without the lengths in their names, where they are still told apart."""
    short = {run: re.sub(r"_\d+(epochs|iters)(?=_|$)", "", run) for run in runs}
    return short if len(set(short.values())) == len(short) else {run: run for run in runs}
