"""Segmentations of aligned cases the way back: onto the grid of each sequence as it came."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnunetv2_mmkd import images as nifti
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import atomic_write, is_temporary
from nnunetv2_mmkd.geometry import align
from nnunetv2_mmkd.nifti_header import grid_of
from nnunetv2_mmkd.registration.itk import on_grid, resampled_labels
from nnunetv2_mmkd.registration.records import ALIGNMENT, RECORD, read_record

log = logging.getLogger(__name__)

NATIVE = "native"
"""Folder in the output of a prediction."""


def aligned_cases(folder: Path) -> list[str]:
    """Names of the aligned cases in a folder that ``mmkd align`` or ``mmkd preprocess`` made.

    Raises:
        InputError: it is no such folder.
    """
    if not (folder / ALIGNMENT.file).is_file():
        raise InputError(
            f"--native: {folder} was not made by mmkd align or mmkd preprocess ({ALIGNMENT.file} is absent), so the "
            "way back to the images as they came is not known; leave out --native"
        )
    return sorted(path.parent.name for path in folder.glob(f"*/{RECORD}") if not is_temporary(path.parent.name))


def write_native(aligned: Path, segmentations: Path, cases: Sequence[str]) -> list[Path]:
    """Write the segmentation of each case on the grid of each of its sequences.

    Each voxel gets the label of the nearest voxel of the segmentation, at the place where its centre lies; nothing is
    cropped, and the header's geometry is that of the sequence's own file.

    Args:
        aligned: folder with a folder for each case.
        segmentations: ``CASE.nii.gz``; the results go into its folder ``native`` as ``CASE_MODALITY.nii.gz``.
        cases: their names.

    Returns:
        the files.

    Raises:
        InputError: a record or segmentation is broken, or writing fails.
    """
    written = []
    for case in cases:
        for modality, content in native_labels(aligned / case, segmentations / f"{case}.nii.gz").items():
            path = segmentations / NATIVE / f"{case}_{modality}.nii.gz"
            atomic_write(path, content)
            written.append(path)
    log.info(
        "on the grid of each sequence as it came: %d segmentations of %d case%s in %s",
        len(written), len(cases), "s" * (len(cases) != 1), segmentations / NATIVE,
    )  # fmt: skip
    return written


def native_labels(case: Path, segmentation: Path) -> dict[str, bytes]:
    """A segmentation on the grid of each sequence of its case: modality -> compressed NIfTI file.

    Raises:
        InputError: the record or the segmentation is broken, or they do not belong to one another.
    """
    record = read_record(case)
    volume = nifti.read_volume(segmentation)
    labels = nifti.integer_labels(segmentation, volume.voxels).astype(np.int32)
    reference = case / record.sequences[record.reference].image
    align(volume.grid, grid_of(reference, nifti.read_header(reference)), f"case {case.name}: ")
    image = on_grid(labels, volume.grid)
    results = {}
    for modality, sequence in record.sequences.items():
        header = sequence.nifti_header()
        back = record.transform(case, modality).GetInverse()
        voxels = resampled_labels(image, back, grid_of(Path(sequence.source), header))
        dtype = np.uint8 if labels.max(initial=0) < 256 else np.int32
        results[modality] = nifti.compress(nifti.image_bytes(voxels.astype(dtype), header))
    return results
