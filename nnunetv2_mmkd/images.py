"""Read, check and make NIfTI files, so that a broken file is named.

Files are handled as bytes: the gzip checksum is verified, voxels that need no change are never touched, and what was
checked is what is written (:mod:`nnunetv2_mmkd.files`).
"""

from __future__ import annotations

import gzip
import re
import zlib
from contextlib import nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from nnunetv2_mmkd.errors import InputError

TOLERANCE = 1e-3
"""Largest difference of affines (mm) and of labels from whole numbers that is taken for rounding."""

_GZIP = b"\x1f\x8b"
_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_REMEDY = "get a good copy of it (an image may also be removed, its modality is missing then; a label may not)"
_UNREADABLE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
    WrapStructError,
)
_GEOMETRY = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units"),
)


@dataclass(frozen=True)
class Volume:
    """A NIfTI file that was read completely.

    Attributes:
        path: the file.
        stored: its bytes.
        plain: its bytes, decompressed.
        header: its header.
        voxels: its voxels, scaled by slope and intercept, shape ``[x, y, z]``.
    """

    path: Path
    stored: bytes
    plain: bytes
    header: nib.Nifti1Header
    voxels: np.ndarray

    @property
    def compressed(self) -> bool:
        """Whether the file is gzip-compressed, whatever its name says."""
        return self.stored.startswith(_GZIP)


def stem_of(name: str) -> str | None:
    """File name without ``.nii`` or ``.nii.gz`` (any case); None for hidden and other files."""
    match = _NIFTI.search(name)
    return None if name.startswith(".") or match is None else name[: match.start()]


def read_header(path: Path) -> nib.Nifti1Header:
    """Header of a NIfTI file, checked.

    Raises:
        InputError: the file is unreadable, or is no 3-D image of real numbers with a proper affine.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(2)
            file.seek(0)
            with gzip.open(file) if start == _GZIP else nullcontext(file) as stream:
                size = stream.read(4)
                stream.seek(0)
                return _checked(path, _image_class(size).header_class.from_fileobj(stream))
    except InputError:
        raise
    except _UNREADABLE as error:
        raise unreadable(path, error) from error


def read_volume(path: Path) -> Volume:
    """A NIfTI file with its voxels.

    Raises:
        InputError: as :func:`read_header`, or the file is truncated or damaged, or holds NaN or infinity.
    """
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    return parse_volume(path, stored)


def parse_volume(path: Path, stored: bytes) -> Volume:
    """As :func:`read_volume`, from the bytes of the file; ``path`` only names it in errors."""
    try:
        plain = gzip.decompress(stored) if stored.startswith(_GZIP) else stored
        image_class = _image_class(plain[:4])
        # Not the header of the image: nibabel clears slope, intercept and offset there.
        header = _checked(path, image_class.header_class.from_fileobj(BytesIO(plain)))
        voxels = np.asanyarray(image_class.from_bytes(plain).dataobj)
    except InputError:
        raise
    except _UNREADABLE as error:
        raise unreadable(path, error) from error
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        count = int((~np.isfinite(voxels)).sum())
        raise InputError(f"{path}: {count} voxels are NaN or infinite; {_REMEDY}")
    return Volume(path, stored, plain, header, voxels)


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that exists but cannot be read."""
    return InputError(f"{path}: cannot be read as NIfTI ({_reason(error)}); {_REMEDY}")


def spacing_of(header: nib.Nifti1Header) -> np.ndarray:
    """Voxel sizes (mm) by the header's zooms and by its affine, ``[2, 3]``."""
    return np.stack([header.get_zooms()[:3], nib.affines.voxel_sizes(header.get_best_affine())])


def same_affine(first: nib.Nifti1Header, second: nib.Nifti1Header) -> bool:
    """Whether two images have the same affine, within :data:`TOLERANCE`."""
    return bool(np.abs(first.get_best_affine() - second.get_best_affine()).max() <= TOLERANCE)


def with_geometry(volume: Volume, reference: nib.Nifti1Header) -> bytes:
    """The file (uncompressed) with the geometry of ``reference``; its voxels are not touched."""
    header = volume.header.copy()
    for field in _GEOMETRY:
        header[field] = reference[field]
    header["pixdim"][:4] = reference["pixdim"][:4]
    block = header.binaryblock
    result: bytes = block + volume.plain[len(block) :]
    return result


def image_bytes(voxels: np.ndarray, like: nib.Nifti1Header) -> bytes:
    """A NIfTI file (uncompressed) of these voxels, ``[x, y, z]``, with the header of ``like`` but their dtype.

    Slope, intercept and display range are reset; sform and qform stay as they are, codes included.
    """
    header = like.copy()
    header.set_data_dtype(voxels.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    image_class: Any = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    content: bytes = image_class(voxels, None, header).to_bytes()
    return content


def integer_labels(volume: Volume) -> np.ndarray:
    """Voxels of a label file as whole numbers (int64).

    Raises:
        InputError: a voxel is not within :data:`TOLERANCE` of a whole number.
    """
    if volume.voxels.dtype.kind in "iu":
        return volume.voxels.astype(np.int64)
    rounded = np.rint(volume.voxels)
    off = np.abs(volume.voxels - rounded)
    if off.max(initial=0) > TOLERANCE:
        value = volume.voxels.flat[int(off.argmax())]
        raise InputError(f"{volume.path}: label value {value:g} is not a whole number")
    result: np.ndarray = rounded.astype(np.int64)
    return result


def map_labels(labels: np.ndarray, mapping: dict[int, int], dtype: str) -> tuple[np.ndarray, list[int]]:
    """Map label values; returns the mapped array and the values that ``mapping`` lacks (their voxels become 0)."""
    mapped = np.zeros(labels.shape, dtype=dtype)
    known = np.zeros(labels.shape, dtype=bool)
    for value, target in mapping.items():
        where = labels == value
        known |= where
        if target:
            mapped[where] = target
    return mapped, [] if known.all() else np.unique(labels[~known]).tolist()


def compress(plain: bytes) -> bytes:
    """gzip without a time stamp: the same content gives the same file."""
    return gzip.compress(plain, compresslevel=6, mtime=0)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _image_class(start: bytes) -> type[nib.Nifti1Image]:
    """NIfTI-1 or NIfTI-2, of either byte order, by the first four bytes."""
    sizes = {int.from_bytes(start, order) for order in ("little", "big")} if len(start) == 4 else set()
    if 348 in sizes:
        return nib.Nifti1Image
    if 540 in sizes:
        return nib.Nifti2Image
    raise ImageFileError("no NIfTI header")


def _checked(path: Path, header: nib.Nifti1Header) -> nib.Nifti1Header:
    shape = header.get_data_shape()
    if len(shape) != 3 or 0 in shape:
        raise InputError(f"{path}: shape {tuple(shape)}; expected a 3-D image")
    if header.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path}: voxels of type {header.get_data_dtype()}; expected real numbers")
    affine = header.get_best_affine()
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
        raise InputError(f"{path}: the affine is not invertible; repair the header")
    return header
