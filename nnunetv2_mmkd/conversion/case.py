"""One case: check its headers, then convert it. Runs in worker processes, so it needs neither torch nor nnU-Net."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from nnunetv2_mmkd import images as nifti
from nnunetv2_mmkd.editions.discover import CaseFiles
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import atomic_write, within
from nnunetv2_mmkd.nnunet_json import read_object

STATE = ".mmkd_conversion"
"""Folder in the data set with a record for each finished case; what an interrupted run goes on from."""

_VERSION = 1  # of the records; raise it when a conversion would write other files


@dataclass(frozen=True)
class CaseRecord:
    """What was written for a case.

    Attributes:
        case: its name.
        fingerprint: path, size and time of each source file; a case whose sources changed is converted again. Empty
            while the case is being written.
        outputs: path relative to the data set -> size in bytes.
        missing: canonical names of the missing modalities, in channel order.
        messages: warnings.
    """

    case: str
    fingerprint: list[Any]
    outputs: dict[str, int]
    missing: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


def fingerprint(files: CaseFiles) -> list[Any]:
    """Path, size and modification time of every source file of a case, JSON-able."""
    stats = [(path, path.stat()) for path in files.files]
    return [_VERSION, *([str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats)]


def read_record(target: Path, case: str) -> CaseRecord | None:
    """The record of a finished case, or None. One that is damaged or names paths out of ``target`` counts as none."""
    try:
        record = CaseRecord(**read_object(target / STATE / f"{case}.json"))
        for name in record.outputs:
            within(target, name)
    except (InputError, TypeError):
        return None
    return record if record.case == case else None


def is_done(target: Path, files: CaseFiles, record: CaseRecord | None) -> bool:
    """Whether a case has been converted from these very source files and its outputs are all there."""
    if record is None or record.fingerprint != fingerprint(files):
        return False
    paths = {target / name: size for name, size in record.outputs.items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())


def check_headers(spec: EditionSpec, files: CaseFiles) -> tuple[str, ...]:
    """Check the headers of a case: readable, one grid. Voxels are not read.

    Returns:
        warnings: files whose origin or direction differs and will be replaced.

    Raises:
        InputError: unreadable header, or another shape or voxel size than the first image's.
    """
    reference_path = files.files[0]
    reference = nifti.read_header(reference_path)
    messages = []
    for path in files.files[1:]:
        header = nifti.read_header(path)
        _same_grid(files.case, path, header, reference_path, reference)
        if not nifti.same_affine(header, reference):
            messages.append(
                f"{files.case}: origin or direction of {path.name} differs from {reference_path.name}; "
                f"that of {reference_path.name} is written"
            )
    return tuple(messages)


def convert_case(spec: EditionSpec, files: CaseFiles, target: Path) -> CaseRecord:
    """Write the images and the label of one case in nnU-Net raw format, then its record.

    Images keep voxels and dtype; a compressed image on the right grid is copied byte by byte. A missing modality, or
    one whose file is all zero, becomes an all-zero image with the grid of the first image.

    Raises:
        InputError: a file is broken, a label value is not allowed, no modality has any signal, or writing fails.
    """
    sources = fingerprint(files)
    messages = list(check_headers(spec, files))
    images = "imagesTs" if files.label is None else "imagesTr"
    contents: dict[str, bytes] = {}
    missing = []
    reference: nib.Nifti1Header | None = None
    for index, (channel, path) in enumerate(zip(spec.channels, files.images, strict=True)):
        if path is None:
            missing.append(channel.name)
            continue
        volume = nifti.read_volume(path)
        if reference is None:
            reference = volume.header
        if not volume.voxels.any():
            missing.append(channel.name)
            messages.append(f"{files.case}: {path.name} is all zero; {channel.display} is taken as missing")
        contents[f"{images}/{files.case}_{index:04d}.nii.gz"] = _image_content(volume, reference)
    if reference is None or len(missing) == len(spec.channels):
        raise InputError(f"case {files.case}: no image at all in {files.folder}: the files there are all zero")
    blank = nifti.image_bytes(np.zeros(reference.get_data_shape(), reference.get_data_dtype()), reference)
    for index in range(len(spec.channels)):
        contents.setdefault(f"{images}/{files.case}_{index:04d}.nii.gz", nifti.compress(blank))
    if files.label is not None:
        contents[f"labelsTr/{files.case}.nii.gz"] = _label_content(spec, files, reference)
    record = CaseRecord(files.case, [], {name: len(content) for name, content in contents.items()}, missing, messages)
    _write_record(target, record)
    for name, content in contents.items():
        atomic_write(target / name, content)
    record = replace(record, fingerprint=sources)
    _write_record(target, record)
    return record


def read_label(spec: EditionSpec, case: str, path: Path) -> np.ndarray:
    """Label file of an edition as nnU-Net values, uint8 ``[x, y, z]``.

    Raises:
        InputError: the file is broken, or a value is not among the edition's.
    """
    labels = nifti.integer_labels(nifti.read_volume(path))
    mapped, unknown = nifti.map_labels(labels, dict(spec.label_map), "uint8")
    if unknown:
        raise InputError(
            f"case {case}: {path} has the label {', '.join(map(str, unknown))}; {spec.title} allows "
            f"{', '.join(map(str, spec.allowed_labels))}. Is this the right edition?"
        )
    return mapped


def _write_record(target: Path, record: CaseRecord) -> None:
    atomic_write(target / STATE / f"{record.case}.json", json.dumps(asdict(record)).encode())


def _image_content(volume: nifti.Volume, reference: nib.Nifti1Header) -> bytes:
    if not nifti.same_affine(volume.header, reference):
        return nifti.compress(nifti.with_geometry(volume, reference))
    return volume.stored if volume.compressed else nifti.compress(volume.plain)


def _label_content(spec: EditionSpec, files: CaseFiles, reference: nib.Nifti1Header) -> bytes:
    assert files.label is not None
    return nifti.compress(nifti.image_bytes(read_label(spec, files.case, files.label), reference))


def _same_grid(
    case: str, path: Path, header: nib.Nifti1Header, reference_path: Path, reference: nib.Nifti1Header
) -> None:
    shape, expected = tuple(header.get_data_shape()), tuple(reference.get_data_shape())
    if shape != expected:
        raise InputError(
            f"case {case}: {path} has shape {shape}, but {reference_path.name} has {expected}; "
            "all images and the label of a case must be on one grid: resample it first"
        )
    spacing, wanted = nifti.spacing_of(header), nifti.spacing_of(reference)
    if np.abs(spacing - wanted).max() > nifti.TOLERANCE:
        raise InputError(
            f"case {case}: {path} has voxel size {np.round(spacing[1], 4).tolist()} mm, but {reference_path.name} has "
            f"{np.round(wanted[1], 4).tolist()}; all images and the label of a case must be on one grid: "
            "resample it first"
        )
