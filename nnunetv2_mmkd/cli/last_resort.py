"""What the user sees of an error that nobody foresaw: one line, and a file that holds the rest."""

from __future__ import annotations

import io
import os
import platform
import shlex
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nnunetv2_mmkd import __version__
from nnunetv2_mmkd.disk import FREE_SPACE, is_full
from nnunetv2_mmkd.errors import one_line


@contextmanager
def plain_output() -> Iterator[None]:
    """Warnings are one line each; a character that the terminal cannot show is escaped instead of ending the run."""
    before = warnings.formatwarning
    warnings.formatwarning = _warning
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        warnings.formatwarning = before


def unexpected(error: Exception, args: Sequence[str]) -> str:
    """What to say of an error; the traceback goes to a file in the folder for temporary files.

    Args:
        error: just caught.
        args: of the command.
    """
    what = one_line(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        what = ": ".join(str(part) for part in (error.filename, error.strerror) if part is not None)
        if is_full(error):
            return what + FREE_SPACE
    elif isinstance(error, MemoryError):
        what = "not enough memory" + (f" ({one_line(error)})" if str(error) else "")
    elif not isinstance(error, RuntimeError):
        what = f"{type(error).__name__}: {what}"
    report = (
        f"mmkd {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"mmkd {shlex.join(args)}\n\n{''.join(traceback.format_exception(error))}"
    )
    try:
        descriptor, file = tempfile.mkstemp(prefix="mmkd_error_", suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as log:
            log.write(report)
    except OSError:  # the disk is full, say
        return f"{what} (run it again with --debug to see where)"
    return f"{what} (details, for a bug report: {file})"


def _warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> str:
    return f"{category.__name__}: {one_line(message)}\n"
