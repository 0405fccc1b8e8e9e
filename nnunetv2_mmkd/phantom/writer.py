"""Writes phantom cases as a BraTS 2018 training folder.

Every file is written under a temporary name and renamed, so that a file with its final name is complete; a second run
with the same settings writes only what is absent. The settings are kept in ``phantom.json`` beside the data.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.phantom.brain_tissues import MODALITIES
from nnunetv2_mmkd.phantom.case import PhantomConfig, case_name, make_case, modality_name

TRAINING_FOLDER = "MICCAI_BraTS_2018_Data_Training"
SETTINGS_FILE = "phantom.json"
GENERATOR = 1
"""Raised when the same settings would give other images, so that old and new ones are never mixed in a folder."""


def write_phantom(
    out: Path | str,
    n: int,
    config: PhantomConfig | None = None,
    *,
    missing: Mapping[int, Iterable[str]] | None = None,
    processes: int = 1,
    show_progress: bool = False,
) -> list[Path]:
    """Write a phantom data set: ``<out>/MICCAI_BraTS_2018_Data_Training/HGG/Brats18_PHANTOM_001_1/...``.

    Running again with the same settings completes an interrupted run, or adds cases if ``n`` is larger.

    Args:
        out: folder to write to; made if absent; empty, or a phantom of the same settings.
        n: number of cases.
        config: settings; the defaults if None.
        missing: case index (from 0) -> modalities whose files are not written (an incomplete case).
        processes: worker processes; 1 works in this one. More are started with ``spawn``: a script that calls this
            needs ``if __name__ == "__main__"``.
        show_progress: draw a progress bar.

    Returns:
        Folders of the cases, in order.

    Raises:
        InputError: a bad argument, an output folder that holds something else or other settings, or that cannot be
            written to.
    """
    out, config = Path(out), config or PhantomConfig()
    if n < 1:
        raise InputError(f"the number of phantom cases must be at least 1, not {n}")
    if processes < 1:
        raise InputError(f"the number of processes must be at least 1, not {processes}")
    left_out = _left_out(missing or {}, n)
    try:
        _claim(out, n, config, left_out)
        folders = [out / TRAINING_FOLDER / "HGG" / case_name(index) for index in range(n)]
        work = partial(_write_case, config)
        jobs = [(index, folders[index], left_out.get(index, ())) for index in range(n)]
        bar = partial(tqdm, total=n, desc="phantom", unit="case", disable=not show_progress)
        if processes == 1 or n == 1:
            for _ in bar(map(work, jobs)):
                pass
        else:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(min(processes, n), mp_context=context) as pool:
                for _ in bar(pool.map(work, jobs)):
                    pass
    except OSError as error:
        raise InputError(
            f"cannot write the phantom to {out}: {error.strerror or error}; choose a folder that can be written to"
        ) from error
    return folders


def _left_out(missing: Mapping[int, Iterable[str]], n: int) -> dict[int, tuple[str, ...]]:
    """``missing`` with the phantom's own names, checked, in the order of indices and of modalities."""
    checked = {}
    for index in sorted(missing):
        if not 0 <= index < n:
            raise InputError(f"missing modalities are given for case {index}, but cases are 0 to {n - 1}")
        if isinstance(missing[index], str):
            raise InputError(f"missing modalities of case {index} must be a tuple of names, not {missing[index]!r}")
        names = {modality_name(name) for name in missing[index]}
        if len(names) == len(MODALITIES):
            raise InputError(f"case {index} would have no image at all: at least one modality must be left")
        if names:
            checked[index] = tuple(name for name in MODALITIES if name in names)
    return checked


def _claim(out: Path, n: int, config: PhantomConfig, missing: Mapping[int, tuple[str, ...]]) -> None:
    """Make the output folder and note the settings in it, or check that those in it are the same."""
    settings: dict[str, Any] = {"generator": GENERATOR, "cases": n, **asdict(config)}
    settings["missing"] = {case_name(index): names for index, names in missing.items()}
    settings = json.loads(json.dumps(settings))
    if out.exists() and not out.is_dir():
        raise InputError(f"cannot write the phantom to {out}: it is a file; choose a folder")
    out.mkdir(parents=True, exist_ok=True)
    note = out / SETTINGS_FILE
    if note.is_file():
        found = _read_settings(note)
        differing = [key for key in settings if key != "cases" and found.get(key) != settings[key]]
        if differing or found.get("cases", 0) > n:
            reason = ", ".join(
                f"{key} {found.get(key)} there, {settings[key]} asked for" for key in differing or ["cases"]
            )
            raise InputError(f"{out} holds a phantom of other settings ({reason}); choose another folder or delete it")
    elif any(path.name != f"{SETTINGS_FILE}.partial" for path in out.iterdir()):
        raise InputError(f"{out} holds other files: the phantom needs an empty folder, or one it wrote itself")
    _replace(note, (json.dumps(settings, indent=2) + "\n").encode())


def _read_settings(note: Path) -> dict[str, Any]:
    try:
        found = json.loads(note.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{note} is not a phantom's settings file; choose another folder or delete this one")
    return found


def _write_case(config: PhantomConfig, job: tuple[int, Path, tuple[str, ...]]) -> None:
    """Write the files of a case that are not there yet."""
    index, folder, left_out = job
    paths = {name: folder / f"{folder.name}_{name}.nii.gz" for name in (*MODALITIES, "seg") if name not in left_out}
    if all(path.is_file() for path in paths.values()):
        return
    folder.mkdir(parents=True, exist_ok=True)
    case = make_case(config, index)
    volumes: dict[str, NDArray] = {**case.images, "seg": case.seg}
    for name, path in paths.items():
        if not path.is_file():
            _replace(path, _nifti(volumes[name], case.affine))


def _nifti(volume: NDArray, affine: NDArray[np.float64]) -> bytes:
    """A ``.nii.gz`` with both transforms set (code 1, scanner), the same bytes for the same content."""
    image = nib.Nifti1Image(volume, affine, dtype=volume.dtype)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=4, mtime=0)


def _replace(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it."""
    partial_path = path.with_name(path.name + ".partial")
    try:
        partial_path.write_bytes(content)
        os.replace(partial_path, path)
    finally:
        partial_path.unlink(missing_ok=True)
