"""What made the segmentations of a folder: kept beside them, so that nothing is mixed in by a later run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import write_json
from nnunetv2_mmkd.inference.reader import PARTIAL_PREFIX
from nnunetv2_mmkd.nnunet_json import read_object

RECORD = "mmkd_predictions.json"
"""The record's file."""


def kept(output: Path, record: dict[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """The record of predictions of the same kind that are there; None if there are none, or they may go.

    Raises:
        InputError: the folder holds predictions of another kind and may not be overwritten, or something else.
    """
    file = output / RECORD
    if not file.is_file():
        if output.is_dir() and any(output.iterdir()):
            raise InputError(f"{output} holds something else than predictions of `mmkd evaluate`: choose another -o")
        return None
    try:
        found = read_object(file)
    except InputError:
        found = {}
    if _compatible(found, record):
        return found
    if not overwrite:
        odd = [key for key in record if found.get(key) != record[key]]
        raise InputError(
            f"{output} holds predictions of another {' and '.join(odd)}: choose another -o, or --overwrite them"
        )
    return None


def claim(output: Path, record: dict[str, Any], overwrite: bool) -> None:
    """Make the folder and its record; remove what may go, and what a killed run left."""
    found = kept(output, record, overwrite)
    if found is None and output.is_dir():
        shutil.rmtree(output)
    output.mkdir(parents=True, exist_ok=True)
    for path in output.glob(f"*/{PARTIAL_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)
    checkpoints = {**(found or {}).get("checkpoints", {}), **record["checkpoints"]}
    write_json(output / RECORD, {**record, "checkpoints": checkpoints})


def _compatible(found: dict[str, Any], record: dict[str, Any]) -> bool:
    """Folds may be added; those that are there must not have been trained again."""
    one, other = found.get("checkpoints", {}), record["checkpoints"]
    same = all(other.get(fold, stamp) == stamp for fold, stamp in one.items())
    return same and all(found.get(key) == value for key, value in record.items() if key != "checkpoints")
