"""One task as a process of its own, with a log and a note of its state; the same here and on a node of a cluster.

Two rules: no process begins before its note is on the disk, and none outlives the process that started it
(:mod:`.guard`).
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from nnunetv2_mmkd.disk import cannot_write
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import read_marker, write_json
from nnunetv2_mmkd.processes import is_running
from nnunetv2_mmkd.workflows.sweep.tasks import Task

logger = logging.getLogger(__name__)

GUARD = "nnunetv2_mmkd.workflows.sweep.guard"


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
    process = state.get("process")
    if type(process) is not int or not is_running(process, str(state["host"])):
        return None
    with suppress(OSError):  # numbers of processes come again; where /proc tells, another program is not ours
        if b"nnunetv2_mmkd" not in Path(f"/proc/{process}/cmdline").read_bytes():
            return None
    return process


def wait_for_earlier(tasks: Iterable[Task], seconds: float) -> None:
    """Wait until what a killed sweep has left behind has ended: its guards see to that (:mod:`.guard`).

    Args:
        tasks: of this sweep.
        seconds: at most.

    Raises:
        InputError: a task is still being run.
    """
    deadline = time.monotonic() + seconds
    for task in tasks:
        busy = runs_elsewhere(task)
        if busy is not None and seconds:
            logger.info("%s of an earlier sweep is ending; waiting for it", task.name)
        while busy is not None and time.monotonic() < deadline:
            time.sleep(0.2)
            busy = runs_elsewhere(task)
        if busy is not None:
            raise InputError(f"{task.name} is being run by process {busy}, of an earlier sweep: wait for it or end it")


class Running:
    """A task that is being run.

    Args:
        task: to run.
        environment: variables on top of this process's.

    Raises:
        InputError: log or note cannot be written; nothing runs then.
    """

    def __init__(self, task: Task, environment: Mapping[str, str] | None = None) -> None:
        self.task = task
        command = [sys.executable, "-m", "nnunetv2_mmkd.cli.main", *task.arguments()]
        try:
            task.folder.mkdir(parents=True, exist_ok=True)
            with log_of(task).open("ab") as log:
                log.write(f"# {datetime.now():%Y-%m-%d %H:%M:%S} mmkd {shlex.join(command[3:])}\n".encode())
                log.flush()
                self.process = subprocess.Popen(
                    [sys.executable, "-m", GUARD, *command],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", "MMKD_DEBUG": "1", **(environment or {})},
                    start_new_session=True,
                )
        except OSError as error:
            raise cannot_write(log_of(task), error) from error
        self.began = time.monotonic()
        try:
            note(task, state="running", process=self.process.pid, runner=os.getpid(), host=socket.gethostname())
        except BaseException:
            self._end()
            raise
        with suppress(BrokenPipeError):  # the guard could not start: its exit code and the log say so
            self._pipe.write(b"1")
            self._pipe.flush()

    @property
    def _pipe(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    def ended(self) -> bool:
        """Whether the process has ended; then :meth:`close` is due."""
        return self.process.poll() is not None

    def close(self) -> bool:
        """Note how it ended; whether it ended well."""
        code = self._end()
        good = code == 0
        if good:
            self.task.conclude()
            good = self.task.finished()
        self._note("done" if good else "failed", exit_code=code)
        return good

    def stop(self) -> None:
        """End the process and its workers."""
        self._end()
        self._note("interrupted")

    def _end(self) -> int:
        """Close the pipe, at which the guard ends what still runs; returns the exit code."""
        with suppress(BrokenPipeError):
            self._pipe.close()
        code = self.process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # workers that are left
        return code

    def _note(self, state: str, **facts: Any) -> None:
        note(self.task, state=state, seconds=round(time.monotonic() - self.began, 1), **facts)
