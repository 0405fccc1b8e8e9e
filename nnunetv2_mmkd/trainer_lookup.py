"""The one place where a trainer's class is found by its name."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
from typing import Any

from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.paths import EXT_TRAINER
from nnunetv2_mmkd.trainer_catalogue import trainers_of


def find_trainer(name: str) -> type[Any]:
    """The trainer class, as nnU-Net finds it.

    Raises:
        InputError: it is not found; the message names similar ones.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result: type[Any] = recursive_find_trainer_class_by_name(name)
            return result
    except RuntimeError as error:
        if "Could not find requested nnunet trainer" not in str(error):
            raise
        folders = [folder for folder in os.environ.get(EXT_TRAINER, "").split(os.pathsep) if folder]
        names = sorted({trainer.name for folder in folders for trainer in trainers_of(folder)})
        without_endings = name.partition("_")[0]
        near = ", ".join(difflib.get_close_matches(name, names) or difflib.get_close_matches(without_endings, names))
        raise InputError(
            f"there is no trainer {name!r} in nnU-Net or in {EXT_TRAINER} ({', '.join(folders)}). "
            + (f"Did you mean: {near}?" if near else "`mmkd info` lists those of this package")
        ) from error
    except AssertionError as error:
        raise InputError(f"trainer {name!r}: {error}") from error
