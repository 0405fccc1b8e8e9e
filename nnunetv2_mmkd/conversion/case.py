"""One case: its images and its label. Runs in worker processes, so it needs neither torch nor nnU-Net."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from nnunetv2_mmkd import images as nifti
from nnunetv2_mmkd.conversion.headers import CaseHeaders, check_headers
from nnunetv2_mmkd.conversion.records import CaseRecord, fingerprint, write_record
from nnunetv2_mmkd.conversion.resample import resampled
from nnunetv2_mmkd.editions.discover import CaseFiles
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.files import atomic_write


def convert_case(spec: EditionSpec, files: CaseFiles, target: Path) -> CaseRecord:
    """Write the images and the label of one case in nnU-Net raw format, then its record.

    Images keep voxels and dtype; a compressed image on the right grid is copied byte by byte. Files whose axes are
    permuted or flipped are reoriented; images on other grids are resampled where the edition says so. A missing
    modality, or one whose file is all zero, becomes an all-zero image.

    Raises:
        InputError: a file is broken, a label value is not allowed, no modality has any signal, or writing fails.
    """
    sources = fingerprint(files)
    headers = check_headers(spec, files)
    reference, messages = headers.reference, list(headers.messages)
    images = "imagesTs" if files.label is None else "imagesTr"
    contents: dict[str, bytes] = {}
    missing = []
    for index, (channel, path) in enumerate(zip(spec.channels, files.images, strict=True)):
        if path is None:
            missing.append(channel.name)
            continue
        volume = nifti.read_volume(path, index if files.volumes > 1 else 0, files.volumes)
        if not volume.voxels.any():
            missing.append(channel.name)
            messages.append(f"{files.case}: {path.name} is all zero; {channel.display} is taken as missing")
        contents[f"{images}/{files.case}_{index:04d}.nii.gz"] = _image_content(volume, headers)
    if len(missing) == len(spec.channels):
        raise InputError(f"case {files.case}: no image at all in {files.folder}: the files there are all zero")
    blank = nifti.image_bytes(np.zeros(reference.get_data_shape(), reference.get_data_dtype()), reference)
    for index in range(len(spec.channels)):
        contents.setdefault(f"{images}/{files.case}_{index:04d}.nii.gz", nifti.compress(blank))
    if files.label is not None:
        labels = read_label(spec, files.case, files.label, messages)
        labels = headers.alignments[files.label].apply(labels)
        contents[f"labelsTr/{files.case}.nii.gz"] = nifti.compress(nifti.image_bytes(labels, reference))
    sizes = {name: len(content) for name, content in contents.items()}
    moved = [
        channel.name
        for channel, path in zip(spec.channels, files.images, strict=True)
        if path is not None and path not in headers.alignments
    ]
    record = CaseRecord(files.case, [], sizes, missing, messages, moved)
    write_record(target, record)
    for name, content in contents.items():
        atomic_write(target / name, content)
    record = replace(record, fingerprint=sources)
    write_record(target, record)
    return record


def read_label(spec: EditionSpec, case: str, path: Path, messages: list[str] | None = None) -> np.ndarray:
    """Label file of an edition as nnU-Net values, uint8 ``[x, y, z]``.

    Args:
        spec: the edition.
        case: for messages.
        path: the file.
        messages: gets what is to be said of it.

    Raises:
        InputError: the file is broken, or a value is not among the edition's.
    """
    labels = nifti.integer_labels(path, nifti.read_volume(path).voxels)
    for slip, meant in spec.slips.items():
        count = int((labels == slip).sum())
        if count and messages is not None:
            messages.append(f"case {case}: {count} voxels of {path.name} have the label {slip}, taken for {meant}")
        labels[labels == slip] = meant
    mapped, unknown = nifti.map_labels(labels, dict(spec.label_map), "uint8")
    if unknown:
        raise InputError(
            f"case {case}: {path} has the label {first_few(unknown, 5)}; {spec.title} allows "
            f"{', '.join(map(str, spec.allowed_labels))}. Is this the right edition?"
        )
    return mapped


def _image_content(volume: nifti.Volume, headers: CaseHeaders) -> bytes:
    alignment = headers.alignments.get(volume.path)
    if alignment is None:
        return nifti.compress(nifti.image_bytes(resampled(volume, headers.grid), headers.reference))
    if not alignment.same:
        return nifti.compress(nifti.with_geometry(volume, headers.reference, alignment))
    return volume.stored if volume.compressed and not volume.squeezed else nifti.compress(volume.plain)
