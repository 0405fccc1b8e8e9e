"""One task as a process of its own, with a log and a note of its state; the same here and on a node of a cluster."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.files import is_running, read_marker, write_json
from nnunetv2_mmkd.workflows.sweep.tasks import Task

GRACE = 15.0
"""Seconds between asking a process to end and ending it."""


def log_of(task: Task) -> Path:
    """What the process writes, all attempts one after another."""
    return task.folder / "log.txt"


def state_of(task: Task) -> dict[str, Any]:
    """What was last noted of a task: ``state`` (running, done, failed), ``seconds``, ...; empty: nothing."""
    return read_marker(task.folder / "state.json") or {}


def note(task: Task, **facts: Any) -> None:
    """Change what is noted of a task."""
    task.folder.mkdir(parents=True, exist_ok=True)
    write_json(task.folder / "state.json", {**state_of(task), **facts})


def runs_elsewhere(task: Task) -> int | None:
    """Process of an earlier sweep on this machine that is still at this task, or None."""
    state = state_of(task)
    if state.get("state") != "running" or state.get("host") != socket.gethostname():
        return None
    process = int(state["process"])
    if not is_running(process, str(state["host"])):
        return None
    with suppress(OSError):  # numbers of processes come again; where /proc tells, another program is not ours
        if b"nnunetv2_mmkd" not in Path(f"/proc/{process}/cmdline").read_bytes():
            return None
    return process


class Running:
    """A task that is being run.

    Args:
        task: to run.
        environment: variables on top of this process's.
        before: called in the new process first.
    """

    def __init__(
        self, task: Task, environment: Mapping[str, str] | None = None, before: Callable[[], None] | None = None
    ) -> None:
        self.task = task
        command = [sys.executable, "-m", "nnunetv2_mmkd.cli.main", *task.arguments()]
        task.folder.mkdir(parents=True, exist_ok=True)
        self.log = log_of(task).open("ab")
        self.log.write(f"# {datetime.now():%Y-%m-%d %H:%M:%S} mmkd {shlex.join(command[3:])}\n".encode())
        self.log.flush()
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            start_new_session=True,  # so that it can be ended with its workers
            preexec_fn=before,
        )
        facts = {"process": self.process.pid, "runner": os.getpid(), "host": socket.gethostname()}
        note(task, state="running", **facts)

    def ended(self) -> bool:
        """Whether the process has ended; then :meth:`close` is due."""
        return self.process.poll() is not None

    def close(self) -> bool:
        """Note how it ended; whether it ended well."""
        code = self.process.wait()
        good = code == 0
        if good:
            self.task.conclude()
            good = self.task.finished()
        self._close("done" if good else "failed", exit_code=code)
        return good

    def stop(self) -> None:
        """End the process and its workers."""
        for wanted, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, wanted)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
                break
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # workers that are left
        self._close("interrupted")

    def _close(self, state: str, **facts: Any) -> None:
        self.log.close()
        note(self.task, state=state, seconds=round(time.monotonic() - self.began, 1), **facts)
