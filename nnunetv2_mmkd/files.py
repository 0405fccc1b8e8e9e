"""Files that are complete or absent, and folders that a later run may go on in.

- :func:`replacing`, :func:`atomic_write`: written under a temporary name in the same folder, then renamed.
- Temporary names carry their owner (process and host). They are never taken for content (:func:`content_of`); what a
  dead process left is removed, what a live one writes is not (:func:`remove_leftovers`).
- :class:`Marker`: what a folder's content was made with; a later run goes on, overwrites or refuses.
- :func:`locked`: one run at a time in a folder.
- :func:`within`: a path that was read from a file stays in its folder.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.disk import TEMPORARY_FOLDER, cannot_write, disk_error, reason_of
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.processes import host_name, is_running

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".mmkd.lock"
"""The file that a run holds in a folder while it works there."""

TURN = 60.0  # seconds that a run waits for its turn to write a file that several write
_NAMED, _PAUSE = 2.0, 0.05  # seconds: for an owner to write its name, between two looks

LONGEST_NAME = 255
"""Bytes in a file's name, on all usual disks."""

_TEMPORARY = ".tmp"  # ending of temporary names; nnU-Net looks for .nii.gz and does not see them
_OWNER = re.compile(r"\.(\d+)@([\w-]+)\.tmp$")
_LONGEST_VALUE = 60  # characters of a setting that a message shows


def within(folder: Path, name: str) -> Path:
    """The path of an entry below a folder, where the name was read from a file; symbolic links are resolved.

    Raises:
        InputError: it leads out of the folder.
    """
    path = folder / name
    root, parent = folder.resolve(), path.parent.resolve()
    if path.name in ("", "..") or not parent.is_relative_to(root):
        raise InputError(f"{name!r} leads out of {folder}: the file that names it is damaged or not ours; delete it")
    return path


# Temporary files


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file next to ``path``, renamed to ``path`` where the block ends well and removed otherwise.

    The folder is made if it is absent. The temporary file is created anew: a symbolic link of that name is not
    followed. Processes that write the same file do not meet. The content is on the disk before it has its name.

    Raises:
        InputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}{_owner_ending()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch's RuntimeError does not tell what the disk said
        if isinstance(error, OSError) or disk_error(path.parent):
            raise cannot_write(path, error) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file.

    Raises:
        InputError: it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        InputError: it cannot be written.
    """
    atomic_write(path, text.encode())


def write_json(path: Path, content: Any, indent: int = 2) -> None:
    """Write a JSON file.

    Raises:
        InputError: it cannot be written.
    """
    write_text(path, json.dumps(content, indent=indent) + "\n")


def temporary_folder(parent: str | Path) -> Path:
    """Make a folder for unfinished output inside ``parent`` (on the same disk, so that a rename is atomic).

    Those that dead processes left in ``parent`` are removed.
    """
    for path in Path(parent).glob(f"{TEMPORARY_FOLDER}*"):
        if _is_leftover(path.name):
            _remove(path)
    return Path(tempfile.mkdtemp(prefix=TEMPORARY_FOLDER, suffix=_owner_ending(), dir=parent or "."))


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is no content but our temporary file or lock."""
    return name.startswith((LOCK, TEMPORARY_FOLDER)) or (name.startswith(".") and name.endswith(_TEMPORARY))


def content_of(folder: Path) -> list[Path]:
    """Entries of a folder, temporary files and the lock left out; none of a folder that does not exist.

    Raises:
        InputError: it is a file, or cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not is_temporary(path.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"cannot use {folder} as a folder: {reason_of(error)}; choose another") from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders below a folder whose process has ended.

    Names without an owner are from the first version, which nothing writes any more.
    """
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if _is_leftover(name):
                _remove(Path(parent, name))
        folders[:] = [name for name in folders if not is_temporary(name)]


def _owner_ending() -> str:
    return f".{os.getpid()}@{host_name()}{_TEMPORARY}"


def _is_leftover(name: str) -> bool:
    owner = _OWNER.search(name)
    return is_temporary(name) and not name.startswith(LOCK) and not (owner and is_running(int(owner[1]), owner[2]))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


# Markers: what a folder's content was made with


def read_marker(file: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None: no such file; empty: the file is damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def differing(found: Mapping[str, Any], settings: Mapping[str, Any], ignoring: Collection[str] = ()) -> list[str]:
    """The settings that are not as they were, compared as JSON, each with both values where these are short."""
    old, new = (json.loads(json.dumps(dict(each), default=str)) for each in (found, settings))
    return [
        _difference(key, old.get(key), new.get(key))
        for key in dict.fromkeys((*new, *old))
        if key not in ignoring and (key not in old or key not in new or old[key] != new[key])
    ]


def _difference(key: str, old: Any, new: Any) -> str:
    values = f"{key}: {json.dumps(old)} before, {json.dumps(new)} now"
    return values if len(values) <= len(key) + 2 * _LONGEST_VALUE else key


@dataclass(frozen=True)
class Marker:
    """The file in a folder that says what its content was made with.

    Attributes:
        file: its name.
        content: what the folder holds, for messages.
        remedy: what the user can do where it holds something else, for messages.
        differences: compares what is found with the settings of this run; returns what forbids to go on.
        indent: of the JSON.
    """

    file: str
    content: str
    remedy: str
    differences: Callable[[dict[str, Any], dict[str, Any]], list[str]] = differing
    indent: int = 2

    def check(self, folder: Path, settings: dict[str, Any], *, overwrite: bool = False) -> dict[str, Any] | None:
        """Check that a folder is free, or that its content was made with these settings. Writes nothing.

        Args:
            folder: need not exist.
            settings: of this run, JSON-able.
            overwrite: content of the same kind that was made with other settings may be removed.

        Returns:
            what the content was made with; None: the folder is free, or may be emptied.

        Raises:
            InputError: the folder holds something else.
        """
        found = read_marker(folder / self.file)
        if found is None:
            if content_of(folder):
                raise InputError(f"{folder} holds something else than {self.content}: {self.remedy}")
            return None
        differences = self.differences(found, settings) if found else [f"{self.file} is damaged"]
        if not differences:
            return found
        if overwrite:
            return None
        raise InputError(
            f"{folder} holds {self.content} made with other settings ({'; '.join(differences)}): {self.remedy}"
        )

    def claim(self, folder: Path, settings: dict[str, Any], *, overwrite: bool = False) -> None:
        """Make the folder and its marker; remove what may be overwritten, and what dead processes left.

        Raises:
            InputError: as :meth:`check`, or it cannot be written.
        """
        if self.check(folder, settings, overwrite=overwrite) is None:
            for path in content_of(folder):
                _remove(path)
        write_json(folder / self.file, settings, self.indent)
        remove_leftovers(folder)


# Locks


@contextmanager
def locked(folder: Path, part: str = "", *, seconds: float = 0) -> Iterator[None]:
    """Use a folder alone. It is made if absent, and removed at the end if it is empty then.

    The operating system releases the lock of a process that ends in whatever way.

    Args:
        folder: the folder.
        part: of it, where runs with other parts may work in it at the same time.
        seconds: to wait for a run that uses it: for what is written in a moment (:data:`TURN`).

    Raises:
        InputError: another run uses it, or it cannot be written to.
    """
    file, new = folder / (LOCK + part), [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _take(file, seconds)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {reason_of(error)}; choose another folder") from error
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        os.close(lock)
        for path in new:
            with suppress(OSError):
                path.rmdir()


def _take(file: Path, seconds: float) -> int:
    """Open and lock a file that names its owner."""
    start = time.monotonic()
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        owner = read_marker(file) or {}
        try:
            free = _is_free(descriptor, owner)
            patience = seconds if owner else max(seconds, _NAMED)
            if not free and time.monotonic() - start >= patience:
                raise InputError(
                    f"{file.parent} is in use by process {owner.get('process', 'unknown')} on {owner.get('host', '?')}"
                    f" ({owner.get('command', '?')}, since {owner.get('since', '?')}): wait for it or end it; if there "
                    f"is no such process, delete {file}"
                )
            with suppress(FileNotFoundError):  # the run that held it may just have removed it
                if free and os.path.samestat(os.fstat(descriptor), os.stat(file)):
                    break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(0 if free else _PAUSE)
    command = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])[:200]
    facts = {"process": os.getpid(), "host": socket.gethostname(), "command": command}
    facts["since"] = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(facts).encode())
    return descriptor


def _is_free(descriptor: int, owner: Mapping[str, Any]) -> bool:
    """Lock an open file; by its owner where the system or the disk has no locks."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError:
            pass
    process = owner.get("process")
    return type(process) is not int or not is_running(process, str(owner.get("host")))
