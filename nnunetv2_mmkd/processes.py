"""Whether the process that owns a file still runs."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from pathlib import Path


def is_running(process: int, host: str) -> bool:
    """Whether a process runs. What cannot be known, of another host or on Windows, is taken to run."""
    if host_name(host) != host_name() or os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except PermissionError:  # another user's
        return True
    except (OSError, OverflowError):
        return False
    with suppress(OSError, IndexError):  # where /proc tells: a zombie has ended, and nobody has asked how
        return Path(f"/proc/{process}/stat").read_bytes().rsplit(b")", 1)[1].split()[0] != b"Z"
    return True


def host_name(name: str | None = None) -> str:
    """The name of a host as it stands in file names."""
    return re.sub(r"[^\w-]", "-", socket.gethostname() if name is None else name)[:32] or "-"
