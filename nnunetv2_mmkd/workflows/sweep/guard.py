"""Run a command that must not outlive the process that started this one: ``python -m ...sweep.guard COMMAND``.

Started as the leader of a session of its own, with a pipe as standard input. The command begins when a byte arrives
through the pipe. When the pipe closes (its other end is closed, or that process was killed), all processes of the
session are ended: asked at first, killed after :data:`GRACE` seconds. Returns the command's exit code, as a shell does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

STDIN = 0  # read unbuffered: a thread that waits in a buffered read aborts Python's exit

GRACE = 15.0
"""Seconds between asking processes to end and killing them."""


def guard(command: Sequence[str]) -> int:
    """Run the command; returns its exit code, 128 + N where signal N ended it."""
    if not os.read(STDIN, 1):
        return 1
    signal.signal(signal.SIGTERM, lambda *_: None)  # sent to all of the session, of which this process goes last
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # inherited: Slurm sends it to all; only the job on the node acts
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    deserted = threading.Event()
    threading.Thread(target=_end_with_starter, args=(deserted,), daemon=True).start()
    code = process.wait()
    if deserted.is_set():
        os.killpg(0, signal.SIGKILL)  # workers that are left, and this process
    return code if code >= 0 else 128 - code


def _end_with_starter(deserted: threading.Event) -> None:
    while os.read(STDIN, 1):
        pass
    deserted.set()
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1:]))
