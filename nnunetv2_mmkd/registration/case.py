"""One exam: its sequences onto the grid of one of them, or onto an atlas. Runs in worker processes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_mmkd import images as nifti
from nnunetv2_mmkd.disk import cannot_write
from nnunetv2_mmkd.errors import InputError, one_line
from nnunetv2_mmkd.files import atomic_write, temporary_folder
from nnunetv2_mmkd.geometry import ROUNDING, SAME, displacement
from nnunetv2_mmkd.registration.agreement import Agreement, agreement
from nnunetv2_mmkd.registration.brain import brain_mask
from nnunetv2_mmkd.registration.check_image import check_image
from nnunetv2_mmkd.registration.exam import Exam
from nnunetv2_mmkd.registration.itk import as_affine, compose, itk_image, resampled, rotation_of, shift_of
from nnunetv2_mmkd.registration.records import CHECK_IMAGE, TRANSFORMS, Record, Sequence, fingerprint
from nnunetv2_mmkd.registration.rigid import register

REFUSED = "refused"
"""Folder in the output with the check images of cases that were refused."""


@dataclass(frozen=True)
class AlignmentJob:
    """How exams are aligned.

    Attributes:
        output: folder that gets a folder for each case.
        reference: modalities that the others may be brought onto, in order of preference.
        accepted: cases that the user has looked at: no agreement is asked of them.
        atlas: image that the reference is brought onto; None: the reference's own grid is kept.
        strip: set what is not brain to zero.
        device: for the skull stripping, ``"cuda"`` or ``"cpu"``.
    """

    output: Path
    reference: tuple[str, ...]
    accepted: frozenset[str] = frozenset()
    atlas: Path | None = None
    strip: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Outcome:
    """What became of an exam.

    Attributes:
        case: its name.
        refusal: why it was not aligned; empty: it was.
        messages: what is to be said about it.
    """

    case: str
    refusal: str = ""
    messages: tuple[str, ...] = ()


@dataclass
class _Aligned:
    """A sequence on its way.

    Attributes:
        volume: its file.
        image: the same for SimpleITK, float.
        transform: point of the target grid -> point of the sequence.
        fit: how well it agrees with the reference; None: it is the reference.
    """

    volume: nifti.Volume
    image: sitk.Image
    transform: sitk.Euler3DTransform = field(default_factory=sitk.Euler3DTransform)
    fit: Agreement | None = None


def align_exam(exam: Exam, job: AlignmentJob) -> Outcome:
    """Align an exam and write its folder, whole or not at all.

    An image that lies on the reference's grid already, and fits within a tenth of a voxel, is copied.

    Raises:
        InputError: an image is broken, or writing fails. What does not fit is no error here but a refusal.
    """
    sources = fingerprint(exam.images)
    sequences, messages = _read(exam)
    exam = Exam(exam.case, {name: exam.images[name] for name in sequences})
    name = exam.reference(job.reference)
    reference = sequences[name]
    refused = []
    for other, each in sequences.items():
        if other == name:
            continue
        with _naming(f"case {exam.case}, {other}: {each.volume.path}"):
            each.transform = register(reference.image, each.image)
            each.fit = agreement(reference.image, each.image, each.transform)
        reason = each.fit.objection()
        if reason and exam.case not in job.accepted:
            refused.append(f"{other} ({each.volume.path}) does not fit {name} ({reference.volume.path}): {reason}")
        elif reason:
            messages.append(f"{exam.case}: {other} is accepted, though {reason}")
    space = nifti.read_volume(job.atlas) if job.atlas is not None else reference.volume
    if job.atlas is not None:
        with _naming(f"case {exam.case}, {name}: {reference.volume.path}"):
            to_atlas = register(itk_image(space), reference.image)
        for each in sequences.values():
            each.transform = compose(each.transform, to_atlas)
    else:
        _keep_what_lies_there(sequences, reference)
    images = _on_grid(sequences, space)
    if refused:
        path = job.output / REFUSED / f"{exam.case}.png"
        atomic_write(path, check_image(exam.case, name, images, space.grid))
        return Outcome(
            exam.case,
            f"case {exam.case}: {'; '.join(refused)}. Are they of one patient, and the headers right? Look at {path}; "
            f"if it is right all the same, give --accept {exam.case}, else take the image out",
            tuple(messages),
        )
    if job.strip:
        mask = brain_mask(nifti.image_bytes(images[name], space.header), job.device)
        images = {each: np.where(mask, voxels, 0).astype(voxels.dtype) for each, voxels in images.items()}
    record = Record(
        exam.case,
        name,
        "reference" if job.atlas is None else job.atlas.name,
        {other: _described(exam.case, other, each, space) for other, each in sequences.items()},
        sources,
        messages,
    )
    _write(exam.case, job, record, sequences, images, space)
    return Outcome(exam.case, messages=tuple(messages))


@contextmanager
def _naming(image: str) -> Iterator[None]:
    """Name the image whose registration SimpleITK gives up."""
    try:
        yield
    except RuntimeError as error:
        reason = one_line(str(error).split("ERROR:")[-1], 200)
        raise InputError(f"{image} cannot be registered ({reason}); look at the image, or take it out") from error


def _read(exam: Exam) -> tuple[dict[str, _Aligned], list[str]]:
    """The sequences that have content, and what to say of the others."""
    sequences: dict[str, _Aligned] = {}
    messages = []
    for name, path in exam.images.items():
        try:
            volume = nifti.read_volume(path)
        except InputError as error:
            raise InputError(f"case {exam.case}, {name}: {error}") from error
        if volume.voxels.min() == volume.voxels.max():
            messages.append(f"{exam.case}: all voxels of {path.name} have one value; {name} is taken as missing")
        else:
            sequences[name] = _Aligned(volume, itk_image(volume))
    if not sequences:
        raise InputError(f"case {exam.case}: no image has any content; take the case out")
    return sequences, messages


def _keep_what_lies_there(sequences: Mapping[str, _Aligned], reference: _Aligned) -> None:
    """Take a motion of less than a tenth of a voxel for none, where the grids are one."""
    grid = reference.volume.grid
    for each in sequences.values():
        own = each.volume.grid
        moved = as_affine(each.transform) @ grid.affine
        if own.shape == grid.shape and displacement(own.affine, grid) <= SAME and displacement(moved, grid) < ROUNDING:
            each.transform = sitk.Euler3DTransform()


def _on_grid(sequences: Mapping[str, _Aligned], space: nifti.Volume) -> dict[str, np.ndarray]:
    return {
        name: each.volume.voxels
        if _is_kept(each, space)
        else resampled(each.image, each.transform, space.grid, each.volume.voxels.dtype)
        for name, each in sequences.items()
    }


def _is_kept(each: _Aligned, space: nifti.Volume) -> bool:
    """Whether the file itself is what is to be written."""
    grid, own = space.grid, each.volume.grid
    still = bool((as_affine(each.transform) == np.eye(4)).all())
    return still and own.shape == grid.shape and displacement(own.affine, grid) <= SAME


def _described(case: str, name: str, each: _Aligned, space: nifti.Volume) -> Sequence:
    header = each.volume.header.copy()
    return Sequence(
        source=os.path.abspath(each.volume.path),
        image=f"{case}_{name}.nii.gz",
        transform=f"{TRANSFORMS}/{name}.tfm",
        header=header.binaryblock.hex(),
        rotation=round(rotation_of(each.transform), 3),
        shift=round(shift_of(each.transform, space.grid), 3),
        agreement=None if each.fit is None else round(each.fit.value, 4),
        overlap=None if each.fit is None else round(each.fit.overlap, 4),
    )


def _write(
    case: str,
    job: AlignmentJob,
    record: Record,
    sequences: Mapping[str, _Aligned],
    images: Mapping[str, np.ndarray],
    space: nifti.Volume,
) -> None:
    """Write the case's folder under another name, and rename it."""
    temporary = temporary_folder(job.output)
    folder = temporary / case
    try:
        (folder / TRANSFORMS).mkdir(parents=True)
        for name, each in sequences.items():
            described = record.sequences[name]
            content = nifti.compress(nifti.image_bytes(images[name], space.header))
            if _is_kept(each, space) and each.volume.compressed and not each.volume.squeezed and not job.strip:
                content = each.volume.stored
            atomic_write(folder / described.image, content)
            _write_transform(each.transform, folder / described.transform)
        atomic_write(folder / CHECK_IMAGE, check_image(case, record.reference, images, space.grid))
        record.write(folder)
        (job.output / REFUSED / f"{case}.png").unlink(missing_ok=True)
        target = job.output / case
        if target.exists():
            shutil.rmtree(target)
        os.replace(folder, target)
    except OSError as error:
        raise cannot_write(job.output / case, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_transform(transform: sitk.Transform, path: Path) -> None:
    """Write it and read it again: on a full disk SimpleITK may say nothing."""
    try:
        sitk.WriteTransform(transform, str(path))
        there = sitk.ReadTransform(str(path)).GetParameters() == transform.GetParameters()
    except RuntimeError as error:
        raise cannot_write(path, error) from error
    if not there:
        raise cannot_write(path)
