"""The one place where a trainer's class is found by its name."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
from typing import Any

from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.paths import EXT_TRAINER
from nnunetv2_mmkd.trainer_catalogue import TrainerEntry, trainers_of

_COUNTED = r"^_(\d+(epochs|iters)|seed\d+)$"
_GOOD_COUNT = r"^_([1-9]\d{0,5}(epochs|iters)|seed(0|[1-9]\d{0,8}))$"


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
        entries = {trainer.name: trainer for folder in folders for trainer in trainers_of(folder)}
        base = max((entry for entry in entries if name.startswith(f"{entry}_")), key=len, default=None)
        if base is not None:
            raise InputError(_bad_ending(name, entries[base])) from error
        names = sorted(entries)
        without_endings = name.partition("_")[0]
        near = ", ".join(difflib.get_close_matches(name, names) or difflib.get_close_matches(without_endings, names))
        raise InputError(
            f"there is no trainer {name!r} in nnU-Net or in {EXT_TRAINER} ({', '.join(folders)}). "
            + (f"Did you mean: {near}?" if near else "`mmkd info` lists those of this package")
        ) from error
    except AssertionError as error:
        raise InputError(f"trainer {name!r}: {error}") from error


def _bad_ending(name: str, entry: TrainerEntry) -> str:
    """What is wrong with the ending of a trainer's name that could not be read."""
    parts = [f"_{part}" for part in name.removeprefix(f"{entry.name}_").split("_")]
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice is not None:
        return f"trainer {name!r} has the ending {twice} twice: name it once"
    kinds = [re.sub(r"\d+", "<N>", part) if re.search(_COUNTED, part) else part for part in parts]
    rivals = [part for part, kind in zip(parts, kinds, strict=True) if kinds.count(kind) > 1]
    if rivals:
        return f"trainer {name!r}: the endings {' and '.join(rivals)} contradict each other: keep one of them"
    count = next((part for part in parts if re.search(_COUNTED, part) and not re.search(_GOOD_COUNT, part)), None)
    if count is not None:
        return (
            f"trainer {name!r}: in {count} the number is out of its range: expected 1 to 999999 epochs or iterations, "
            "a seed from 0 to 999999999, without zeros in front"
        )
    odd = next((part for part in parts if part != part.lower()), parts[-1])
    known = [*entry.endings, "_<N>epochs", "_<K>iters", "_seed<N>", "_<tag>"]
    return (
        f"trainer {name!r}: {entry.name} has no ending {''.join(parts)}. It takes each of these once, in any order: "
        f"{choices(odd, known)}. Numbers start at 1 (a seed at 0), tags of missing-rate tables are small letters and "
        "digits"
    )
