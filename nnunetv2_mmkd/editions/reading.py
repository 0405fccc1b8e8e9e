"""What single files are, and how they make up cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_mmkd.errors import InputError


@dataclass(frozen=True)
class Reading:
    """What one file is.

    Attributes:
        path: the file.
        case: its case.
        index: of its channel; the number of channels for a segmentation.
        patient: name of the patient, where the path says it.
    """

    path: Path
    case: str
    index: int
    patient: str | None = None


def by_case(readings: Iterable[Reading], names: Sequence[str], remedy: str) -> dict[str, dict[int, Reading]]:
    """Case -> index -> file.

    Args:
        readings: of all files.
        names: of the channels, then of the segmentation, for messages.
        remedy: what to do about two files for one.

    Raises:
        InputError: two files for one channel of a case; the message names them.
    """
    found: dict[str, dict[int, Reading]] = {}
    for reading in sorted(readings, key=lambda each: each.path.as_posix()):
        other = found.setdefault(reading.case, {}).setdefault(reading.index, reading)
        if other is not reading:
            raise InputError(
                f"case {reading.case}: two files for {names[reading.index]}: {other.path} and {reading.path}; {remedy}"
            )
    return found
