"""The one place where a checkpoint of nnU-Net is read from disk."""

from __future__ import annotations

import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.networks.finite import DIVERGED, first_not_finite
from nnunetv2_mmkd.paths import trusted

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

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_COUNTER = "num_batches_tracked"  # of a batch norm
_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")


def read_nnunet_checkpoint(
    file: str | os.PathLike[str], *, mmap: bool = False, trust: bool = False, verify: bool = True
) -> dict[str, Any]:
    """Load a checkpoint of nnU-Net on the CPU.

    Args:
        file: e.g. ``fold_0/checkpoint_final.pth``.
        mmap: read tensors only when they are used: for a look at the rest.
        trust: also load it where it holds more than tensors, numbers and what nnU-Net adds (:data:`SAFE_GLOBALS`),
            which may run any code of its author's. The variable
            ``nnUNet_mmkd_trust`` says the same.
        verify: compare its checksums, which torch does not.

    Returns:
        All of it.

    Raises:
        InputError: it does not exist, empty, damaged, no file of torch, no checkpoint of nnU-Net, or needs trust.
    """
    if not os.path.isfile(file):
        why = "is not a file" if os.path.lexists(file) else "does not exist"
        raise InputError(f"{file} {why}: give the checkpoint of a training (fold_X/checkpoint_final.pth)")
    try:
        wrong = _what_is_wrong(file, verify)
        content = None if wrong else _read(file, mmap, trust or trusted())
    except InputError:
        raise
    except Exception as error:  # pickle, zip and torch raise whatever they like on a broken file
        wrong = " ".join(str(error).rpartition("WeightsUnpickler error:")[2].split())[:200] or type(error).__name__
    if wrong:
        raise InputError(f"{file} cannot be read ({wrong}): copy it again, or train the fold again")
    if not isinstance(content, dict) or WEIGHTS not in content:
        raise InputError(f"{file} is not a checkpoint of nnU-Net (no {WEIGHTS!r})")
    weights = content[WEIGHTS]
    if not isinstance(weights, Mapping) or not all(isinstance(each, torch.Tensor) for each in weights.values()):
        raise InputError(f"{file}: {WEIGHTS!r} are not named tensors: it is damaged, or not from nnU-Net")
    for key, weight in weights.items():
        dense = weight.layout == torch.strided and not weight.is_quantized and not weight.is_meta
        if not dense or (weight.dtype not in _FLOATS and not key.endswith(_COUNTER)):
            kind = f"{weight.layout}, {weight.dtype}, on {weight.device}".replace("torch.", "")
            raise InputError(
                f"{file}: {key} in {WEIGHTS!r} is a tensor of another kind ({kind}) than nnU-Net's dense "
                "floating point: restore the file of the training"
            )
    return content


def check_finite(file: str | os.PathLike[str], weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse the weights of a training that has diverged.

    Raises:
        InputError: one of them is NaN or infinite.
    """
    key = first_not_finite(weights)
    if key is not None:
        raise InputError(f"{file}: {key} in {WEIGHTS!r} is NaN or infinite: {DIVERGED}")


def _what_is_wrong(file: str | os.PathLike[str], verify: bool) -> str | None:
    """What can be seen from outside; torch's own messages about it help nobody."""
    with open(file, "rb") as stream:
        start = stream.read(20)
    if not start:
        return "it is empty"
    if zipfile.is_zipfile(file):  # torch.save's archive
        with zipfile.ZipFile(file) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
            if "constants.pkl" in names:
                return "it is a TorchScript program and no checkpoint"
            if "data.pkl" not in names:
                return "it is a zip file without a checkpoint of PyTorch in it"
            damaged = archive.testzip() if verify else None
        return f"it is damaged: the checksum of {damaged} is another" if damaged else None
    if start[0] == 0x80:  # the pickle of torch before 1.6 begins with a number
        return None if _MAGIC in start else "it is a pickle of something else than a checkpoint of PyTorch"
    return "it is truncated" if start[:4] == b"PK\x03\x04" else "it is not a file of PyTorch"


def _read(file: str | os.PathLike[str], mmap: bool, trust: bool) -> Any:
    mmap = mmap and zipfile.is_zipfile(file)
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch says of a file that it then refuses
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if trust:  # a trainer of the user's own may store any object
            return torch.load(file, map_location="cpu", weights_only=False, mmap=mmap)
        more = re.search(r"GLOBAL ([\w.]+)", str(error))
        if more is None:
            raise
        raise InputError(
            f"{file} holds more than tensors and numbers ({more[1]}), so loading it may run any code of its author's. "
            "If you trust where it comes from as you would trust a program, say --trust (in Python: trust=True)"
        ) from error
