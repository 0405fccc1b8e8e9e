"""What has been converted: a record for each finished case, by which an interrupted or repeated run goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.editions.discover import CaseFiles
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import atomic_write, within
from nnunetv2_mmkd.nnunet_json import read_object

STATE = ".mmkd_conversion"
"""Folder in the data set with a record for each finished case; what an interrupted run goes on from."""

_VERSION = 2  # of the records; raise it when a conversion would write other files


@dataclass(frozen=True)
class CaseRecord:
    """What was written for a case.

    Attributes:
        case: its name.
        fingerprint: path, size and time of each source file; a case whose sources changed is converted again. Empty
            while the case is being written.
        outputs: path relative to the data set -> size in bytes.
        missing: canonical names of the missing modalities, in channel order.
        messages: warnings.
        resampled: canonical names of the modalities that were resampled, in channel order.
    """

    case: str
    fingerprint: list[Any]
    outputs: dict[str, int]
    missing: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    resampled: list[str] = field(default_factory=list)


def fingerprint(files: CaseFiles) -> list[Any]:
    """Path, size and modification time of every source file of a case, JSON-able."""
    stats = [(path, path.stat()) for path in files.files]
    return [_VERSION, *([str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats)]


def _read_record(target: Path, case: str) -> CaseRecord | None:
    """The record of a finished case, or None. One that is damaged or names paths out of ``target`` counts as none."""
    try:
        record = CaseRecord(**read_object(target / STATE / f"{case}.json"))
        for name in record.outputs:
            within(target, name)
        for texts in (record.missing, record.messages, record.resampled):
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                return None
    except (InputError, TypeError):
        return None
    return record if record.case == case else None


def _is_done(target: Path, files: CaseFiles, record: CaseRecord | None) -> bool:
    """Whether a case has been converted from these very source files and all its outputs exist."""
    if record is None or record.fingerprint != fingerprint(files):
        return False
    paths = {target / name: size for name, size in record.outputs.items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())


def write_record(target: Path, record: CaseRecord) -> None:
    """Write the record of a case.

    Raises:
        InputError: it cannot be written.
    """
    atomic_write(target / STATE / f"{record.case}.json", json.dumps(asdict(record)).encode())


def reuse(target: Path, cases: Sequence[CaseFiles]) -> dict[str, CaseRecord]:
    """Records of the cases that need no work; outputs of cases that changed or are gone are removed."""
    by_name = {files.case: files for files in cases}
    done: dict[str, CaseRecord] = {}
    for path in sorted((target / STATE).glob("*.json")):
        record = _read_record(target, path.stem)
        files = by_name.get(path.stem)
        if record is not None and files is not None and _is_done(target, files, record):
            done[path.stem] = record
        elif record is not None:
            (target / "dataset.json").unlink(missing_ok=True)
            _forget(target, record)
    return done


def _forget(target: Path, record: CaseRecord) -> None:
    """Remove the outputs and the record of a case that is no longer part of the conversion, or has changed."""
    for name in (*record.outputs, f"{STATE}/{record.case}.json"):
        within(target, name).unlink(missing_ok=True)
