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


_META = re.compile(r"\.mh[ad]$", re.IGNORECASE)
_NRRD = re.compile(r"\.(nrrd|nhdr)$", re.IGNORECASE)
_TIFF = re.compile(r"\.tiff?$", re.IGNORECASE)
_LONGEST_HEADER = 1 << 20
_DATA_FILE = rb"ElementDataFile[ \t]*[=:]?[ \t]*([^\r\n]*)"
_HDF5 = b"\x89HDF\r\n\x1a\n"


def refuse_other_files(path: Path) -> None:
    """Refuse an image whose voxels are in another file: its reader would follow any path in its header.

    Args:
        path: a file of any format; it exists.

    Raises:
        InputError: it names other files, or is of a format that can, whatever its name says.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(_LONGEST_HEADER)
    except OSError as error:
        raise _unreadable(path, error) from error
    named: bytes | None = None
    if _META.search(path.name):
        end = re.search(rb"(?:^|[\r\n])[ \t]*" + _DATA_FILE, start)
        fields = re.findall(_DATA_FILE, start[: end.end()]) if end else _without_end(start)
        named = next((each for each in fields if each.strip() != b"LOCAL"), None)
    elif _NRRD.search(path.name):
        header, *rest = re.split(rb"\n\n|\r\n\r\n|\r\r", start, maxsplit=1)
        fields = re.findall(rb"(?i)(?:^|[\r\n])\s*data\s*file\s*:([^\r\n]*)", header)
        named = next(iter(fields if rest else [*fields, *_without_end(start)]), None)
    elif any(start.startswith(_HDF5, offset) for offset in (0, *(512 << power for power in range(11)))):
        named = b"HDF5"
    elif _TIFF.search(path.name):
        named = _of_tiff(path)
    if named is not None:
        shown = named.decode(errors="replace").strip()[:100]
        raise InputError(f"{path}: its voxels are in another file ({shown}); save the image as one file")


def _of_tiff(path: Path) -> bytes | None:
    """The other file of a microscope's TIFF, which tifffile, nnU-Net's reader of TIFF, would follow."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            metadata, parts = file.ome_metadata or "", file.is_mmstack or file.is_ndtiff
    except Exception:  # whatever tifffile makes of damaged files; the reader says so
        return None
    others = [name for name in re.findall(r'FileName\s*=\s*"([^"]*)"', metadata) if name != path.name]
    return others[0].encode() if others else b"a stack of several files" if parts else None


def _without_end(header: bytes) -> list[bytes]:
    """What stands for the data file of a header that has no end: it may come later, unless the file ends before."""
    return [b"its header is too long"] if len(header) == _LONGEST_HEADER else []


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
