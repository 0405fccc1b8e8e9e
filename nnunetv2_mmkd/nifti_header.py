"""The header of a NIfTI file: what it says must be possible, and read alike by nibabel and SimpleITK.

nnU-Net reads with SimpleITK, most other programs as nibabel does.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from contextlib import suppress
from io import BufferedIOBase, BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.geometry import ROUNDING, Grid, displacement, itk_grid

_HEADER = 348  # bytes, and at least 4 of extensions
_LONGEST_HEADER = 1 << 24  # bytes before the voxels, extensions included
_MOST_VOXELS = 2**31  # of an image; more is a damaged header
_LEAST_SLOPE = 1e-15  # SimpleITK takes less for none
_MAGIC = b"n+1"
_MM = (0, 2)  # xyzt_units: not said, or mm
REMEDY = "get a good copy of it (an image may also be removed, its modality is missing then; a label may not)"
UNREADABLE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
    WrapStructError,
)


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that exists but cannot be read."""
    return InputError(f"{path}: cannot be read as NIfTI ({_reason(error)}); {REMEDY}")


def grid_of(path: Path, header: nib.Nifti1Header) -> Grid:
    """Where the voxels of a NIfTI file are."""
    return Grid(path, tuple(map(int, header.get_data_shape())), header.get_best_affine())


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _check_kind(start: bytes) -> None:
    """Check by the first four bytes that a file is NIfTI-1, of either byte order."""
    sizes = {int.from_bytes(start, order) for order in ("little", "big")} if len(start) == 4 else set()
    if 540 in sizes:
        raise ImageFileError("it is NIfTI-2, which SimpleITK, nnU-Net's reader, does not know; save it as NIfTI-1")
    if 348 not in sizes:
        raise ImageFileError("no NIfTI header" if start else "the file is empty")


def read_start(path: Path, stream: BufferedIOBase, most: int, volumes: int = 1) -> tuple[bytes, nib.Nifti1Header]:
    """The bytes before the voxels, and the checked header of three dimensions.

    Args:
        path: names the file in errors.
        stream: the file, unzipped.
        most: number of bytes that it can hold.
        volumes: number of images that it must hold, along its fourth dimension.
    """
    start = stream.read(4)
    _check_kind(start)
    start += stream.read(_HEADER - len(start))
    raw = nib.Nifti1Header(start, check=False)
    if bytes(raw["magic"])[:3] != _MAGIC:
        raise ImageFileError("its header is that of Analyze, or of a pair of files; convert it to NIfTI in one file")
    offset = float(raw["vox_offset"])
    if not _HEADER + 4 <= offset <= _LONGEST_HEADER:  # readers differ in what they make of less
        raise InputError(f"{path}: vox_offset {offset:g} of its header is out of range, expected 352; {REMEDY}")
    slope = float(raw["scl_slope"])
    if 0 < abs(slope) < _LEAST_SLOPE:
        raise InputError(f"{path}: scl_slope {slope:.3g} of its header is out of range; {REMEDY}")
    start += stream.read(max(int(offset) - len(start), 4))
    shape = tuple(map(int, raw.get_data_shape()))
    if volumes > 1 and (len(shape) != 4 or shape[3] != volumes or min(shape) < 1):
        raise InputError(f"{path}: shape {shape}; expected {volumes} images in one file, shape (x, y, z, {volumes})")
    if volumes == 1 and (len(shape) < 2 or min(shape) < 1 or max(shape[3:], default=1) > 1):
        raise InputError(f"{path}: shape {shape}; expected a 3-D image: give one file per image")
    pixdim = raw["pixdim"][1 : len(shape[:3]) + 1].tolist()
    if not all(np.isfinite(pixdim)) or min(pixdim) <= 0:
        raise InputError(
            f"{path}: pixdim (voxel size) {pixdim} of its header; expected positive numbers of mm. Repair the header"
        )
    header = nib.Nifti1Header.from_fileobj(BytesIO(start))
    if len(shape) != 3:  # set_data_shape would touch pixdim, too
        shape = (*shape, 1)[:3]
        header["dim"] = [3, *shape, 1, 1, 1, 1]
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(f"{path}: voxels of type {dtype}; expected real numbers of at most 64 bits, one per voxel")
    if np.prod(shape, dtype=float) > _MOST_VOXELS:
        raise InputError(f"{path}: its header says shape {shape}, more than any image has; {REMEDY}")
    if file_length(header, volumes) > most:
        raise InputError(f"{path}: cannot be read as NIfTI (truncated: shape {shape} of {dtype} is longer); {REMEDY}")
    _check_affine(path, header)
    return start, header


def dimensions(plain: bytes) -> int:
    """How many the header of a file says."""
    return int(nib.Nifti1Header(plain[:_HEADER], check=False)["dim"][0])


def file_length(header: nib.Nifti1Header, volumes: int = 1) -> int:
    """Bytes of a file up to the end of the voxels, of some images of this shape."""
    voxels = volumes * int(np.prod(header.get_data_shape(), dtype=np.int64))
    return int(header.get_data_offset()) + voxels * int(header.get_data_dtype().itemsize)


def _check_affine(path: Path, header: nib.Nifti1Header) -> None:
    """Check that a header says where the voxels are, and that nibabel and SimpleITK read the same."""
    repair = "repair the header, e.g. with nibabel: image.set_sform(affine, 1); image.set_qform(affine, 1)"
    grid = grid_of(path, header)
    if not np.isfinite(grid.affine).all() or abs(np.linalg.det(grid.affine)) < 1e-12:
        raise InputError(f"{path}: the affine is not invertible; repair the header")
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        raise InputError(
            f"{path}: sform_code and qform_code are 0, so the header does not say where the image is; {repair}"
        )
    try:
        other = grid if _forms_agree(header, grid) else _as_itk_reads(path, header)
    except RuntimeError as error:
        why = "it is sheared" if "orthonormal" in str(error) else _reason(error)[-150:]
        raise InputError(f"{path}: SimpleITK, nnU-Net's reader, cannot read its affine ({why}); {repair}") from error
    sizes, spacing = np.asarray(header.get_zooms()[:3], dtype=float), np.asarray(grid.spacing)
    if (np.abs(sizes / spacing - 1) * np.maximum(np.asarray(grid.shape) - 1, 1)).max() >= ROUNDING:
        found, expected = (np.round(each, 4).tolist() for each in (sizes, spacing))
        raise InputError(
            f"{path}: pixdim of its header says voxel size {found} mm, its affine says {expected} mm; {repair}"
        )
    if other.shape != grid.shape or displacement(other.affine, grid) >= ROUNDING:
        raise InputError(
            f"{path}: its affine is ambiguous (sform, qform or units): nibabel places the first voxel at "
            f"{np.round(grid.affine[:3, 3], 3).tolist()} mm as {grid.orientation}, SimpleITK at "
            f"{np.round(other.affine[:3, 3], 3).tolist()} mm as {other.orientation}; {repair}"
        )


def _forms_agree(header: nib.Nifti1Header, grid: Grid) -> bool:
    """Whether sform and qform say the same in mm, so that every reader reads the same."""
    if min(header["sform_code"], header["qform_code"]) <= 0 or int(header["xyzt_units"]) & 7 not in _MM:
        return False
    with suppress(*UNREADABLE):
        return displacement(header.get_qform(), grid) < ROUNDING / 10
    return False


def _as_itk_reads(path: Path, header: nib.Nifti1Header) -> Grid:
    """Where SimpleITK says that the voxels are, from the header alone, whatever the file is called."""
    copy = header.copy()
    copy["vox_offset"] = len(copy.binaryblock) + 4
    with tempfile.TemporaryDirectory(prefix="mmkd_") as folder:
        file = os.path.join(folder, "header.nii")
        Path(file).write_bytes(copy.binaryblock + bytes(4))
        reader = sitk.ImageFileReader()
        reader.SetFileName(file)
        sitk.ProcessObject.GlobalWarningDisplayOff()  # what it warns of, our errors say
        try:
            reader.ReadImageInformation()
        finally:
            sitk.ProcessObject.GlobalWarningDisplayOn()
    return itk_grid(path, reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
