"""Images of other formats than NIfTI, as NIfTI in memory: MetaImage and NRRD, read by SimpleITK, nnU-Net's reader."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.geometry import itk_grid

OTHER_FORMATS = re.compile(r"\.(mha|nrrd)$", re.IGNORECASE)
"""Endings of formats with header and voxels in one file."""


def header_as_nifti(path: Path) -> nib.Nifti1Header:
    """NIfTI header of an image, from its header alone.

    Raises:
        InputError: it cannot be read, or has several values per voxel.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        return _header(path, reader, reader.GetNumberOfComponents())
    except RuntimeError as error:
        raise _unreadable(path, error) from error


def image_as_nifti(path: Path) -> bytes:
    """NIfTI file (uncompressed) of an image.

    Raises:
        InputError: as :func:`header_as_nifti`, or its voxels cannot be read.
    """
    try:
        image = sitk.ReadImage(str(path))
        header = _header(path, image, image.GetNumberOfComponentsPerPixel())
        voxels = sitk.GetArrayFromImage(image)
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    block: bytes = header.binaryblock
    return block + bytes(4) + voxels.astype(header.get_data_dtype()).tobytes()


def _header(path: Path, image: Any, values: int) -> nib.Nifti1Header:
    """From an image of SimpleITK with so many values per voxel, or a reader that has read its header."""
    if values != 1:
        raise InputError(f"{path}: has {values} values per voxel; expected one")
    grid = itk_grid(path, image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    header = nib.Nifti1Header()
    header.set_data_dtype(sitk.GetArrayViewFromImage(sitk.Image([1, 1], image.GetPixelID())).dtype)
    header.set_data_shape(grid.shape)
    header["vox_offset"] = len(header.binaryblock) + 4
    header["magic"] = b"n+1"
    header.set_zooms(np.asarray(grid.spacing, dtype=np.float32))
    header.set_sform(grid.affine, code=1)
    header.set_qform(grid.affine, code=1)
    header.set_xyzt_units("mm")
    return header


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split("ERROR:")[-1].split())[-150:]
    return InputError(f"{path}: cannot be read ({reason}); get a good copy of it")
