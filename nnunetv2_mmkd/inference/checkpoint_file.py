"""The one place where a checkpoint of nnU-Net is read from disk."""

from __future__ import annotations

import os
import pickle
import zipfile
from typing import Any

import numpy as np
import torch

from nnunetv2_mmkd.errors import InputError

WEIGHTS = "network_weights"
"""Key of every checkpoint of nnU-Net."""

_DTYPES = [type(np.dtype(name)) for name in ("bool", "int32", "int64", "float16", "float32", "float64")]
_SCALAR: Any = np.float32().__reduce__()[0]
SAFE_GLOBALS: list[Any] = [
    np.dtype,
    *_DTYPES,
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
"""What nnU-Net's own checkpoints hold besides tensors and plain Python: numpy scalars, in ``logging`` and
``_best_ema``. numpy 2 writes another module name than numpy 1."""


def read_nnunet_checkpoint(file: str | os.PathLike[str], *, mmap: bool = False) -> dict[str, Any]:
    """Load a checkpoint of nnU-Net on the CPU.

    Args:
        file: e.g. ``fold_0/checkpoint_final.pth``.
        mmap: read tensors only when they are used: for a look at the rest.

    Returns:
        All of it.

    Raises:
        InputError: it does not exist, empty, damaged, no file of torch, or no checkpoint of nnU-Net.
    """
    if not os.path.isfile(file):
        raise InputError(f"{file} does not exist")
    try:
        wrong = _what_is_wrong(file)
        content = None if wrong else _read(file, mmap)
    except Exception as error:  # pickle, zip and torch raise whatever they like on a broken file
        wrong = " ".join(str(error).split())[:200] or type(error).__name__
    if wrong:
        raise InputError(f"{file} cannot be read ({wrong}): copy it again, or train the fold again")
    if not isinstance(content, dict) or WEIGHTS not in content:
        raise InputError(f"{file} is not a checkpoint of nnU-Net (no {WEIGHTS!r})")
    return content


def _what_is_wrong(file: str | os.PathLike[str]) -> str | None:
    """What can be seen from outside; torch's own messages about it help nobody."""
    with open(file, "rb") as stream:
        start = stream.read(4)
    if not start:
        return "it is empty"
    if zipfile.is_zipfile(file) or start[0] == 0x80:  # torch.save's archive, or the pickle of torch before 1.6
        return None
    return "it is truncated" if start == b"PK\x03\x04" else "it is not a file of PyTorch"


def _read(file: str | os.PathLike[str], mmap: bool) -> Any:
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError:  # a trainer of the user's own may store any object: trusted, as nnU-Net does
        return torch.load(file, map_location="cpu", weights_only=False, mmap=mmap)
