"""Check a submission as the platform would: read the archive again and compare it with the original cases."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunetv2_mmkd.dataset_conversion import nifti
from nnunetv2_mmkd.dataset_conversion.discover import CaseFiles, discover
from nnunetv2_mmkd.dataset_conversion.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError


def check_submission(
    spec: EditionSpec, archive: Path | str, originals: Sequence[Path | str], *, allow_missing: bool = False
) -> None:
    """Check a zip archive against the original cases.

    The archive is flat, its names are those of the cases, the voxel type and the labels are the edition's, shape,
    affine, sform and qform (codes included) are those of the case's first image.

    Args:
        spec: the edition.
        archive: the zip.
        originals: folders with the original cases.
        allow_missing: cases without a file are fine.

    Raises:
        InputError: with the list of offenders.
    """
    archive = Path(archive)
    cases = {spec.submission_name.format(case=files.case): files for files in discover(spec, originals)}
    check_archive(spec, archive, cases, allow_missing=allow_missing)


def check_archive(spec: EditionSpec, archive: Path, cases: Mapping[str, CaseFiles], *, allow_missing: bool) -> None:
    """As :func:`check_submission`, with the expected file names -> cases at hand."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
            refuse(archive, "names that match no original case", [name for name in names if name not in cases])
            refuse(archive, "names that occur twice", sorted({name for name in names if names.count(name) > 1}))
            if not allow_missing:
                refuse(archive, "cases without a file", [name for name in cases if name not in names])
            wrong = [problem for name in names if (problem := _problem(spec, name, opened.read(name), cases[name]))]
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{archive}: cannot be read as a zip archive ({error})") from error
    refuse(archive, "files that differ from what the platform expects", wrong)


def refuse(where: Path | str, what: str, offenders: Sequence[str]) -> None:
    """Raise an :class:`InputError` that lists the offenders, if there are any."""
    if offenders:
        shown = "; ".join(offenders[:10]) + (f"; and {len(offenders) - 10} more" if len(offenders) > 10 else "")
        raise InputError(f"{where}: {len(offenders)} {what}: {shown}")


def reference_header(files: CaseFiles) -> nib.Nifti1Header:
    """Header of the original case: that of its first image."""
    return nifti.read_header(files.files[0])


def _problem(spec: EditionSpec, name: str, content: bytes, files: CaseFiles) -> str | None:
    volume = nifti.parse_volume(Path(name), content)
    header, original = volume.header, reference_header(files)
    if not volume.compressed:
        return f"{name} (not compressed)"
    if header.get_data_dtype() != np.dtype(spec.submission_dtype) or volume.voxels.dtype != header.get_data_dtype():
        return f"{name} (voxel type {header.get_data_dtype()}, expected {spec.submission_dtype})"
    if header.get_data_shape() != original.get_data_shape():
        return f"{name} (shape {header.get_data_shape()}, expected {original.get_data_shape()})"
    same = [header.get_best_affine(), header.get_sform(), header["sform_code"], header["qform_code"]]
    wanted = [original.get_best_affine(), original.get_sform(), original["sform_code"], original["qform_code"]]
    same += [header[field] for field in ("quatern_b", "quatern_c", "quatern_d", "pixdim")]
    wanted += [original[field] for field in ("quatern_b", "quatern_c", "quatern_d", "pixdim")]
    if not all(np.array_equal(one, other) for one, other in zip(same, wanted, strict=True)):
        return f"{name} (affine, sform or qform differ from {files.files[0].name})"
    foreign = sorted(set(np.unique(volume.voxels).tolist()) - set(spec.to_submission().values()))
    return f"{name} (labels {foreign})" if foreign else None
