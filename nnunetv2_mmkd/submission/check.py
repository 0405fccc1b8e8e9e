"""Check a submission as the platform would: read the archive again and compare it with the original cases."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunetv2_mmkd import images as nifti
from nnunetv2_mmkd.editions.discover import CaseFiles, discover
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.geometry import Grid
from nnunetv2_mmkd.nifti_header import grid_of

Check = Callable[[EditionSpec, nifti.Volume, CaseFiles], str | None]
"""Says what is wrong with a file of a submission."""


def check_submission(
    spec: EditionSpec, archive: Path | str, originals: Sequence[Path | str], *, allow_missing: bool = False
) -> None:
    """Check a zip or tar.gz archive against the original cases.

    The archive is flat, its names are those of the cases (or end in their ids, where that is all the platform looks
    at), the grid is the platform's, the voxel type and the labels are the edition's, shape,
    affine, sform and qform (codes included) are those of the case's first image.

    Args:
        spec: the edition.
        archive: the archive.
        originals: folders with the original cases.
        allow_missing: cases without a file are fine.

    Raises:
        InputError: with the list of offenders.
    """
    archive = Path(archive)
    cases = {spec.submission_name.format(case=files.case): files for files in discover(spec, originals)}
    check_archive(spec, archive, cases, label_problem, allow_missing=allow_missing)


def check_archive(
    spec: EditionSpec, archive: Path, cases: Mapping[str, CaseFiles], check: Check, *, allow_missing: bool
) -> None:
    """Check the names in an archive, and each file with ``check``.

    Args:
        spec: the edition.
        archive: zip or tar.gz.
        cases: expected file name -> case.
        check: what is wrong with a file, or None.
        allow_missing: expected files may be absent.
    """
    expected = {key: files for name, files in cases.items() if (key := spec.platform.key(name)) is not None}
    try:
        with _opened(archive) as (names, read):
            keys = {name: spec.platform.key(name) or "" for name in names}
            refuse(archive, "names that match no original case", [name for name in names if keys[name] not in expected])
            counts = Counter(keys[name] for name in names)
            refuse(archive, "names that occur twice", sorted(name for name in keys if counts[keys[name]] > 1))
            if not allow_missing:
                present = set(keys.values())
                refuse(
                    archive, "cases without a file", [name for name in cases if spec.platform.key(name) not in present]
                )
            problems = [check(spec, nifti.parse_volume(Path(n), read(n)), expected[keys[n]]) for n in names]
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        raise InputError(f"{archive}: cannot be read as a zip or tar.gz archive ({error})") from error
    wrong = [problem for problem in problems if problem is not None]
    refuse(archive, f"files that differ from what the platform expects ({spec.platform.name})", wrong)


def refuse(where: Path | str, what: str, offenders: Sequence[str]) -> None:
    """Raise an :class:`InputError` that lists the offenders, if there are any."""
    if offenders:
        shown = "; ".join(offenders[:10]) + (f"; and {len(offenders) - 10} more" if len(offenders) > 10 else "")
        raise InputError(f"{where}: {len(offenders)} {what}: {shown}")


def reference_header(files: CaseFiles) -> nib.Nifti1Header:
    """Header of the original case: that of its first image."""
    return nifti.read_header(files.files[0], files.volumes_in(files.files[0]))


def reference_grid(files: CaseFiles) -> Grid:
    """Grid of the original case: that of its first image."""
    return grid_of(files.files[0], reference_header(files))


def grid_problem(spec: EditionSpec, name: str, header: nib.Nifti1Header) -> str | None:
    """What the platform says to the grid of a file, or None."""
    platform, shape = spec.platform, tuple(header.get_data_shape())
    if platform.grid is None or shape == platform.grid:
        return None
    qform = header.get_qform()
    if platform.qform is not None and np.allclose(qform, platform.qform, rtol=0, atol=nifti.TOLERANCE):
        return None
    return f"{name} (shape {shape}, {platform.name} takes {platform.grid})"


def header_problem(spec: EditionSpec, volume: nifti.Volume, dtype: np.dtype, files: CaseFiles) -> str | None:
    """What is wrong with compression, voxel type or geometry of a submitted file, or None."""
    name, header, original = volume.path.name, volume.header, reference_header(files)
    if volume.squeezed:
        return f"{name} (not three-dimensional)"
    if not volume.compressed:
        return f"{name} (not compressed)"
    if header.get_data_dtype() != dtype or volume.voxels.dtype != header.get_data_dtype():
        return f"{name} (voxel type {header.get_data_dtype()}, expected {dtype})"
    if header.get_data_shape() != original.get_data_shape():
        return f"{name} (shape {header.get_data_shape()}, expected {original.get_data_shape()})"
    same = [header.get_best_affine(), header.get_sform(), header["sform_code"], header["qform_code"]]
    expected = [original.get_best_affine(), original.get_sform(), original["sform_code"], original["qform_code"]]
    same += [header[field] for field in ("quatern_b", "quatern_c", "quatern_d", "pixdim")]
    expected += [original[field] for field in ("quatern_b", "quatern_c", "quatern_d", "pixdim")]
    if not all(np.array_equal(one, other) for one, other in zip(same, expected, strict=True)):
        return f"{name} (affine, sform or qform differ from {files.files[0].name})"
    return grid_problem(spec, name, header)


def label_problem(spec: EditionSpec, volume: nifti.Volume, files: CaseFiles) -> str | None:
    """What is wrong with a submitted segmentation, or None."""
    problem = header_problem(spec, volume, np.dtype(spec.submission_dtype), files)
    if problem is not None:
        return problem
    foreign = sorted(set(np.unique(volume.voxels).tolist()) - set(spec.to_submission().values()))
    return f"{volume.path.name} (labels {foreign})" if foreign else None


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
    """Names in an archive, and what reads one of them."""
    if not tarfile.is_tarfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield opened.namelist(), opened.read
        return
    with tarfile.open(archive) as tar:
        names = [member.name + ("" if member.isfile() else "/") for member in tar.getmembers()]
        yield names, lambda name: _member(tar, name)


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    stream = tar.extractfile(name)
    assert stream is not None  # it is a file: anything else matches no case
    return stream.read()
