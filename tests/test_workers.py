"""Processes that end: workers with their starter, and a main process on Ctrl-C or SIGTERM with one exception."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STARTER = """
import multiprocessing, os, signal, sys, time
from nnunetv2_mmkd.workers import end_with_starter, supervised_workers

def sleep():
    print(os.getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # below nohup it would be ignored
    with supervised_workers():
        forked = multiprocessing.get_context("fork").Process(target=sleep)
        forked.start()
        pool = multiprocessing.get_context("spawn").Pool(1, end_with_starter)
        pool.apply_async(time.sleep, (60,))
        try:
            print(pool._pool[0].pid, flush=True)
            forked.join()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise SystemExit(130)
"""


AS_MMKD = """
import multiprocessing, os, sys, threading, time

if __name__ == "__mp_main__":
    from nnunetv2_mmkd.cli import main

if __name__ == "__main__":
    import signal
    from nnunetv2_mmkd.workers import supervised_workers

    def results_loop():
        pool._pool[0].join()
        raise RuntimeError("workers are no longer alive")

    with supervised_workers():
        pool = multiprocessing.get_context("spawn").Pool(1)
        pool.apply_async(time.sleep, (0.1,)).get()
        threading.Thread(target=results_loop, daemon=True).start()
        print(pool._pool[0].pid, flush=True)
        pool.apply(time.sleep, (60,))
"""


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks up processes in /proc")
@pytest.mark.parametrize(
    ("by", "code", "said"),
    [(signal.SIGKILL, -9, ""), (signal.SIGTERM, 143, ""), (signal.SIGINT, 130, "interrupted\n")],
)
def test_no_worker_is_left(tmp_path: Path, by: signal.Signals, code: int, said: str) -> None:
    (tmp_path / "starter.py").write_text(STARTER)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "starter.py")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    workers = [int(process.stdout.readline()) for _ in range(2)]
    if by == signal.SIGKILL:
        time.sleep(1)  # the spawned worker needs a moment until it runs Python
    os.killpg(process.pid, by) if by == signal.SIGINT else process.send_signal(by)  # a terminal sends it to all
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    if by != signal.SIGKILL:
        assert error == said
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))


@pytest.mark.skipif(sys.platform != "linux", reason="looks up processes in /proc")
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_pool_of_nnunet_below_the_command_ends_with_it_and_says_nothing(tmp_path: Path, by: signal.Signals) -> None:
    (tmp_path / "mmkd").write_text(AS_MMKD)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "mmkd")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    time.sleep(0.5)
    process.send_signal(by)
    _, error = process.communicate(timeout=60)
    assert "Traceback" not in error
    deadline = time.monotonic() + 5
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(worker)


HANGS = """
import multiprocessing, signal, sys
from nnunetv2_mmkd import workers

workers.PATIENCE = 1.0

if __name__ == "__main__":
    with getattr(workers, sys.argv[1])():
        lock = multiprocessing.Lock()
        lock.acquire()
        print("ready", flush=True)
        try:
            signal.pause()
        finally:
            lock.acquire()  # as a pool whose worker has died with it
"""


@pytest.mark.skipif(sys.platform != "linux", reason="signals")
@pytest.mark.parametrize("context", ["supervised_workers", "orderly_termination"])
def test_a_pool_that_waits_for_a_dead_worker_does_not_keep_a_terminated_process(tmp_path: Path, context: str) -> None:
    (tmp_path / "hangs.py").write_text(HANGS)
    process = subprocess.Popen([sys.executable, str(tmp_path / "hangs.py"), context], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
