"""Checks of the input images before any long work: readable, whole, finite, one grid per case, not all zero.

Every image that will be used is unzipped and read once, which takes little time compared with predicting it. Nothing
else finds a damaged file before anything has been written: SimpleITK reads a truncated or corrupted gzip without a
word, as zeros or noise, and NaN as zero. NIfTI files are read by :mod:`nnunetv2_mmkd.images`, whose rules hold for all
commands; other formats by nnU-Net's planned reader.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from tqdm import tqdm

from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.geometry import Grid, align, note, other_orientations, reference_of
from nnunetv2_mmkd.image_names import twin_error
from nnunetv2_mmkd.images import check_values, is_nifti, read_header, read_volume, require_file
from nnunetv2_mmkd.inference.cases import Case
from nnunetv2_mmkd.inference.reader import CompletingIO, CompletingPlans, turns
from nnunetv2_mmkd.nifti_header import grid_of
from nnunetv2_mmkd.workers import end_with_starter

log = logging.getLogger(__name__)

ALL_ZERO = "all zero"
"""Why a modality is missing: its image exists but has no content."""
DECLARED = "all zero, declared missing in dataset.json"
"""The same, when the model's data set says so: no reason to warn."""

FILLED = 0.67
"""Share of voxels that are not 0, of images that are not of a brain alone: that fills half of its box (pi / 6)."""

CASES_PER_PROCESS = 32
"""A process of its own is worth its start for at least so many cases."""


def check_cases(
    cases: Sequence[Case],
    plans: CompletingPlans,
    declared: Mapping[str, Sequence[str]],
    *,
    processes: int = 1,
    progress: bool = True,
) -> list[Case]:
    """Read all images of all cases.

    Args:
        cases: what to check; missing modalities are not touched.
        plans: give the reader.
        declared: ``missing_modalities`` of ``dataset.json``: an all-zero image that is declared is no surprise.
        processes: at most so many processes; a few cases are read in this one.
        progress: show a progress bar.

    Returns:
        The cases, with all-zero images turned into missing modalities.

    Raises:
        InputError: an image that is unreadable, damaged, not finite, or on another grid than the others of its case; a
            case whose images are all zero.
    """
    checked = _checked(cases, partial(check_case, plans=plans, declared=declared), processes, progress)
    say_orientations(checked, plans)
    return checked


def say_orientations(cases: Sequence[Case], plans: CompletingPlans) -> None:
    """Say which cases are stored in another orientation than the model's training images, or than the other cases."""
    if plans.reorients:
        return
    stored = dict(_stored(cases))
    expected = plans.orientation
    if expected is None:
        for line in other_orientations({case: grid.orientation for case, grid in stored.items()}):
            log.warning("%s", line)
        return
    others = {case: grid for case, grid in stored.items() if grid.orientation != expected}
    for turned, what in (
        (True, f"predicted as {expected}, no value is changed, and what is written is turned back"),
        (False, "oblique and predicted as stored, since nnU-Net does not reorient: check the segmentation"),
    ):
        found = {case: grid.orientation for case, grid in others.items() if turns(grid, expected) is turned}
        for orientation in sorted(set(found.values())):
            names = [case for case, other in found.items() if other == orientation]
            log.warning(
                "%d case%s stored as %s (%s), the model's training images as %s: %s",
                len(names), "s are" if len(names) > 1 else " is", orientation, first_few(names, 3), expected, what,
            )  # fmt: skip


def _stored(cases: Sequence[Case]) -> Iterator[tuple[str, Grid]]:
    """Case and the grid that its images get onto, of NIfTI files."""
    for case in cases:
        files = [Path(file) for file in case.files if file is not None and is_nifti(Path(file))]
        grids = [grid_of(file, read_header(file)) for file in files]
        if grids:
            yield case.identifier, grids[reference_of(grids)]


def _checked(cases: Sequence[Case], check: Callable[[Case], Case], processes: int, progress: bool) -> list[Case]:
    processes = min(processes, len(cases) // CASES_PER_PROCESS)
    bar = partial(tqdm, desc="Checking images", total=len(cases), unit="case", disable=not progress or len(cases) < 8)
    if processes < 2:
        return [check(case) for case in bar(cases)]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), end_with_starter) as pool:
        try:
            return list(bar(pool.map(check, cases, chunksize=4)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def check_case(case: Case, plans: CompletingPlans, declared: Mapping[str, Sequence[str]]) -> Case:
    """:func:`check_cases` for one case."""
    reader = plans.image_reader_writer_class()
    grids: dict[str, Grid] = {}
    zero: dict[str, str] = {}
    filled: dict[str, float] = {}
    for name, file in zip(case.modalities, case.files, strict=True):
        if file is None:
            continue
        grids[name], filled[name] = read_image(file, case.identifier, name, reader, plans.of_volumes)
        if not filled[name]:
            zero[name] = DECLARED if name in declared.get(case.identifier, ()) else ALL_ZERO
            if zero[name] == ALL_ZERO:
                log.warning("case %s: %s is all zero; %s is taken as missing", case.identifier, file, name)
    left = case.without(zero)
    if plans.of_empty_background and all(filled[name] > FILLED for name in left.used):
        log.warning(
            "case %s: its images are hardly empty anywhere, those that the model was trained on were empty around an "
            "organ. Were these brains without the skull? mmkd preprocess takes it off", case.identifier,
        )  # fmt: skip
    used = [grids[name] for name in left.used]
    reference = used[reference_of(used)]
    for name, grid in grids.items():
        changed = _aligned(grid, reference, case.identifier, name)
        if changed is not None and name in left.used:
            log.warning("%s", changed)
    return left


def read_image(file: str, identifier: str, name: str, reader: CompletingIO, of_volumes: bool) -> tuple[Grid, float]:
    """Read one image of one modality.

    Returns:
        Its grid, and the share of voxels that are not 0.

    Raises:
        InputError: no file, unreadable, damaged, several channels in one file, or NaN or inf in it.
    """
    try:
        require_file(Path(file))
        if is_nifti(Path(file)):
            return _read_nifti(Path(file), reader, of_volumes)
        image, properties, grid = reader.read_image(file)
        if of_volumes and len(properties.get("sitk_stuff", {}).get("spacing", "xyz")) == 2:
            raise _picture(file)
        check_values(file, image)
    except InputError as error:
        remedy = f"delete the file or use --missing {name} to predict without {name}"
        raise InputError(f"case {identifier}, {name}: {error}. Or {remedy}") from error
    return grid, _filled(image)


def _filled(voxels: np.ndarray) -> float:
    return float(np.count_nonzero(voxels) / voxels.size)


def _picture(file: Path | str) -> InputError:
    return InputError(f"{file} is two-dimensional, and this model takes volumes; give the whole volume")


def _read_nifti(file: Path, reader: CompletingIO, of_volumes: bool) -> tuple[Grid, float]:
    if file.suffix == ".gz" and file.with_suffix("").is_file():
        raise twin_error(file)
    volume = read_volume(file)
    if of_volumes and volume.squeezed and volume.voxels.shape[2] == 1:
        raise _picture(file)
    if volume.squeezed and not isinstance(reader.planned, SimpleITKIO):
        raise InputError(f"{file} is not three-dimensional, as the model's reader needs it; save it with three axes")
    return volume.grid, _filled(volume.voxels)


def _aligned(grid: Grid, reference: Grid, identifier: str, name: str) -> str | None:
    """What to say about an image that is brought onto the grid of its case.

    Raises:
        InputError: that cannot be done without resampling.
    """
    case = f"case {identifier}: "
    try:
        return note(grid, reference, align(grid, reference, case), case)
    except InputError as error:
        raise InputError(f"{error}, take it out, or use --missing {name}") from error
