"""Files that are there whole or not at all: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError

TEMPORARY = "tmp"
"""Ending of files that are being written; nnU-Net looks for ``.nii.gz`` and does not see them."""


def check_writable(folder: str) -> None:
    """Check, without writing anything, that a folder can be made and written to.

    Raises:
        InputError: it cannot.
    """
    parent = os.path.abspath(folder)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        raise InputError(f"output folder {folder} cannot be made: {parent} is not a folder. Choose another one")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"output folder {folder}: {parent} is not writable. Choose another one or change its rights")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write under, renamed to ``path`` where the block ends well and removed otherwise.

    The folder is made if it is not there. Processes that write the same file do not meet.

    Raises:
        InputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file, on the disk before it has its name.

    Raises:
        InputError: it cannot be written.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        InputError: it cannot be written.
    """
    atomic_write(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file.

    Raises:
        InputError: it cannot be written.
    """
    write_text(path, json.dumps(content, indent=2) + "\n")
