"""Volumes as one small grid each, whole in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nibabel.filebasedimages import ImageFileError
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.images import require_file


def read_volumes(files: Sequence[Path | None], grid: int, progress: bool = False) -> Tensor:
    """Volumes on a cube, ``[N, 1, grid, grid, grid]``, z-scored over their non-zero voxels; 0 where there is none.

    Args:
        files: one per subject, None where there is none.
        grid: voxels per axis; volumes are resampled (trilinear) to it.
        progress: show a progress bar.

    Raises:
        InputError: a file that cannot be read, is not three-dimensional, is not finite or holds one value only.
    """
    if grid < 8:
        raise InputError(f"a grid of {grid} voxels per axis is too small: give at least 8")
    table = torch.zeros(len(files), 1, grid, grid, grid)
    for row, file in enumerate(tqdm(files, desc="volumes", unit="subject", disable=not progress)):
        if file is not None:
            table[row] = read_on_grid(file, grid)
    return table


def read_on_grid(file: Path, grid: int) -> Tensor:
    """One volume, ``[1, grid, grid, grid]``; see :func:`read_volumes`."""
    require_file(file)
    try:
        values = np.asarray(nib.load(file).dataobj, dtype=np.float32)  # type: ignore[attr-defined]
    except (OSError, ValueError, EOFError, ImageFileError) as error:
        raise InputError(f"{file}: cannot be read as a volume ({error})") from error
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise InputError(f"{file}: shape {values.shape}; expected three axes (for fMRI a map of grey matter or a mean)")
    if not np.isfinite(values).all():
        raise InputError(f"{file}: holds NaN or infinity; repair it, or leave the cell of the CSV empty")
    inside = values[values != 0]
    if not inside.size or inside.std() == 0:
        raise InputError(f"{file}: holds one value only; leave the cell of the CSV empty if the volume is missing")
    scaled = np.where(values != 0, (values - inside.mean()) / inside.std(), 0.0).astype(np.float32)
    return interpolate(torch.from_numpy(scaled)[None, None], size=(grid,) * 3, mode="trilinear", align_corners=False)[0]
