"""Checkpoints of a classification: plain tensors and numbers, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import differing, replacing


def write_checkpoint(state: Mapping[str, Any], file: Path) -> None:
    """Write a checkpoint.

    Raises:
        InputError: it cannot be written.
    """
    with replacing(file) as temporary:
        torch.save(dict(state), temporary)


def read_checkpoint(file: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint of the same training.

    Args:
        file: the checkpoint.
        about: what describes the training; each entry must be as it was.

    Raises:
        InputError: it is damaged, or of another training.
    """
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        stored = state["about"]
    except Exception as error:  # damaged files make torch raise nearly anything
        raise InputError(f"{file} is not a checkpoint of this package, or damaged: {error}; delete it") from error
    differences = differing(stored, about)
    if differences:
        raise InputError(
            f"{file} is of another training ({'; '.join(differences)}): give another output folder, or delete it"
        )
    return state
