"""The tasks of a sweep on this machine, some at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from nnunetv2_mmkd.inference.run import orderly_termination
from nnunetv2_mmkd.workflows.sweep.process import Running
from nnunetv2_mmkd.workflows.sweep.tasks import Task

PAUSE = 0.2


class LocalEngine:
    """Runs tasks as processes of this machine.

    Args:
        processes: tasks at a time.
        devices: values of ``CUDA_VISIBLE_DEVICES`` that the places take in turn; empty: as it is.
    """

    def __init__(self, processes: int = 1, devices: Sequence[str] = ()) -> None:
        self.processes = processes
        self.devices = tuple(devices)

    def run(self, tasks: Sequence[Task], ended: Callable[[Task, bool], None]) -> None:
        """Run tasks in their order; ``ended`` is told of each and whether it ended well.

        An interruption (Ctrl-C, SIGTERM) ends the processes, too.
        """
        waiting = list(tasks)
        places: list[Running | None] = [None] * self.processes
        try:
            with orderly_termination():
                while waiting or any(places):
                    for place, running in enumerate(places):
                        if running is not None and running.ended():
                            places[place] = None
                            ended(running.task, running.close())
                        if places[place] is None and waiting:
                            places[place] = Running(waiting.pop(0), self._environment(place))
                    time.sleep(PAUSE)
        finally:
            for running in filter(None, places):
                running.stop()

    def _environment(self, place: int) -> dict[str, str]:
        return {"CUDA_VISIBLE_DEVICES": self.devices[place % len(self.devices)]} if self.devices else {}
