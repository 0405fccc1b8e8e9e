"""The tasks of a sweep on this machine, some at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from nnunetv2_mmkd.workers import orderly_termination
from nnunetv2_mmkd.workflows.sweep.process import Running
from nnunetv2_mmkd.workflows.sweep.tasks import Task

PAUSE = 0.2


def run_local(
    tasks: Sequence[Task], ended: Callable[[Task, bool], None], processes: int = 1, devices: Sequence[str] = ()
) -> None:
    """Run tasks in their order as processes of this machine.

    An interruption (Ctrl-C, SIGTERM, a kill) ends them, too. submitit's local executor is no substitute: it starts all
    jobs at once, hides the GPUs, and its jobs go on when the process that started them was interrupted or killed.

    Args:
        tasks: to run.
        ended: called with each task and whether it ended well.
        processes: tasks at a time.
        devices: values of ``CUDA_VISIBLE_DEVICES``, shared out among the ``processes``; empty: left as it is.
    """
    waiting = list(tasks)
    slots: list[Running | None] = [None] * processes
    try:
        with orderly_termination():
            while waiting or any(slots):
                for slot, running in enumerate(slots):
                    if running is not None and running.ended():
                        slots[slot] = None
                        ended(running.task, running.close())
                    if slots[slot] is None and waiting:
                        environment = {"CUDA_VISIBLE_DEVICES": devices[slot % len(devices)]} if devices else {}
                        slots[slot] = Running(waiting.pop(0), environment)
                time.sleep(PAUSE)
    finally:
        for running in filter(None, slots):
            running.stop()
