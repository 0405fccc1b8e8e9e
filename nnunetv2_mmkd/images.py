"""Read, check and make NIfTI files, so that a broken file is named.

The header comes first: it says how many bytes there may be, and no more are unzipped. Files are handled as bytes: the
gzip checksum is verified, voxels that need no change are never touched, and what was checked is what is written
(:mod:`nnunetv2_mmkd.files`). Where a file is must be read alike by nibabel and SimpleITK, nnU-Net's reader.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.geometry import Alignment, Grid
from nnunetv2_mmkd.itk_formats import OTHER_FORMATS, header_as_nifti, image_as_nifti, refuse_other_files
from nnunetv2_mmkd.nifti_header import (
    REMEDY,
    UNREADABLE,
    dimensions,
    file_length,
    grid_of,
    read_start,
    unreadable,
)

TOLERANCE = 1e-3
"""Largest difference of affines (mm) and of labels from whole numbers that is taken for rounding."""

_GZIP = b"\x1f\x8b"
_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_LARGEST = 1e15  # of values: their squares must be numbers in float32, too
_LABELS = 2**31  # label values lie below
_LABEL_REMEDY = "expected labels, not probabilities or resampled labels"
_SURPLUS = 1 << 20  # bytes after the voxels that are no matter
_GZIP_RATIO = 1040  # gzip cannot compress better
_KINDS = {
    stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}  # fmt: skip
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
        header: its header, of three dimensions.
        voxels: its voxels, scaled by slope and intercept, shape ``[x, y, z]``.
        squeezed: the file has two dimensions, or further ones of length 1; ``plain`` and ``header`` have three.
    """

    path: Path
    stored: bytes
    plain: bytes
    header: nib.Nifti1Header
    voxels: np.ndarray
    squeezed: bool = False

    @property
    def grid(self) -> Grid:
        """Where its voxels are."""
        return grid_of(self.path, self.header)

    @property
    def compressed(self) -> bool:
        """Whether the file is gzip-compressed, whatever its name says."""
        return self.stored.startswith(_GZIP)


def stem_of(name: str) -> str | None:
    """File name without ``.nii``, ``.nii.gz``, ``.mha`` or ``.nrrd`` (any case); None for hidden and other files."""
    match = _NIFTI.search(name) or OTHER_FORMATS.search(name)
    return None if name.startswith(".") or match is None else name[: match.start()]


def is_nifti(path: Path) -> bool:
    """Whether a file is called a NIfTI."""
    return _NIFTI.search(path.name) is not None


def require_file(path: Path) -> int:
    """Check that a path is a file, before it is opened (a named pipe would never end); returns its size.

    Raises:
        InputError: it does not exist, is something else, is a link that leads nowhere, or leads to other files.
    """
    try:
        status = path.stat()
    except OSError as error:
        if path.is_symlink():
            target = os.readlink(path)
            raise InputError(f"{path}: is a link to {target}, which leads nowhere; mend or delete it") from error
        if isinstance(error, FileNotFoundError):
            raise InputError(f"{path} does not exist") from error
        raise unreadable(path, error) from error
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # SimpleITK opens no such file
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise InputError(f"{shown}: its name is not UTF-8; rename it (or the folder)") from error
    if stat.S_ISREG(status.st_mode):
        if not is_nifti(path):
            refuse_other_files(path)
        return status.st_size
    what = next((name for test, name in _KINDS.items() if test(status.st_mode)), "no file")
    raise InputError(f"{path}: is {what}; expected an image file. Put the image there, or take it away")


def read_header(path: Path, volumes: int = 1) -> nib.Nifti1Header:
    """Header of an image, checked, with three dimensions: a picture is one slice, further ones of length 1 go.

    Args:
        path: NIfTI, or a format of :mod:`.itk_formats`, whose header is given as NIfTI's.
        volumes: number of images in the file, each with this header.

    Raises:
        InputError: no file, or unreadable; no 3-D image of real numbers; a header that does not say where its voxels
            are, or says so in a way that other programs read differently; a file too short for it.
    """
    size = require_file(path)
    try:
        if OTHER_FORMATS.search(path.name):
            block = header_as_nifti(path).binaryblock + bytes(4)
            return read_start(path, BytesIO(block), sys.maxsize, volumes)[1]
        with open(path, "rb") as file:
            compressed = file.read(2) == _GZIP
            file.seek(0)
            with gzip.open(file) if compressed else file as stream:
                _, header = read_start(path, stream, size * (_GZIP_RATIO if compressed else 1), volumes)
        _check_compression(path, compressed)
        return header
    except InputError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def read_volume(path: Path, index: int = 0, volumes: int = 1) -> Volume:
    """An image with its voxels.

    Args:
        path: as for :func:`read_header`; of other formats ``stored`` is the NIfTI file that they would be.
        index: of the image in the file.
        volumes: number of images in the file.

    Raises:
        InputError: as :func:`read_header`, or the file is truncated or damaged, longer than its header says, or holds
            NaN, infinity or numbers beyond all measure.
    """
    require_file(path)
    try:
        stored = image_as_nifti(path) if OTHER_FORMATS.search(path.name) else path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    volume = parse_volume(path, stored, index, volumes)
    _check_compression(path, volume.compressed)
    return volume


def _check_compression(path: Path, compressed: bool) -> None:
    """Refuse a file whose name says otherwise: nnU-Net's readers go by the name."""
    if is_nifti(path) and compressed != path.name.lower().endswith(".gz"):
        what, ending = ("", ".nii.gz") if compressed else ("not ", ".nii")
        raise InputError(f"{path} is {what}gzip-compressed, other than its name says; let its name end in {ending}")


def parse_volume(path: Path, stored: bytes, index: int = 0, volumes: int = 1) -> Volume:
    """As :func:`read_volume`, from the bytes of the NIfTI file; ``path`` only names it in errors."""
    try:
        compressed = stored.startswith(_GZIP)
        with gzip.GzipFile(str(path), "rb", fileobj=BytesIO(stored)) if compressed else BytesIO(stored) as stream:
            start, header = read_start(path, stream, len(stored) * (_GZIP_RATIO if compressed else 1), volumes)
            length = file_length(header, volumes)
            plain = start + stream.read(length + _SURPLUS + 1 - len(start))
        if len(plain) > length + _SURPLUS:
            raise InputError(f"{path}: holds more than the {length} bytes that its header says; {REMEDY}")
        if volumes > 1:  # they lie one after the other
            offset, size = int(header.get_data_offset()), file_length(header) - int(header.get_data_offset())
            plain = plain[:offset] + plain[offset + index * size : offset + (index + 1) * size]
        squeezed = dimensions(plain) != 3
        if squeezed:
            plain = header.binaryblock + plain[len(header.binaryblock) :]
        voxels = np.asanyarray(nib.Nifti1Image.from_bytes(plain).dataobj)
    except InputError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    check_values(path, voxels)
    return Volume(path, stored, plain, header, voxels, squeezed)


def check_values(path: Path | str, voxels: np.ndarray) -> None:
    """Check that the voxels of an image are numbers that can be reckoned with.

    Raises:
        InputError: NaN, infinity or values beyond all measure.
    """
    if voxels.dtype.kind != "f" or not voxels.size:
        return
    largest = max(float(voxels.max()), -float(voxels.min()))
    if not np.isfinite(largest):
        count = int((~np.isfinite(voxels)).sum())
        raise InputError(f"{path}: {count} voxels are NaN or infinite; {REMEDY}")
    if largest > _LARGEST:
        raise InputError(f"{path}: holds values up to {largest:.3g} (by the header's scl_slope, perhaps); {REMEDY}")


def with_geometry(volume: Volume, reference: nib.Nifti1Header, alignment: Alignment) -> bytes:
    """The file (uncompressed) on the grid of ``reference``; its voxels are not touched, but in their order."""
    header = volume.header.copy()
    for field in _GEOMETRY:
        header[field] = reference[field]
    header["pixdim"][:4] = reference["pixdim"][:4]
    header["dim"][1:4] = reference["dim"][1:4]
    block: bytes = header.binaryblock
    if not alignment.reoriented:
        return block + volume.plain[len(block) :]
    offset, end = int(header.get_data_offset()), file_length(header)
    raw = np.frombuffer(volume.plain[offset:end], header.get_data_dtype())
    voxels = alignment.apply(raw.reshape(volume.voxels.shape, order="F"))
    return block + volume.plain[len(block) : offset] + voxels.tobytes(order="F") + volume.plain[end:]


def image_bytes(voxels: np.ndarray, like: nib.Nifti1Header) -> bytes:
    """A NIfTI file (uncompressed) of these voxels, ``[x, y, z]``, with the header of ``like`` but their dtype.

    Slope, intercept and display range are reset; sform and qform stay as they are, codes included.
    """
    header = like.copy()
    header.set_data_dtype(voxels.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    content: bytes = nib.Nifti1Image(voxels, None, header).to_bytes()
    return content


def integer_labels(path: Path, voxels: np.ndarray) -> np.ndarray:
    """Voxels of a label file as whole numbers (int64).

    Args:
        path: names the file in errors.
        voxels: of any shape.

    Raises:
        InputError: a voxel is not within :data:`TOLERANCE` of a whole number, or is none that a label can be.
    """
    check_values(path, voxels)
    largest = max(float(voxels.max()), -float(voxels.min())) if voxels.size else 0.0
    if largest >= _LABELS:
        raise InputError(f"{path}: label value {largest:.10g}; {_LABEL_REMEDY}")
    if voxels.dtype.kind in "iu":
        return voxels.astype(np.int64)
    rounded = np.rint(voxels)
    off = np.abs(voxels - rounded)
    if off.max(initial=0) > TOLERANCE:
        value = voxels.flat[int(off.argmax())]
        raise InputError(f"{path}: label value {value:g} is not a whole number; {_LABEL_REMEDY}")
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
