"""Writes phantom cases as the unpacked archives of a challenge's edition.

Every file is written under a temporary name and renamed, so that a file with its final name is complete; a second run
with the same settings writes only what is absent. The settings are kept in ``phantom.json`` in the same folder.
"""

from __future__ import annotations

import gzip
import multiprocessing
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from nnunetv2_mmkd.editions.brats import BRATS2018
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.files import Marker, atomic_write, differing, locked
from nnunetv2_mmkd.names import canonical
from nnunetv2_mmkd.phantom.editions import Config, archive_of, fitting_config, institution, make_edition_case
from nnunetv2_mmkd.workers import end_with_starter


def _differences(found: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """What forbids to go on; cases may be added."""
    growing = ("cases", "validation")
    fewer = [key for key in growing if found.get(key, 0) > settings[key]]
    return [
        *differing(found, settings, ignoring=growing),
        *(f"{key}: {found[key]} before, {settings[key]} now" for key in fewer),
    ]


PHANTOM = Marker("phantom.json", "a phantom", "choose another folder or delete it", _differences)
"""Settings of the phantom in a folder."""

GENERATOR = 1
"""Raised when the same settings would give other images, so that old and new ones are never mixed in a folder."""

LABEL = "seg"


@dataclass(frozen=True)
class _Job:
    """A case to be written: its number, whether it has a label, and its files by modality (``"seg"``: the label)."""

    index: int
    label: bool
    files: Mapping[str, Path]

    @property
    def files_folder(self) -> Path:
        """Where the images are."""
        return next(path for kind, path in self.files.items() if kind != LABEL).parent


def write_phantom(
    out: Path | str,
    n: int,
    config: Config | None = None,
    *,
    edition: EditionSpec = BRATS2018,
    validation: int = 0,
    missing: Mapping[int, Iterable[str]] | None = None,
    processes: int = 1,
    show_progress: bool = False,
) -> list[Path]:
    """Write a phantom data set, for BraTS 2018 ``<out>/MICCAI_BraTS_2018_Data_Training/HGG/Brats18_PHANTOM_001_1/...``.

    Running again with the same settings completes an interrupted run, or adds cases if ``n`` or ``validation`` is
    larger.

    Args:
        out: folder to write to; made if absent; empty, or a phantom of the same settings.
        n: number of cases with a label.
        config: settings (:class:`~.case.PhantomConfig`, for MyoPS :class:`~.heart_case.HeartConfig`); the defaults if
            None.
        edition: whose folders, names and label values are written.
        validation: number of cases without a label, where the edition has its own.
        missing: case index (from 0) -> modalities whose files are not written (an incomplete case).
        processes: worker processes; 1 works in this one. More are started with ``spawn``: a script that calls this
            needs ``if __name__ == "__main__"``.
        show_progress: draw a progress bar.

    Returns:
        Folders of the cases' images, in order, those with a label first.

    Raises:
        InputError: a bad argument, an output folder that holds something else or other settings, or that cannot be
            written to.
    """
    out, config = Path(out), fitting_config(edition, config)
    if n < 1:
        raise InputError(f"the number of phantom cases must be at least 1, not {n}")
    if validation < 0:
        raise InputError(f"the number of phantom cases without label must not be negative, not {validation}")
    if processes < 1:
        raise InputError(f"the number of processes must be at least 1, not {processes}")
    left_out = _left_out(edition, missing or {}, n)
    jobs = [_job(edition, out, index, True, left_out.get(index, ())) for index in range(n)]
    jobs += [_job(edition, out, index, False) for index in range(validation)]
    with locked(out):
        PHANTOM.claim(out, _settings(edition, n, validation, config, left_out))
        work = partial(_write_case, edition, config)
        bar = partial(tqdm, total=len(jobs), desc="phantom", unit="case", disable=not show_progress)
        if processes == 1 or len(jobs) == 1:
            for _ in bar(map(work, jobs)):
                pass
        else:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(min(processes, len(jobs)), context, end_with_starter) as pool:
                for _ in bar(pool.map(work, jobs)):
                    pass
        if edition.sites_file:
            atomic_write(jobs[0].files_folder.parent / edition.sites_file, _sites(edition, n))
    return [job.files_folder for job in jobs]


def _left_out(spec: EditionSpec, missing: Mapping[int, Iterable[str]], n: int) -> dict[int, tuple[str, ...]]:
    """``missing`` with canonical names, checked, in the order of indices and of modalities."""
    known = [channel.name for channel in spec.channels]
    checked = {}
    for index in sorted(missing):
        if not 0 <= index < n:
            raise InputError(f"missing modalities are given for case {index}, but cases are 0 to {n - 1}")
        if isinstance(missing[index], str):
            raise InputError(f"missing modalities of case {index} must be a tuple of names, not {missing[index]!r}")
        names = {canonical(name) for name in missing[index]}
        for name in sorted(names - set(known)):
            raise InputError(f"unknown modality {name!r}: the phantom of {spec.title} has {choices(name, known)}")
        if len(names) == len(known):
            raise InputError(f"case {index} would have no image at all: at least one modality must be left")
        if names:
            checked[index] = tuple(name for name in known if name in names)
    return checked


def _job(spec: EditionSpec, out: Path, index: int, label: bool, left_out: tuple[str, ...] = ()) -> _Job:
    archive = archive_of(spec)
    path, case = out / archive.path(index, label), archive.case(index, label)
    folder = path if spec.layout == "folders" else path.parent
    names = [channel.name for channel in spec.channels]
    files = {
        name: folder / f"{case}{ending}{archive.extension}"
        for name, ending in zip(names, archive.endings, strict=False)
        if name not in left_out
    }
    if label:
        labels = Path(os.path.normpath(folder / archive.label_folder))
        files[LABEL] = labels / f"{case}{archive.endings[-1]}{archive.extension}"
    return _Job(index, label, files)


def _sites(spec: EditionSpec, n: int) -> bytes:
    """The table of institutions, a line per training case."""
    archive = archive_of(spec)
    rows = [{"Subject_ID": archive.case(index, True), "Partition_ID": institution(index)} for index in range(n)]
    lines = [",".join(archive.sites), *(",".join(row[column] for column in archive.sites) for row in rows)]
    return ("\n".join(lines) + "\n").encode()


def _settings(
    spec: EditionSpec, n: int, validation: int, config: Config, missing: Mapping[int, tuple[str, ...]]
) -> dict[str, Any]:
    settings: dict[str, Any] = {"generator": GENERATOR, "cases": n, "validation": validation, "edition": spec.name}
    settings |= asdict(config)
    settings["missing"] = {archive_of(spec).case(index, True): names for index, names in missing.items()}
    return settings


def _write_case(spec: EditionSpec, config: Config, job: _Job) -> None:
    """Write the files of a case that do not exist yet."""
    if all(path.is_file() for path in job.files.values()):
        return
    case, labels = make_edition_case(spec, config, job.index, job.label)
    volumes: dict[str, NDArray[Any]] = {**case.images, LABEL: labels}
    for name, path in job.files.items():
        if not path.is_file():
            content = _nifti(volumes[name], case.affine)
            atomic_write(path, gzip.compress(content, compresslevel=4, mtime=0) if path.suffix == ".gz" else content)


def _nifti(volume: NDArray[Any], affine: NDArray[np.float64]) -> bytes:
    """A NIfTI file with both transforms set (code 1, scanner), the same bytes for the same content."""
    image = nib.Nifti1Image(volume, affine, dtype=volume.dtype)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    return bytes(image.to_bytes())
