"""Worker processes: they end with the process that started them, and leave Ctrl-C to it.

nnU-Net and batchgenerators start their workers themselves. What reaches such a worker of ours is: the signal mask of
the process that starts it, a hook after a fork, and what is unpickled in it
(:class:`~nnunetv2_mmkd.inference.reader.CompletingPlans`).
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

from nnunetv2_mmkd.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

TERMINATED = 128 + signal.SIGTERM
"""Exit code after SIGTERM, as a shell has it."""

PATIENCE = 20.0
"""Seconds that a process may take to end in order after SIGTERM. ``multiprocessing.Pool`` waits for good where the same
signal has ended a worker that held the lock of its queue, as it does where a batch system ends all of a job."""

_PR_SET_PDEATHSIG = 1

_watched: list[None] = []  # one entry for each context in which forked processes are workers


def in_processes(work: Callable[[Item], Result], items: Iterable[Item], processes: int) -> Iterator[Result]:
    """Results as they come. After a failure, what has begun is finished and the first failure by item is raised.

    Args:
        work: can be pickled.
        items: what it is called with.
        processes: at most; 1: all in this process, in order.

    Raises:
        InputError: a worker was killed.
    """
    items = list(items)
    if processes == 1 or len(items) < 2:
        yield from map(work, items)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(items)), mp_context=context, initializer=end_with_starter) as pool:
        futures: list[Future[Result]] = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(futures):
                if future.exception() is not None:
                    break
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
        for future in futures:
            if not future.cancelled() and isinstance(future.exception(), BrokenProcessPool):
                raise InputError("a worker process was killed, perhaps for lack of memory; run again with fewer -np")
            if not future.cancelled():
                future.result()


def end_with_starter() -> None:
    """In a worker: end when the process that started this one has ended, in whatever way; leave Ctrl-C to it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    starter = multiprocessing.parent_process()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if starter is not None and (sys.platform != "linux" or os.getppid() != starter.pid):
        threading.Thread(target=_follow, args=(starter,), daemon=True).start()


def _follow(starter: multiprocessing.process.BaseProcess) -> None:
    starter.join()
    os._exit(1)


@contextmanager
def forked_workers() -> Iterator[None]:
    """Processes that are forked in this context are workers: :func:`end_with_starter`."""
    _watched.append(None)
    try:
        yield
    finally:
        _watched.pop()


def _after_fork() -> None:
    if _watched:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_with_starter()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def orderly_termination() -> Iterator[None]:
    """Turn SIGTERM (a batch system's time limit) into an exit that cleans up, while the context lasts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = _last_resort()

    def terminate(*_: object) -> None:
        if not last.is_alive():
            last.start()
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        last.cancel()
        signal.signal(signal.SIGTERM, before)


def _last_resort() -> threading.Timer:
    """Ends this process at once, :data:`PATIENCE` after it is started, unless it is cancelled."""
    timer = threading.Timer(PATIENCE, os._exit, [TERMINATED])
    timer.daemon = True
    return timer


def _without_augmenters(hook: Callable[[threading.ExceptHookArgs], object], found: threading.ExceptHookArgs) -> None:
    """Leave it unsaid that a thread of batchgenerators misses the workers that have been ended."""
    if found.thread is None or not found.thread.name.endswith("(results_loop)"):
        hook(found)


@contextmanager
def supervised_workers() -> Iterator[None]:
    """Ctrl-C and SIGTERM end this process with one exception and without a word of its workers.

    SIGINT is blocked, which workers inherit, also before their first line of Python. A thread waits for it instead and
    interrupts the main thread. On Windows, and outside the main thread, Ctrl-C stays as it is.
    """
    main = threading.main_thread()
    if not hasattr(signal, "sigwait") or threading.current_thread() is not main:
        with forked_workers(), orderly_termination():
            yield
        return
    interrupted, ended, last = threading.Event(), threading.Event(), _last_resort()

    def terminate(*_: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        if not last.is_alive():
            last.start()
        sys.exit(TERMINATED)

    def wait() -> None:
        while signal.sigwait([signal.SIGINT]) and not ended.is_set():
            interrupted.set()
            signal.pthread_kill(main.ident or 0, signal.SIGTERM)  # wakes the main thread, whatever it waits for

    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    before = signal.signal(signal.SIGTERM, terminate)
    watcher = threading.Thread(target=wait, daemon=True)
    watcher.start()
    try:
        with forked_workers():
            yield
    except BaseException:
        threading.excepthook = partial(_without_augmenters, threading.excepthook)
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise
    finally:
        last.cancel()
        ended.set()
        with suppress(OSError):
            signal.pthread_kill(watcher.ident or 0, signal.SIGINT)
        watcher.join()
        signal.signal(signal.SIGTERM, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
