"""The converter: cases of any edition -> nnU-Net raw format, in parallel, safe to interrupt and to run again."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from nnunetv2_mmkd.conversion.case import convert_case
from nnunetv2_mmkd.conversion.dataset_json import write_dataset_json
from nnunetv2_mmkd.conversion.folder import CONVERSION, open_folder, settings_of, target_folder
from nnunetv2_mmkd.conversion.headers import check_headers
from nnunetv2_mmkd.conversion.label_values import check_label_values
from nnunetv2_mmkd.conversion.records import CaseRecord, reuse
from nnunetv2_mmkd.conversion.resample import HOW
from nnunetv2_mmkd.editions.discover import CaseFiles, discover
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import locked
from nnunetv2_mmkd.geometry import other_orientations
from nnunetv2_mmkd.protocols.institutions import institutions_of_sources
from nnunetv2_mmkd.workers import in_processes

logger = logging.getLogger(__name__)


def default_processes() -> int:
    """``nnUNet_def_n_proc`` if that is set, as in nnU-Net, otherwise the number of cores, at most 8."""
    value = os.environ.get("nnUNet_def_n_proc", "")
    return int(value) if value.isdigit() and int(value) > 0 else min(8, os.cpu_count() or 1)


def convert(
    spec: EditionSpec,
    sources: Sequence[Path | str],
    dataset_id: int,
    *,
    labels: str | None = None,
    name: str | None = None,
    processes: int | None = None,
    show_progress: bool = True,
) -> Path:
    """Convert the cases below some folders into a data set in ``nnUNet_raw``.

    Cases with a label go to ``imagesTr``/``labelsTr``, others to ``imagesTs``. A missing modality becomes an all-zero
    image and an entry of ``dataset.json["missing_modalities"]``. All names and headers are checked before the first
    voxel is read. ``dataset.json`` is written last; a run that was interrupted goes on where it was, one whose sources
    have changed converts the changed cases again.

    Args:
        spec: the edition.
        sources: folders with the cases at any depth; of a case found twice the later one is taken.
        dataset_id: 1..999.
        labels: ``"regions"`` or ``"classes"``; default: regions, if the edition has some.
        name: name of the data set, without ``DatasetXXX_``; default: the edition's.
        processes: worker processes; 1 works in this process; default: :func:`default_processes`.
        show_progress: show a progress bar.

    Returns:
        the folder of the data set.

    Raises:
        InputError: see the message; nothing that looks complete is left behind.
    """
    labels = spec.default_labels if labels is None else labels
    spec.dataset_labels(labels)  # an unknown style fails here, before the work
    processes = default_processes() if processes is None else processes
    if processes < 1:
        raise InputError(f"-np {processes}: at least one process is needed")
    target = target_folder(dataset_id, spec.dataset_name if name is None else name)
    settings = settings_of(spec, sources, labels)
    with locked(target):
        CONVERSION.check(target, settings)
        cases = discover(spec, sources)
        institutions = institutions_of_sources(spec, cases)
        _report_unlabelled(spec, cases)
        for line in other_orientations(_check_all_headers(spec, cases, processes, show_progress)):
            logger.warning("%s", line)
        if spec.has_own_layout:
            check_label_values(spec, cases, processes, show_progress)
        open_folder(target, settings, with_test=any(files.label is None for files in cases))
        records = reuse(target, cases)
        todo = [files for files in cases if files.case not in records]
        if todo:
            (target / "dataset.json").unlink(missing_ok=True)
        if records and todo:
            logger.info("%d of %d cases have been converted before", len(records), len(cases))
        work = partial(convert_case, spec, target=target)
        for record in tqdm(
            in_processes(work, todo, processes), f"convert {spec.title}", len(todo), disable=not show_progress
        ):
            records[record.case] = record
        for files in cases:
            for message in records[files.case].messages:
                logger.warning("%s", message)
        write_dataset_json(target, spec, labels, cases, [records[files.case] for files in cases], institutions)
        _report(target, cases, records)
        _report_resampled(spec, [records[files.case] for files in cases])
        if spec.configuration != "3d_fullres":
            logger.info("%s: train the configuration %s", spec.title, spec.configuration)
    return target


def _report_unlabelled(spec: EditionSpec, cases: Sequence[CaseFiles]) -> None:
    unlabelled = [files.case for files in cases if files.label is None]
    if unlabelled:
        examples = ", ".join(unlabelled[:3]) + (", ..." if len(unlabelled) > 3 else "")
        what = "1 case without a label goes" if len(unlabelled) == 1 else f"{len(unlabelled)} cases without a label go"
        logger.info("%s: %s to imagesTs: %s", spec.title, what, examples)
    if len(unlabelled) == len(cases):
        logger.warning("%s: no case has a label; this data set can be predicted, not trained on", spec.title)


def _check_all_headers(
    spec: EditionSpec, cases: Sequence[CaseFiles], processes: int, show_progress: bool
) -> dict[str, str]:
    """Check the headers of all cases; returns how each case is oriented."""
    with ThreadPoolExecutor(max_workers=processes) as pool:
        checks = [pool.submit(check_headers, spec, files) for files in cases]
        try:
            progress = tqdm(zip(cases, checks, strict=True), "check headers", len(cases), disable=not show_progress)
            grids = {files.case: check.result().grid for files, check in progress}
        finally:
            pool.shutdown(cancel_futures=True)
    for case, grid in grids.items():
        if spec.configuration == "3d_fullres" and grid.shape[2] == 1:
            pictures = "; of pictures: a YAML file with configuration: 2d" * spec.has_own_layout
            raise InputError(
                f"case {case}: {grid.path} is a single slice {grid.shape[:2]}; {spec.title} has volumes. Give the "
                f"whole volume, or take the case out{pictures}"
            )
    return {case: grid.orientation for case, grid in grids.items()}


def _report(target: Path, cases: Sequence[CaseFiles], records: dict[str, CaseRecord]) -> None:
    incomplete = sum(bool(record.missing) for record in records.values())
    trained = sum(files.label is not None for files in cases)
    logger.info(
        "%s: %d training cases, %d without label, %d with missing modalities",
        target, trained, len(cases) - trained, incomplete,
    )  # fmt: skip


def _report_resampled(spec: EditionSpec, records: Sequence[CaseRecord]) -> None:
    counts = Counter(name for record in records for name in record.resampled)
    if counts:
        display = {channel.name: channel.display for channel in spec.channels}
        shown = ", ".join(f"{display[name]} of {count} cases" for name, count in counts.items())
        logger.warning("resampled onto the grid of the %s (%s): %s", display[spec.onto], HOW, shown)
