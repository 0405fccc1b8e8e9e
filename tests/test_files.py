"""Temporary files and their owners, markers, locks, and paths that must not leave their folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Timer

import pytest
import torch
from full_disk import small_files_only

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import (
    LOCK,
    Marker,
    atomic_write,
    content_of,
    differing,
    locked,
    read_marker,
    remove_leftovers,
    replacing,
    temporary_folder,
    within,
)
from nnunetv2_mmkd.processes import is_running

MARKER = Marker("made.json", "a cake", "choose another plate")

WRITES = """
import sys, time
from pathlib import Path
from nnunetv2_mmkd.files import replacing, temporary_folder
folder = Path(sys.argv[1])
with replacing(folder / "file.txt") as temporary:
    (temporary_folder(folder) / "part").write_text("half")
    temporary.write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""
HOLDS = """
import sys, time
from pathlib import Path
from nnunetv2_mmkd.files import locked
with locked(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(600)
"""


def started(script: str, folder: Path) -> subprocess.Popen[str]:
    """Another process that has come to its sleep."""
    process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_file_is_complete_or_absent(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file.txt"
    with pytest.raises(KeyboardInterrupt), replacing(file) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert not list(file.parent.iterdir())
    atomic_write(file, b"first")
    with replacing(file) as temporary:
        temporary.write_text("second")
        assert file.read_bytes() == b"first" and content_of(file.parent) == [file]
    assert file.read_text() == "second" and list(file.parent.iterdir()) == [file]
    plain = tmp_path / "plain"
    plain.write_text("")
    assert file.stat().st_mode == plain.stat().st_mode  # the rights of any new file
    with pytest.raises(InputError, match=r"cannot write .*plain.file"):
        atomic_write(plain / "file", b"")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(bytes(10_000)),
        lambda path: torch.save({"weights": torch.zeros(10_000)}, path),  # a RuntimeError that does not say why
    ],
)
def test_a_full_disk_is_named_and_leaves_the_old_file(write: Callable[[Path], object], tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("old")
    with small_files_only(1000), pytest.raises(InputError) as caught, replacing(file) as temporary:
        write(temporary)
    assert str(caught.value) == f"cannot write {file}: File too large. Free space there, and run the same command again"
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]
    with pytest.raises(RuntimeError, match="another"), replacing(file):
        raise RuntimeError("another reason")


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    with replacing(tmp_path / "file.txt") as temporary:
        name = temporary
    name.symlink_to(victim)
    atomic_write(tmp_path / "file.txt", b"content")
    assert victim.read_text() == "untouched" and (tmp_path / "file.txt").read_bytes() == b"content"
    assert not (tmp_path / "file.txt").is_symlink() and not os.path.lexists(name)
    (tmp_path / LOCK).symlink_to(victim)
    with pytest.raises(InputError, match="cannot write to"), locked(tmp_path):
        pass
    assert victim.read_text() == "untouched"
    (tmp_path / ".old.tmp").symlink_to(tmp_path / "folder", target_is_directory=True)
    (tmp_path / "folder").mkdir()
    atomic_write(tmp_path / "folder" / "kept", b"")
    remove_leftovers(tmp_path)
    assert not os.path.lexists(tmp_path / ".old.tmp") and (tmp_path / "folder" / "kept").is_file()


def test_temporary_files_of_a_live_process_stay_and_those_of_a_dead_one_go(tmp_path: Path) -> None:
    process = started(WRITES, tmp_path)
    try:
        mine = temporary_folder(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        assert len(before) == 4 and content_of(tmp_path) == []
        remove_leftovers(tmp_path)
        assert sorted(tmp_path.rglob("*")) == before
    finally:
        killed(process)
    another = temporary_folder(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3  # two of ours, one file
    elsewhere = tmp_path / f".file.{process.pid}@another-host.tmp"
    elsewhere.write_text("perhaps live")
    for name in (".file.txt.123.tmp", ".dataset.json.tmp"):  # version one's
        (tmp_path / name).write_text("")
    (tmp_path / "below" / ".mmkd-partial-abc").mkdir(parents=True)
    (tmp_path / "below" / "notes.tmp").write_text("not ours")
    remove_leftovers(tmp_path)
    left = {path.name for path in tmp_path.rglob("*")}
    assert left - {another.name} == {mine.name, elsewhere.name, "below", "notes.tmp"}


def test_whether_a_process_runs() -> None:
    import socket

    here = socket.gethostname()
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not Path("/proc").is_dir() or not is_running(process.pid, here)  # a zombie
    process.wait()
    assert is_running(os.getpid(), here) and is_running(os.getppid(), here)
    assert not is_running(process.pid, here) and not is_running(2**70, here)
    assert is_running(process.pid, "another-host")


@pytest.mark.parametrize("name", ["../victim", "../../victim", "/victim", "a/../../victim", "link/victim", "..", ""])
def test_a_path_from_a_file_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="leads out of"):
        within(folder, name)
    assert within(folder, "images/case.nii.gz") == folder / "images" / "case.nii.gz"
    assert within(folder, "images/../case.nii.gz").resolve() == folder / "case.nii.gz"


def test_settings_that_differ() -> None:
    found = {"same": [1, 2], "seed": 0, "long": "x" * 200, "old": 1}
    settings = {"same": (1, 2), "seed": 1, "long": "y" * 200, "new": None}
    assert differing(found, settings) == ["seed: 0 before, 1 now", "long", "new: null before, null now",
                                          "old: 1 before, null now"]  # fmt: skip
    assert differing(found, settings, ignoring=["seed", "long", "new", "old"]) == []


def test_a_marker_goes_on_refuses_or_overwrites(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    assert MARKER.check(folder, {"seed": 0}) is None and not folder.exists()
    MARKER.claim(folder, {"seed": 0})
    (folder / "content").write_text("")
    assert MARKER.check(folder, {"seed": 0}) == {"seed": 0}
    MARKER.claim(folder, {"seed": 0})
    assert len(content_of(folder)) == 2
    message = r"folder holds a cake made with other settings \(seed: 0 before, 1 now\): choose another plate"
    with pytest.raises(InputError, match=message):
        MARKER.claim(folder, {"seed": 1})
    assert len(content_of(folder)) == 2 and read_marker(folder / "made.json") == {"seed": 0}
    (folder / "made.json").write_text("{")
    with pytest.raises(InputError, match=r"made\.json is damaged"):
        MARKER.check(folder, {"seed": 0})
    MARKER.claim(folder, {"seed": 1}, overwrite=True)
    assert content_of(folder) == [folder / "made.json"] and read_marker(folder / "made.json") == {"seed": 1}


def test_foreign_content_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="something else than a cake: choose another plate"):
            MARKER.claim(tmp_path, {}, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="a file is where a folder is needed"):
        MARKER.check(tmp_path / "thesis.txt", {})


def test_a_kill_while_the_marker_is_written_forbids_nothing(tmp_path: Path) -> None:
    (tmp_path / ".made.json.123@gone.tmp").write_text("{")
    with locked(tmp_path):
        MARKER.claim(tmp_path, {"seed": 0})
        assert content_of(tmp_path) == [tmp_path / "made.json"]


def test_a_second_run_is_refused_by_name_until_the_first_ends(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    process = started(HOLDS, folder)
    try:
        message = rf"folder is in use by process {process.pid} on .*wait for it or end it"
        with pytest.raises(InputError, match=message), locked(folder):
            pass
        assert json.loads((folder / LOCK).read_text())["process"] == process.pid
    finally:
        killed(process)
    assert (folder / LOCK).is_file()  # left by the killed run
    with locked(folder):
        assert json.loads((folder / LOCK).read_text())["process"] == os.getpid() and content_of(folder) == []
        with pytest.raises(InputError, match=f"in use by process {os.getpid()}"), locked(folder):
            pass
        (folder / "content").write_text("")
    assert [path.name for path in folder.iterdir()] == ["content"]


def test_a_second_run_waits_for_its_turn_or_for_the_first_ones_name(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / LOCK).write_text("")  # taken, but not yet written
        naming = Timer(0.2, lambda: (tmp_path / LOCK).write_text('{"process": 7}'))
        naming.start()
        with pytest.raises(InputError, match="in use by process 7 "), locked(tmp_path):
            pass
    with ThreadPoolExecutor(2) as pool, locked(tmp_path, ".part"):
        with pytest.raises(InputError, match=f"in use by process {os.getpid()}"), locked(tmp_path, ".part"):
            pass
        turn = pool.submit(lambda: locked(tmp_path, ".part", seconds=30).__enter__())
        wait([turn], timeout=0.3)
        assert not turn.done()
    turn.result()


def test_a_locked_folder_that_stays_empty_is_removed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to do"), locked(tmp_path / "new" / "folder"):
        raise InputError("nothing to do")
    assert not list(tmp_path.iterdir())
    with locked(tmp_path):
        pass
    assert tmp_path.is_dir()


def test_where_the_disk_has_no_locks_the_owner_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = started(HOLDS, tmp_path)
    monkeypatch.setattr("nnunetv2_mmkd.files.fcntl", None)
    try:
        with pytest.raises(InputError, match=f"in use by process {process.pid}"), locked(tmp_path):
            pass
    finally:
        killed(process)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
