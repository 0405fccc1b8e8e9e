"""Files that are worth reading, and those that are not."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.images import read_volume, stem_of


def image(fill: float = 1.0) -> bytes:
    """A NIfTI file, uncompressed."""
    return bytes(nib.Nifti1Image(np.full((4, 5, 6), fill, np.float32), np.eye(4)).to_bytes())


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("a.nii", image()),
        ("a.nii.gz", gzip.compress(image())),
        ("a.nii", gzip.compress(image())),  # whatever its name says
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,  # compressed bytes hold the time
)
def test_intact_files(name: str, stored: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(stored)
    read_volume(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "stored", "message"),
    [
        ("a.nii", b"", "cannot be read as NIfTI"),
        ("a.nii", image()[:-1], "cannot be read as NIfTI"),
        ("a.nii.gz", gzip.compress(image())[:-9], "cannot be read as NIfTI"),
        ("a.nii.gz", gzip.compress(image())[:-8] + bytes(8), "CRC check failed"),
        ("a.nii.gz", gzip.compress(image(np.nan)), "120 voxels are NaN or infinite"),
        ("a.nii.gz", None, "No such file"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_damaged_files_are_named(name: str, stored: bytes | None, message: str, tmp_path: Path) -> None:
    if stored is not None:
        (tmp_path / name).write_bytes(stored)
    with pytest.raises(InputError, match=rf"{name}: .*{message}.*; get a good copy"):
        read_volume(tmp_path / name)


def test_stems() -> None:
    names = {"a.nii": "a", "a.b.NII.GZ": "a.b", ".a.nii.gz": None, "a.nii.gz.part": None, "a.nrrd": None}
    assert {name: stem_of(name) for name in names} == names
