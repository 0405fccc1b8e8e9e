"""All exams of a folder, in parallel, safe to interrupt and to run again: ``mmkd align`` and ``mmkd preprocess``."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunetv2_mmkd.errors import InputError, choices, first_few
from nnunetv2_mmkd.files import is_temporary, locked, within
from nnunetv2_mmkd.image_names import refuse_twins
from nnunetv2_mmkd.output_folders import check_writable
from nnunetv2_mmkd.registration.case import AlignmentJob, Outcome, align_exam
from nnunetv2_mmkd.registration.exam import Exam, check_exam
from nnunetv2_mmkd.registration.records import ALIGNMENT, CHECK_IMAGE, RECORD, Record, fingerprint, read_record
from nnunetv2_mmkd.workers import in_processes

logger = logging.getLogger(__name__)


def align_folder(
    exams: Sequence[Exam], source: Path, job: AlignmentJob, *, processes: int = 1, show_progress: bool = True
) -> None:
    """Align exams, a folder for each case.

    All headers are checked before the first voxel is read. A case that does not fit, or whose files are broken, does
    not keep the others from being aligned; the error at the end names all of them. A case's folder is there as a whole
    or not at all. A run that was interrupted goes on where it was; a case whose sources have changed is aligned again.

    Args:
        exams: of the folder.
        source: where they are from.
        job: how.
        processes: worker processes; 1 works in this one.
        show_progress: show a progress bar.

    Raises:
        InputError: see the message.
    """
    check_writable(str(job.output))
    unknown = sorted(job.accepted - {exam.case for exam in exams})
    if unknown:
        raise InputError(
            f"--accept {unknown[0]}: no such case; there are {choices(unknown[0], sorted(e.case for e in exams))}"
        )
    refuse_twins([exam.case for exam in exams], source)
    for exam in exams:
        check_exam(exam, job.reference)
    settings = _settings(source, job)
    with locked(job.output):
        ALIGNMENT.claim(job.output, settings)
        todo = [exam for exam in exams if not _is_done(job.output / exam.case, exam)]
        _forget_others(job.output, [exam.case for exam in exams])
        if len(todo) < len(exams):
            logger.info("%d of %d cases have been aligned before", len(exams) - len(todo), len(exams))
        refused = []
        outcomes = in_processes(partial(_attempt, job=job), todo, processes)
        for outcome in tqdm(outcomes, "align", len(todo), unit="case", disable=not show_progress):
            for message in outcome.messages:
                logger.warning("%s", message)
            if outcome.refusal:
                refused.append(outcome.refusal)
        done = [exam.case for exam in exams if (job.output / exam.case / RECORD).is_file()]
        for case in done:
            logger.info("%s", summary(read_record(job.output / case)))
    if done:
        logger.info(
            "%s: %d of %d cases; look at the picture of each: %s",
            job.output, len(done), len(exams), job.output / (done[0] if len(done) == 1 else "*") / CHECK_IMAGE,
        )  # fmt: skip
    if refused:
        count = f"{len(refused)} of {len(exams)} cases were not aligned: " if len(exams) > 1 else ""
        raise InputError(count + ". ".join(sorted(refused)))


def summary(record: Record) -> str:
    """One line about a case: how far each sequence was moved, and how well it fits."""
    parts = [
        f"{name} {each.rotation:.1f}° {each.shift:.1f} mm, agreement {each.agreement:.2f}"
        for name, each in record.sequences.items()
        if each.agreement is not None
    ]
    return f"{record.case}: onto {record.reference}: {'; '.join(parts) or 'nothing else to align'}"


def _attempt(exam: Exam, job: AlignmentJob) -> Outcome:
    try:
        return align_exam(exam, job)
    except InputError as error:
        return Outcome(exam.case, str(error))


def _settings(source: Path, job: AlignmentJob) -> dict[str, Any]:
    """What makes two runs the same one."""
    atlas = None if job.atlas is None else job.atlas.name
    return {
        "source": str(source.resolve()), "reference": list(job.reference), "atlas": atlas, "skull_stripping": job.strip
    }  # fmt: skip


def _is_done(folder: Path, exam: Exam) -> bool:
    """Whether a case was aligned from these very files, and all that was written is there."""
    try:
        record = read_record(folder)
        present = [within(folder, name).is_file() for s in record.sequences.values() for name in (s.image, s.transform)]
    except InputError:
        return False
    return all(present) and record.fingerprint == fingerprint(exam.images)


def _forget_others(output: Path, cases: Sequence[str]) -> None:
    """Remove the folders of cases that the source does not have any more."""
    others = [
        path for path in output.iterdir()
        if path.name not in cases and not is_temporary(path.name) and (path / RECORD).is_file()
    ]  # fmt: skip
    for path in others:
        shutil.rmtree(path)
    if others:
        logger.warning("removed, as they are not in the input any more: %s", first_few(path.name for path in others))
