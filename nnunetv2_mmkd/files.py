"""Files that are there whole or not at all: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError

TEMPORARY = "tmp"
"""Ending of files that are being written; nnU-Net looks for ``.nii.gz`` and does not see them."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file.

    Raises:
        InputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file.

    Raises:
        InputError: it cannot be written.
    """
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())
