"""Handwritten digits (MNIST) from one ``.npz`` file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError

NAMES = (("images", "labels"), ("x_train", "y_train"))
"""Names of the arrays: ours, or those of the widespread ``mnist.npz``, of which the training part is taken."""


def read_digits(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 ``[N, 28, 28]`` and labels ``[N]``.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            names = next((pair for pair in NAMES if set(pair) <= set(arrays.files)), None)
            if names is None:
                raise InputError(
                    f"--mnist {file}: arrays {', '.join(arrays.files)}; expected images and labels, or x_train, y_train"
                )
            images, labels = arrays[names[0]], arrays[names[1]]
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise InputError(f"--mnist {file}: cannot be read as .npz ({error}); expected MNIST in one .npz") from error
    if images.ndim != 3 or images.shape[1:] != (28, 28) or images.dtype != np.uint8 or len(labels) != len(images):
        raise InputError(
            f"--mnist {file}: images {images.dtype} {images.shape}, {len(labels)} labels; expected uint8 (N, 28, 28) "
            "and N labels"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() <= 9:
        raise InputError(f"--mnist {file}: labels from {labels.min()} to {labels.max()}; expected digits 0 to 9")
    return images, labels.astype(np.int64)
