"""What a disk said when it did not take a file, in the words of our errors."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunetv2_mmkd.errors import InputError, one_line

TEMPORARY_FOLDER = ".mmkd-partial-"
"""How the names of temporary folders begin."""

FREE_SPACE = ". Free space there, and run the same command again"
"""What to do where a disk is full."""

_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows has no quotas
_PROBE = 1 << 20  # bytes


def cannot_write(path: Path | str, error: Exception | None = None) -> InputError:
    """The error for a file that could not be written.

    Args:
        path: the file, or a folder; of one in a temporary folder the place is named where it was to go.
        error: what writing it raised; where that does not tell what the disk said, the disk is asked.
    """
    said = error if isinstance(error, OSError) else disk_error(Path(path).parent)
    reason = one_line(reason_of(said) if said else error or "it cannot be read again", 200)
    final = Path(*(part for part in Path(path).parts if not part.startswith(TEMPORARY_FOLDER)))
    return InputError(f"cannot write {final}: {reason}{FREE_SPACE if is_full(said) else ''}")


def is_full(error: BaseException | None) -> bool:
    """Whether a disk, or what one may use of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


@contextmanager
def naming_full_disk(folder: Path | str) -> Iterator[None]:
    """Name what a full disk kept others from writing below a folder; their error may not tell.

    Raises:
        InputError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise cannot_write(error.filename or folder, error) from error
        raise


def disk_error(folder: Path) -> OSError | None:
    """What the disk of a folder says to a few bytes more; None: nothing."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error
    return None


def reason_of(error: OSError) -> str:
    """What a disk said, in plain words."""
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        return "a file is where a folder is needed: move it away"
    return error.strerror or str(error)
