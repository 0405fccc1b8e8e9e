"""The headers of a case, checked before the first voxel of any case is read."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from nnunetv2_mmkd import images as nifti
from nnunetv2_mmkd.editions.discover import CaseFiles
from nnunetv2_mmkd.errors import InputError


def check_headers(files: CaseFiles) -> tuple[str, ...]:
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


def _same_grid(
    case: str, path: Path, header: nib.Nifti1Header, reference_path: Path, reference: nib.Nifti1Header
) -> None:
    shape, expected = tuple(header.get_data_shape()), tuple(reference.get_data_shape())
    if shape != expected:
        raise InputError(
            f"case {case}: {path} has shape {shape}, but {reference_path.name} has {expected}; "
            "all images and the label of a case must be on one grid: resample it first"
        )
    spacing, expected_spacing = nifti.spacing_of(header), nifti.spacing_of(reference)
    if np.abs(spacing - expected_spacing).max() > nifti.TOLERANCE:
        raise InputError(
            f"case {case}: {path} has voxel size {np.round(spacing[1], 4).tolist()} mm, but {reference_path.name} has "
            f"{np.round(expected_spacing[1], 4).tolist()}; all images and the label of a case must be on one grid: "
            "resample it first"
        )
