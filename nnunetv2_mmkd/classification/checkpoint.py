"""Checkpoints of a classification: plain tensors and numbers, written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import atomic_write


def write_checkpoint(state: Mapping[str, Any], file: Path) -> None:
    """Write a checkpoint.

    Raises:
        InputError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write the checkpoint {file}: {error.strerror or error}") from error
    content = io.BytesIO()
    torch.save(dict(state), content)
    atomic_write(file, content.getvalue())


def read_checkpoint(file: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint of the same training.

    Args:
        file: the checkpoint.
        about: what describes the training; each entry must be as it was.

    Raises:
        InputError: it is damaged, or of another training.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        stored = state["about"]
    except Exception as error:  # damaged files make torch raise nearly anything
        raise InputError(f"{file} is not a checkpoint of this package, or damaged: {error}; delete it") from error
    for key, value in about.items():
        if stored.get(key) != value:
            raise InputError(
                f"{file} is of another training: {key} is {stored.get(key)!r} there, {value!r} here; give another "
                "output folder, or delete it"
            )
    return state
