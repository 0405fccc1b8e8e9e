"""Small synthetic cases in the layout of BraTS 2018, for the tests of conversion and submission."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (14, 12, 10)
AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
SUFFIXES = ("t1", "t1ce", "t2", "flair")


def labels(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Nested boxes of the BraTS labels 2 (edema), 1 (necrosis), 4 (enhancing)."""
    seg = np.zeros(shape, dtype=np.uint8)
    first = seed % 2
    seg[2 + first : 10, 2:10, 2:8] = 2
    seg[4:8, 4:8, 3 + first : 7] = 4
    seg[5:7, 5:7, 4:6] = 1
    return seg


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE, *, qform: int = 1, sform: int = 1) -> Path:
    """Write a NIfTI file with the given codes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine, qform)
    image.set_sform(affine, sform)
    nib.save(image, path)
    return path


def write_case(
    root: Path,
    case: str = "Brats18_TCIA01_001_1",
    *,
    seed: int = 0,
    ending: str = ".nii.gz",
    missing: Iterable[str] = (),
    label: bool = True,
    shape: tuple[int, ...] = SHAPE,
    qform: int = 1,
    sform: int = 1,
) -> Path:
    """Write one case below ``root`` and return its folder."""
    rng = np.random.default_rng(seed)
    folder = root / case
    for suffix in SUFFIXES:
        voxels = rng.integers(1, 1000, shape).astype(np.int16)
        if suffix not in set(missing):
            save(folder / f"{case}_{suffix}{ending}", voxels, qform=qform, sform=sform)
    if label:
        save(folder / f"{case}_seg{ending}", labels(seed, shape), qform=qform, sform=sform)
    return folder
