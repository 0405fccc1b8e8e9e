"""An nnU-Net raw data set that lacks images -> one that trainers read: zero images, and ``missing_modalities``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunetv2_mmkd import images as nifti
from nnunetv2_mmkd.conversion.folder import INDENT, raw_folder
from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.files import atomic_write, locked, write_json
from nnunetv2_mmkd.geometry import align, reference_of
from nnunetv2_mmkd.image_names import list_images
from nnunetv2_mmkd.inference.cases import Case, cases_of_folder
from nnunetv2_mmkd.inference.naming import ImageNaming, model_naming
from nnunetv2_mmkd.nifti_header import grid_of
from nnunetv2_mmkd.nnunet_json import MISSING, DatasetJson, read_dataset_json

_ZIPPED_ZEROS = 0.02  # of the voxels' bytes; a compressed image of zeros is smaller


@dataclass(frozen=True)
class Completion:
    """What a data set lacks.

    Attributes:
        folder: of the data set.
        zeros: image that does not exist -> one of its case whose header it gets.
        missing: case -> modalities without an image, or with an all-zero one; what ``dataset.json`` will say.
        lines: what is to be done, for the user.
    """

    folder: Path
    zeros: dict[Path, Path]
    missing: dict[str, list[str]]
    lines: tuple[str, ...]


def complete(dataset_id: int, *, dry_run: bool = False, show_progress: bool = True) -> Completion:
    """Give a raw data set the zero images that it lacks, and ``missing_modalities`` in its ``dataset.json``.

    Everything is checked before the first image is written; existing images are not touched. ``dataset.json`` is
    written last: a run that was ended goes on when it is repeated.

    Args:
        dataset_id: of the data set.
        dry_run: only say what would be done.
        show_progress: show a progress bar.

    Returns:
        what was done.

    Raises:
        InputError: no such data set, one that is not in nnU-Net's naming or not NIfTI, a training case without a
            segmentation or the reverse, images of a case on different grids, or writing fails.
    """
    folder = dataset_folder(dataset_id)
    if dry_run:
        return _plan(folder, show_progress)
    with locked(folder):
        plan = _plan(folder, show_progress)
        dataset = read_dataset_json(folder / "dataset.json")
        for target, like in tqdm(plan.zeros.items(), "write", disable=not show_progress or not plan.zeros):
            atomic_write(target, _zero_image(target, like))
        if plan.missing != {case: list(names) for case, names in dataset.missing.items()}:
            write_json(folder / "dataset.json", {**dataset.content, MISSING: plan.missing}, INDENT)
    return plan


def dataset_folder(dataset_id: int) -> Path:
    """The folder of a raw data set.

    Raises:
        InputError: there is none, or several.
    """
    raw = raw_folder()
    found = sorted(path for path in raw.glob(f"Dataset{dataset_id:03d}_*") if path.is_dir())
    if len(found) != 1:
        what = f"several: {first_few(path.name for path in found)}" if found else "none"
        raise InputError(f"-d {dataset_id}: expected one folder Dataset{dataset_id:03d}_... in {raw}, there is {what}")
    return found[0]


def _plan(folder: Path, show_progress: bool) -> Completion:
    file = folder / "dataset.json"
    dataset = read_dataset_json(file)
    if dataset.content.get("dataset"):
        raise InputError(
            f"{file}: its key 'dataset' lists the images one by one; put them into imagesTr, and remove it"
        )
    if dataset.file_ending not in (".nii.gz", ".nii"):
        raise InputError(f"{file}: file_ending is {dataset.file_ending!r}; zero images are written as .nii.gz or .nii")
    naming = model_naming(dataset.modalities, dataset)
    if not (folder / "imagesTr").is_dir():
        raise InputError(f"{folder} has no imagesTr: it is no raw data set of nnU-Net")
    places = [
        place for place in ("imagesTr", "imagesTs") if (folder / place).is_dir() and any((folder / place).iterdir())
    ]
    found = [(place, case) for place in places for case in cases_of_folder(str(folder / place), naming)]
    labels = _labels(folder, dataset, [case.identifier for place, case in found if place == "imagesTr"])
    zeros: dict[Path, Path] = {}
    missing: dict[str, list[str]] = {}
    for place, case in tqdm(found, "check", disable=not show_progress):
        label = labels.get(case.identifier) if place == "imagesTr" else None
        first = _check(case, label)
        lacking = [*case.missing, *_all_zero(case)]
        if len(lacking) == len(case.modalities):
            raise InputError(f"case {case.identifier}: all its images are zero; take it out of {folder / place}")
        declared = dataset.missing.get(case.identifier, ())
        names = [name for name in case.modalities if name in (*lacking, *declared)]
        if len(names) == len(case.modalities):
            raise InputError(
                f"{file}, {MISSING}: case {case.identifier} would have no image left; correct it, or take the case out"
            )
        if names:
            missing[case.identifier] = names
        numbers = {channel: number for number, channel in naming.channels.items()}
        for channel, name in enumerate(case.modalities):
            if name in case.missing:
                image = f"{case.identifier}_{numbers[channel]:04d}{dataset.file_ending}"
                zeros[folder / place / image] = first
    others = [case for case in dataset.missing if case not in missing]
    if others:
        raise InputError(f"{file}, {MISSING}: the data set has no case {others[0]!r}; correct the name or take it out")
    return Completion(folder, zeros, missing, tuple(_lines(dataset, naming, found, zeros, missing)))


def _labels(folder: Path, dataset: DatasetJson, cases: Sequence[str]) -> dict[str, Path]:
    """The segmentations of the training cases.

    Raises:
        InputError: one does not exist, or has no image.
    """
    content = list_images(folder / "labelsTr", dataset.file_ending)
    stems = set(content.stems)
    content.refuse_lookalikes({case: "a segmentation" for case in cases if case not in stems})
    for lonely, what in (
        (stems - set(cases), "no image in imagesTr"),
        (set(cases) - stems, "no segmentation in labelsTr"),
    ):
        if lonely:
            raise InputError(
                f"{folder}: cases with {what}: {first_few(sorted(lonely), 5)}; add it, or take the case out"
            )
    return {case: folder / "labelsTr" / f"{case}{dataset.file_ending}" for case in cases}


def _check(case: Case, label: Path | None) -> Path:
    """Check the headers of a case; returns the image whose header is that of the case.

    Raises:
        InputError: images on different grids, or stored in different orientations.
    """
    paths = [Path(file) for file in case.files if file is not None] + ([] if label is None else [label])
    grids = [grid_of(path, nifti.read_header(path)) for path in paths]
    reference = grids[reference_of(grids)]
    where = f"case {case.identifier}: "
    for grid in grids:
        if align(grid, reference, where).reoriented:
            raise InputError(
                f"{where}{grid.path} is stored in another orientation than {reference.path.name}, and nnU-Net does not "
                "reorient: store it alike, or convert the images (mmkd convert custom)"
            )
    return reference.path


def _all_zero(case: Case) -> list[str]:
    """Modalities whose image exists and is all zero; only images that could be are read."""
    found = []
    for name, file in zip(case.modalities, case.files, strict=True):
        if file is None:
            continue
        header = nifti.read_header(Path(file))
        size = float(np.prod(header.get_data_shape(), dtype=float)) * header.get_data_dtype().itemsize
        small = not file.endswith(".gz") or os.path.getsize(file) < max(_ZIPPED_ZEROS * size, 1000)
        if small and not nifti.read_volume(Path(file)).voxels.any():
            found.append(name)
    return found


def _zero_image(target: Path, like: Path) -> bytes:
    header = nifti.read_header(like)
    plain = nifti.image_bytes(np.zeros(header.get_data_shape(), header.get_data_dtype()), header)
    return nifti.compress(plain) if target.name.endswith(".gz") else plain


def _lines(
    dataset: DatasetJson,
    naming: ImageNaming,
    found: Sequence[tuple[str, Case]],
    zeros: dict[Path, Path],
    missing: dict[str, list[str]],
) -> list[str]:
    """What is to be done, in words."""
    lines = []
    for _, case in found:
        names = missing.get(case.identifier, [])
        known = dataset.missing.get(case.identifier, ())
        absent = [name for name in names if name in case.missing]
        zero = [name for name in names if name not in case.missing and name not in known]
        if absent:
            lines.append(f"{case.identifier}: no {', '.join(absent)}: zero images, declared missing")
        if zero:
            lines.append(f"{case.identifier}: {', '.join(zero)} is all zero: declared missing")
    counts = ", ".join(
        f"{name} in {sum(name in names for names in missing.values())}"
        for name in naming.modalities
        if any(name in names for names in missing.values())
    )
    lines.append(
        f"{len(found)} cases, {len(missing)} with missing modalities{f' ({counts})' if counts else ''}; "
        f"{len(zeros)} zero images"
    )
    return lines
