"""Checks of the input images before any long work: readable, whole, finite, one geometry per case, not all zero.

Every image that will be used is unzipped and read once, which takes little time compared with predicting it. Nothing
else finds a damaged file before anything has been written: SimpleITK reads a truncated or corrupted gzip without a
word, as zeros or noise, and NaN as zero.
"""

from __future__ import annotations

import errno
import gzip
import logging
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import nibabel
import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from tqdm import tqdm

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.cases import Case
from nnunetv2_mmkd.inference.reader import CompletingPlans
from nnunetv2_mmkd.workers import end_with_starter

log = logging.getLogger(__name__)

ALL_ZERO = "all zero"
"""Why a modality is missing: its image exists but has no content."""
DECLARED = "all zero, declared missing in dataset.json"
"""The same, when the model's data set says so: no reason to warn."""

CASES_PER_PROCESS = 32
"""A process of its own is worth its start for at least so many cases."""

BLOCK = 1 << 22
"""Bytes to unzip at a time."""


@dataclass(frozen=True)
class Geometry:
    """What must agree between the images of a case.

    Attributes:
        shape: voxels, in nnU-Net's axis order.
        spacing: mm, in the same order.
        placement: origin, direction or affine, flattened; a difference is only warned of, as nnU-Net does.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    placement: tuple[float, ...]


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
        InputError: an image that is unreadable, damaged, not finite, or of another shape or spacing than the others of
            its case; a case whose images are all zero.
    """
    check = partial(check_case, plans=plans, declared=declared)
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
    first: tuple[str, Geometry] | None = None
    zero: dict[str, str] = {}
    for name, file in zip(case.modalities, case.files, strict=True):
        if file is None:
            continue
        image, geometry = read_image(file, case.identifier, name, reader)
        if first is None:
            first = (file, geometry)
        _compare(case.identifier, first, (file, geometry))
        if not image.any():
            zero[name] = DECLARED if name in declared.get(case.identifier, ()) else ALL_ZERO
            if zero[name] == ALL_ZERO:
                log.warning("case %s: %s is all zero; %s is taken as missing", case.identifier, file, name)
    return case.without(zero)


def read_image(file: str, identifier: str, name: str, reader: BaseReaderWriter) -> tuple[np.ndarray, Geometry]:
    """Read one image of one modality.

    Returns:
        The image ``[1, z, y, x]`` and its geometry.

    Raises:
        InputError: unreadable, damaged, several channels in one file, or NaN or inf in it.
    """
    where = f"case {identifier}, {name}: {file}"
    remedy = f"Repair or replace the file; delete it or use --missing {name} to predict without {name}"
    try:
        with _unzipped(file) as plain:
            _check_whole(plain)
            image, properties = reader.read_images([plain])
        _check_finite(image)
    except Exception as error:  # readers raise whatever their libraries do
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise InputError(
                f"{where}: no space left to unzip it in {tempfile.gettempdir()}; name a larger folder in TMPDIR"
            ) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where} cannot be used: {reason[-200:]}. {remedy}") from error
    placement = [
        np.ravel(np.asarray(part, dtype=float))
        for key in ("sitk_stuff", "nibabel_stuff")
        for what, part in sorted(properties.get(key, {}).items())
        if what in ("origin", "direction", "original_affine")
    ]
    flat = tuple(np.concatenate(placement).tolist()) if placement else ()
    return image, Geometry(tuple(image.shape[1:]), tuple(map(float, properties["spacing"])), flat)


def _compare(identifier: str, one: tuple[str, Geometry], other: tuple[str, Geometry]) -> None:
    (file, geometry), (other_file, other_geometry) = one, other
    remedy = "All images of a case must be co-registered: resample the one that differs, take it out, or use --missing"
    if geometry.shape != other_geometry.shape:
        raise InputError(
            f"case {identifier}: {other_file} has shape {other_geometry.shape}, {file} has {geometry.shape}. {remedy}"
        )
    if not np.allclose(geometry.spacing, other_geometry.spacing):
        raise InputError(
            f"case {identifier}: {other_file} has spacing {other_geometry.spacing} mm, {file} has {geometry.spacing} "
            f"mm. {remedy}"
        )
    if not np.allclose(geometry.placement, other_geometry.placement):
        log.warning(
            "case %s: origin or direction of %s and %s differ; nnU-Net takes their voxels as they are",
            identifier, file, other_file,
        )  # fmt: skip


@contextmanager
def _unzipped(file: str) -> Iterator[str]:
    """The file itself, or its content in a temporary file, if it is zipped: all readers then share one unzipping.

    Raises:
        ValueError, EOFError, OSError, zlib.error: the file is empty, or its gzip stream is damaged or ends early.
    """
    if os.path.getsize(file) == 0:
        raise ValueError("the file is empty")
    if not file.lower().endswith(".gz"):
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="mmkd_") as folder:
        plain = os.path.join(folder, os.path.basename(file)[: -len(".gz")])
        with gzip.open(file) as stream, open(plain, "wb") as target:
            shutil.copyfileobj(stream, target, BLOCK)  # raises if the stream ends early or its checksum is wrong
        yield plain


def _check_whole(file: str) -> None:
    """Look past SimpleITK, which reads short files without a word and NaN as zero.

    Raises:
        ValueError: a NIfTI has fewer bytes than its header says, or voxels that are not finite.
    """
    size = os.path.getsize(file)
    if size == 0:
        raise ValueError("the file is empty")
    if file.lower().endswith(".nii"):
        image: Any = nibabel.load(file)
        voxels = image.dataobj
        needed = voxels.offset + int(np.prod(voxels.shape)) * voxels.dtype.itemsize
        if size < needed:
            raise ValueError(f"truncated: {size} bytes instead of {needed}")
        if voxels.dtype.kind == "f":
            _check_finite(voxels.get_unscaled())


def _check_finite(image: np.ndarray) -> None:
    if not np.isfinite(image).all():
        raise ValueError(f"{np.size(image) - np.isfinite(image).sum()} voxels are NaN or infinite")
