"""The tasks of a sweep as a job array of an existing cluster, through submitit.

submitit (MIT licence, Python only) because it is small, needs nothing on the cluster but Slurm's own commands, submits
arrays, passes all of sbatch's options on, and asks for a job again when it meets its time limit or is preempted.
Engines with a server or a scheduler of their own bring what a handful of long trainings does not need.

The nodes must see the same files and Python environment as this machine.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.workflows.sweep.process import Running, note, state_of
from nnunetv2_mmkd.workflows.sweep.tasks import Task

log = logging.getLogger(__name__)

REQUEUES = 20
"""How often a job that met its time limit is asked for again, unless ``max_num_timeout`` says otherwise."""

KILLED = 180.0
"""Seconds that a job waits after its process was ended from outside: the cluster is about to end the job as well."""


class NodeJob:
    """What runs on the node: one task. submitit pickles it, and calls ``checkpoint`` when the job's time is over."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._running: Running | None = None

    def __call__(self) -> bool:
        """Run the task, from its last checkpoint if there is one; whether it ended well."""
        if self.task.finished():
            return True
        self._running = Running(self.task)
        while not self._running.ended():
            time.sleep(1)
        if self._running.process.returncode == 128 + signal.SIGTERM:
            time.sleep(KILLED)
        return self._running.close()

    def checkpoint(self) -> Any:
        """End the process; the job that is asked for next goes on from nnU-Net's last checkpoint."""
        from submitit.helpers import DelayedSubmission

        if self._running is not None:
            self._running.stop()
        return DelayedSubmission(NodeJob(self.task))


class ClusterEngine:
    """Runs tasks as jobs: as an array on Slurm, or by submitit's local executor to try the same here.

    Args:
        folder: for submitit's files; the nodes must see it.
        parameters: submitit's parameters for Slurm (partition, gpus_per_node, mem, time in minutes, ...), and
            ``max_num_timeout``.
        cluster: ``"slurm"`` or ``"local"``.
        patience: seconds between looks at the queue.

    Raises:
        InputError: submitit or Slurm is not installed, or an unknown parameter.
    """

    def __init__(
        self, folder: Path, parameters: Mapping[str, Any], cluster: str = "slurm", patience: float = 15.0
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise InputError("clusters need submitit: pip install 'nnunetv2-mmkd[cluster]'") from error
        self.cluster, self.patience = cluster, patience
        self.folder = folder
        options = dict(parameters)
        requeues = int(options.pop("max_num_timeout", REQUEUES))
        check_parameters(options)
        try:
            self.executor = submitit.AutoExecutor(
                folder, cluster=cluster, slurm_max_num_timeout=requeues, local_max_num_timeout=requeues
            )
        except RuntimeError as error:
            raise InputError(f"there is no Slurm here ({error}): submit from a machine that has srun") from error
        self.executor.update_parameters(**{f"slurm_{name}": value for name, value in options.items()})
        if cluster == "local":  # where submitit's default is two minutes
            self.executor.update_parameters(timeout_min=int(options.get("time", 60)))
            delay = options.get("signal_delay_s")
            self.executor.update_parameters(**({} if delay is None else {"local_signal_delay_s": delay}))

    def run(self, tasks: Sequence[Task], ended: Callable[[Task, bool], None]) -> None:
        """Submit tasks as one array and wait; ``ended`` is told of each and whether it ended well.

        Jobs that an earlier call submitted and that are still there are waited for, not submitted again. An
        interruption of the wait leaves the jobs alone.
        """
        jobs: dict[str, Any] = {task.name: self._submitted(task) for task in tasks}
        new = [task for task in tasks if jobs[task.name] is None]
        if new:
            for task, job in zip(new, self.executor.submit_array([NodeJob(task) for task in new]), strict=True):
                jobs[task.name] = job
                note(task, state="submitted", job=job.job_id)
        told = ", ".join(sorted({job.job_id.split("_")[0] for job in jobs.values()}))
        log.info("%d jobs submitted, %d of an earlier call waited for: %s", len(new), len(tasks) - len(new), told)
        waiting = list(tasks)
        gone: dict[str, int] = {}
        while waiting:
            queue = None if self.cluster == "local" else queued()
            for task in list(waiting):
                job = jobs[task.name]
                gone[task.name] = 0 if self._alive(job, queue) else gone.get(task.name, 0) + 1
                if gone[task.name] > 1 or job.paths.result_pickle.exists():
                    waiting.remove(task)
                    ended(task, self._outcome(task, job))
            if waiting:
                time.sleep(self.patience)

    def _submitted(self, task: Task) -> Any:
        """The job that an earlier call submitted for the task, if it is still in the queue."""
        from submitit import SlurmJob

        identifier = state_of(task).get("job")
        if self.cluster == "local" or identifier is None:
            return None
        job: Any = SlurmJob(self.folder, identifier)
        if not self._alive(job, queued()) or job.paths.result_pickle.exists():
            return None
        return job

    def _alive(self, job: Any, queue: set[str] | None) -> bool:
        if self.cluster == "local":
            return not job.done()
        return queue is None or job.job_id in queue

    def _outcome(self, task: Task, job: Any) -> bool:
        """Whether a job that is over ended well."""
        if job.paths.result_pickle.exists():
            failure = job.exception()
            if failure is None:
                return bool(job.result())
            reason = str(failure).strip().splitlines()[-1]
        else:
            reason = "the job left the queue without a word"
        note(task, state="failed", reason=reason)
        log.warning("%s: %s; see %s and %s", task.name, reason, job.paths.stderr, job.paths.stdout)
        return False


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that submitit does not know; needs no Slurm.

    Raises:
        InputError: the first of them.
    """
    import submitit

    minutes = parameters.get("time")
    if minutes is not None and (isinstance(minutes, bool) or not isinstance(minutes, int)):
        raise InputError(f"slurm.time is {minutes!r}: expected minutes, a whole number")
    for name, value in parameters.items():
        executor = submitit.AutoExecutor("unused", cluster="local")
        try:
            executor.update_parameters(**{f"slurm_{name}": value})
        except NameError as error:
            raise InputError(f"slurm.{name} is no parameter of submitit: {str(error).splitlines()[0]}") from error


def queued() -> set[str] | None:
    """Jobs of this user that wait or run, named as submitit does; None: the queue does not answer.

    Slurm's accounting (``sacct``), which submitit would ask, is not everywhere.
    """
    command = ["squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%F %K %A"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
        cells = [line.split() for line in lines]
        return {number if index == "N/A" else f"{array}_{index}" for array, index, number in cells}
    return None
