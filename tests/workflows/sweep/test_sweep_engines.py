"""Tasks as processes: here, and as jobs by submitit; what is noted of them, and how they end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from verbs import Verb

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.workflows.sweep import local, process
from nnunetv2_mmkd.workflows.sweep.local import run_local
from nnunetv2_mmkd.workflows.sweep.process import Running, log_of, note, runs_elsewhere, state_of, wait_for_earlier


def good(folder: Path, name: str = "good") -> Verb:
    return Verb(name, ("env", "--shell", "bash"), folder)


def bad(folder: Path, name: str = "bad") -> Verb:
    return Verb(name, ("nonsense",), folder)


def lasting(folder: Path, name: str = "lasting") -> Verb:
    return Verb(name, ("phantom", str(folder / "phantoms"), "-n", "2000", "--size", "64"), folder)


def alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{number}/stat")  # a dead process whose parent has not asked for its exit code
    return not status.is_file() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert condition()


@pytest.mark.parametrize("processes", [1, 3])
def test_a_failure_does_not_stop_the_others(tmp_path: Path, processes: int) -> None:
    tasks = [good(tmp_path), bad(tmp_path), good(tmp_path, "last")]
    told: dict[str, bool] = {}
    run_local(tasks, lambda task, well: told.update({task.name: well}), processes)
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
    run_local([Undone("undone", ("env",), tmp_path)], lambda task, well: told.append(well))
    assert told == [False]


def test_an_interruption_ends_the_processes(tmp_path: Path) -> None:
    def interrupted(task: object, well: bool) -> None:
        raise KeyboardInterrupt

    slow = lasting(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_local([slow, good(tmp_path)], interrupted, 2)
    assert state_of(slow)["state"] == "interrupted" and not alive(state_of(slow)["process"])


def test_a_process_of_an_earlier_sweep_is_seen(tmp_path: Path) -> None:
    slow = lasting(tmp_path)
    assert runs_elsewhere(slow) is None
    running = Running(slow)
    assert runs_elsewhere(slow) == running.process.pid
    with pytest.raises(InputError, match=f"lasting is being run by process {running.process.pid}"):
        wait_for_earlier([good(tmp_path), slow], 0.3)
    threading.Timer(0.3, running.stop).start()
    wait_for_earlier([good(tmp_path), slow], 60)
    assert runs_elsewhere(slow) is None
    note(slow, state="running")  # as if it had been killed: nobody is there
    assert runs_elsewhere(slow) is None
    note(slow, process=os.getppid())  # somebody else has the number now
    assert not Path("/proc").is_dir() or runs_elsewhere(slow) is None


STARTER = """
import signal, sys, time
from pathlib import Path
from verbs import Verb

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored
parent = Path(sys.argv[1])
tasks = [Verb(x, ("phantom", str(parent / f"{x}_images"), "-n", "2000", "--size", "48"), parent) for x in ("a", "b")]
"""
LOCAL = """
from nnunetv2_mmkd.workflows.sweep.local import run_local
run_local(tasks, lambda task, well: None, processes=2)
"""
BARE = """
from nnunetv2_mmkd.workflows.sweep.process import Running
running = [Running(task) for task in tasks]
time.sleep(3600)
"""


@pytest.mark.parametrize(("by", "how"), [(signal.SIGTERM, LOCAL), (signal.SIGKILL, BARE), (signal.SIGHUP, BARE)])
def test_no_process_outlives_the_sweep(tmp_path: Path, by: signal.Signals, how: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    sweep = subprocess.Popen([sys.executable, "-c", STARTER + how, str(tmp_path)], env=environment)
    try:
        wait_for(lambda: all(list(tmp_path.glob(f"{name}_images/**/*.nii.gz")) for name in ("a", "b")), 60)
        guards = [int(state_of(lasting(tmp_path, name))["process"]) for name in ("a", "b")]
        assert all(map(alive, guards))
        sweep.send_signal(by)
        sweep.wait(60)
    finally:
        sweep.kill()
    wait_for(lambda: not any(map(alive, guards)))
    before = len(list(tmp_path.rglob("*.nii.gz")))
    time.sleep(1)
    assert len(list(tmp_path.rglob("*.nii.gz"))) == before


def test_nothing_runs_without_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk."""
    numbers: list[int] = []

    def full(task: Verb, **facts: int) -> None:
        numbers.append(facts["process"])
        raise InputError("cannot write state.json: No space left on device")

    monkeypatch.setattr(process, "note", full)
    with pytest.raises(InputError, match="No space left"):
        Running(lasting(tmp_path))
    assert len(numbers) == 1 and not alive(numbers[0])
    assert len(log_of(lasting(tmp_path)).read_text().splitlines()) == 1 and not (tmp_path / "phantoms").exists()


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "good").touch()
    with pytest.raises(InputError, match=r"cannot write .*good.log\.txt: a file is where a folder is needed"):
        Running(good(tmp_path))


@pytest.mark.parametrize(("devices", "seen"), [((), [None] * 3), (("4", "7"), ["4", "7", "4"])])
def test_several_gpus_are_shared_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], seen: list[str | None]
) -> None:
    found = []

    class Recorded(Running):
        def __init__(self, task: Verb, environment: dict[str, str]) -> None:
            found.append(environment.get("CUDA_VISIBLE_DEVICES"))
            super().__init__(task, environment)

    monkeypatch.setattr(local, "Running", Recorded)
    run_local([good(tmp_path, name) for name in "abc"], lambda task, well: None, 3, devices)
    assert found == seen


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
    wait_for(lambda: not alive(state_of(slow)["process"]))


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
