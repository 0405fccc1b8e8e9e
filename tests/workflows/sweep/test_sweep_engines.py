"""Tasks as processes: here, and as jobs by submitit; what is noted of them, and how they end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from verbs import Verb

from nnunetv2_mmkd.workflows.sweep.local import LocalEngine
from nnunetv2_mmkd.workflows.sweep.process import Running, log_of, note, runs_elsewhere, state_of


def good(folder: Path, name: str = "good") -> Verb:
    return Verb(name, ("env", "--shell", "bash"), folder)


def bad(folder: Path, name: str = "bad") -> Verb:
    return Verb(name, ("nonsense",), folder)


def lasting(folder: Path, name: str = "lasting") -> Verb:
    return Verb(name, ("phantom", str(folder / "phantoms"), "-n", "2000", "--size", "64"), folder)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("processes", [1, 3])
def test_a_failure_does_not_stop_the_others(tmp_path: Path, processes: int) -> None:
    tasks = [good(tmp_path), bad(tmp_path), good(tmp_path, "last")]
    told: dict[str, bool] = {}
    LocalEngine(processes).run(tasks, lambda task, well: told.update({task.name: well}))
    assert told == {"good": True, "bad": False, "last": True}
    if processes == 1:
        assert list(told) == ["good", "bad", "last"]
    assert state_of(tasks[0])["state"] == "done" and state_of(tasks[1])["state"] == "failed"
    assert state_of(tasks[1])["exit_code"] == 2 and state_of(tasks[0])["seconds"] > 0
    assert "unknown verb 'nonsense'" in log_of(tasks[1]).read_text()
    assert "mmkd" in log_of(tasks[0]).read_text().splitlines()[0]


def test_a_process_that_ends_well_with_its_work_undone_has_failed(tmp_path: Path) -> None:
    class Undone(Verb):
        def conclude(self) -> None: ...

    told: list[bool] = []
    LocalEngine().run([Undone("undone", ("env",), tmp_path)], lambda task, well: told.append(well))
    assert told == [False]


def test_an_interruption_ends_the_processes(tmp_path: Path) -> None:
    def interrupted(task: object, well: bool) -> None:
        raise KeyboardInterrupt

    slow = lasting(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        LocalEngine(2).run([slow, good(tmp_path)], interrupted)
    assert state_of(slow)["state"] == "interrupted" and not alive(state_of(slow)["process"])


def test_a_process_of_an_earlier_sweep_is_seen(tmp_path: Path) -> None:
    slow = lasting(tmp_path)
    assert runs_elsewhere(slow) is None
    running = Running(slow)
    assert runs_elsewhere(slow) == running.process.pid
    running.stop()
    assert runs_elsewhere(slow) is None
    note(slow, state="running")  # as if it had been killed: nobody is there
    assert runs_elsewhere(slow) is None
    note(slow, process=os.getppid())  # somebody else has the number now
    assert not Path("/proc").is_dir() or runs_elsewhere(slow) is None


def test_several_gpus_are_shared_out() -> None:
    engine = LocalEngine(3, ("4", "7"))
    assert [engine._environment(place)["CUDA_VISIBLE_DEVICES"] for place in range(3)] == ["4", "7", "4"]
    assert LocalEngine(3)._environment(1) == {}


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes import the tasks of this file's neighbour."""
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def test_submitit_on_this_machine(tmp_path: Path, nodes: None, caplog: pytest.LogCaptureFixture) -> None:
    from nnunetv2_mmkd.workflows.sweep.cluster import ClusterEngine

    tasks = [good(tmp_path), bad(tmp_path)]
    told: dict[str, bool] = {}
    engine = ClusterEngine(tmp_path / "submitit", {"partition": "none", "time": 5}, "local", patience=0.2)
    engine.run(tasks, lambda task, well: told.update({task.name: well}))
    assert told == {"good": True, "bad": False}
    assert state_of(tasks[0])["state"] == "done" and state_of(tasks[1])["exit_code"] == 2
    assert "unknown verb 'nonsense'" in log_of(tasks[1]).read_text()


@pytest.fixture
def slurm(nodes: None) -> None:
    """A cluster that answers; ``SLURM_CONF`` may name that of a single node."""
    if shutil.which("sbatch") is None or subprocess.run(["sinfo", "-h"], capture_output=True, check=False).returncode:
        pytest.skip("no Slurm here")


def test_slurm(tmp_path: Path, slurm: None) -> None:
    from nnunetv2_mmkd.workflows.sweep.cluster import ClusterEngine, NodeJob, queued

    tasks = [good(tmp_path), bad(tmp_path), good(tmp_path, "earlier")]
    engine = ClusterEngine(tmp_path / "submitit", {"time": 5, "cpus_per_task": 1}, patience=1)
    earlier = engine.executor.submit(NodeJob(tasks[2]))
    note(tasks[2], state="submitted", job=earlier.job_id)
    told: dict[str, bool] = {}
    engine.run(tasks, lambda task, well: told.update({task.name: well}))
    assert told == {"good": True, "bad": False, "earlier": True}
    assert state_of(tasks[2])["job"] == earlier.job_id  # not submitted again
    assert state_of(tasks[0])["job"].endswith("_0") and state_of(tasks[1])["job"].endswith("_1")
    assert queued() is not None


def test_slurms_queue_is_asked_when_a_job_is_gone(tmp_path: Path, slurm: None) -> None:
    from nnunetv2_mmkd.workflows.sweep.cluster import ClusterEngine

    slow = lasting(tmp_path)
    engine = ClusterEngine(tmp_path / "submitit", {"time": 5}, patience=1)
    killer = subprocess.Popen(
        [sys.executable, "-c", KILLER, str(slow.folder / "state.json")], stdout=subprocess.DEVNULL
    )
    told: list[bool] = []
    engine.run([slow], lambda task, well: told.append(well))
    killer.wait()
    assert told == [False] and state_of(slow)["reason"] == "the job left the queue without a word"
    deadline = time.monotonic() + 30
    while alive(state_of(slow)["process"]) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not alive(state_of(slow)["process"])


KILLER = """
import json, subprocess, sys, time
while True:
    try:
        state = json.load(open(sys.argv[1]))
    except OSError:
        state = {}
    if state.get("state") == "running":
        break
    time.sleep(0.5)
subprocess.run(["scancel", "--signal=KILL", "--full", state["job"]])
"""
