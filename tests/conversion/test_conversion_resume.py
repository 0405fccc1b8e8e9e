"""Interrupted and repeated conversions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from brats_like import SHAPE, save, write_case

from nnunetv2_mmkd.conversion import convert as module
from nnunetv2_mmkd.conversion.convert import convert
from nnunetv2_mmkd.editions.brats import BRATS2018
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import LOCK, locked
from nnunetv2_mmkd.images import read_volume

CASES = [f"Brats18_TCIA01_{number:03d}_1" for number in range(3)]


def run(source: Path, **options: object) -> Path:
    return convert(BRATS2018, [source], 501, **{"processes": 1, "show_progress": False, **options})


def content(target: Path) -> dict[str, bytes]:
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for seed, case in enumerate(CASES):
        write_case(tmp_path / "src", case, seed=seed, missing=["t2"] if seed == 1 else [])
    return tmp_path / "src"


def test_parallel_equals_serial_and_a_second_run_changes_nothing(
    source: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = content(run(source))
    second = content(run(source, processes=2))  # everything is reused
    assert second == first
    parallel = convert(BRATS2018, [source], 502, processes=2, show_progress=False)
    others = content(parallel)
    assert {name for name in first if name != "dataset.json"} == {name for name in others if name != "dataset.json"}
    assert all(first[name] == others[name] for name in first if name.startswith(("images", "labels")))


def test_an_interrupted_run_goes_on(source: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = content(run(source, name="Reference", labels="regions"))
    for path in (raw / "Dataset501_Reference").iterdir():
        path.rename(raw / path.name)  # out of the way of the id
    (raw / "Dataset501_Reference").rmdir()
    converted = []

    def until_second(spec, files, target):
        if len(converted) == 1:
            (target / "imagesTr" / f".{files.case}_0000.nii.gz.123.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        converted.append(files.case)
        return original(spec, files, target)

    original = module.convert_case
    monkeypatch.setattr(module, "convert_case", until_second)
    with pytest.raises(KeyboardInterrupt):
        run(source)
    target = raw / "Dataset501_BraTS2018"
    assert (target / "mmkd_conversion.json").is_file() and not (target / "dataset.json").exists()
    again = []

    def counted(spec, files, target):
        again.append(files.case)
        return original(spec, files, target)

    monkeypatch.setattr(module, "convert_case", counted)
    run(source)
    assert converted == CASES[:1] and again == CASES[1:]
    result = content(target)
    assert result.keys() == expected.keys()
    assert all(result[name] == expected[name] for name in result if name.startswith(("images", "labels")))
    assert json.loads(result["dataset.json"])["missing_modalities"] == {CASES[1]: ["t2"]}


def test_changed_lost_and_removed_sources(source: Path, raw: Path) -> None:
    target = run(source)
    (target / "labelsTr" / f"{CASES[0]}.nii.gz").unlink()  # an output is lost
    time.sleep(0.01)
    save(source / CASES[1] / f"{CASES[1]}_t2.nii.gz", np.full(SHAPE, 7, np.int16))  # the missing one turned up
    (source / CASES[2] / f"{CASES[2]}_seg.nii.gz").unlink()  # no longer a training case
    run(source)
    assert (target / "labelsTr" / f"{CASES[0]}.nii.gz").is_file()
    assert json.loads((target / "dataset.json").read_text())["missing_modalities"] == {}
    assert json.loads((target / "dataset.json").read_text())["numTraining"] == 2
    assert not list((target / "imagesTr").glob(f"{CASES[2]}*")) and not list((target / "labelsTr").glob(f"{CASES[2]}*"))
    assert len(list((target / "imagesTs").glob(f"{CASES[2]}*"))) == 4


def test_another_conversion_into_the_same_id(source: Path, raw: Path, tmp_path: Path) -> None:
    run(source)
    with pytest.raises(InputError, match=r"Dataset501_BraTS2018 holds a conversion .*\(labels.*\): choose another -d"):
        run(source, labels="classes")
    write_case(tmp_path / "other")
    with pytest.raises(InputError, match=r"Dataset501_BraTS2018 holds a conversion .*\(sources"):
        run(tmp_path / "other")


def test_a_record_that_names_files_of_others_deletes_nothing(source: Path, raw: Path, tmp_path: Path) -> None:
    target = run(source)
    expected = content(target)
    victims = [tmp_path / "victim", tmp_path / "folder" / "victim"]
    (tmp_path / "folder").mkdir()
    (target / "labelsTr" / "link").symlink_to(tmp_path / "folder")
    for victim in victims:
        victim.write_text("x")
    outputs = ({"../../victim": 1}, {str(tmp_path / "victim"): 1}, {"labelsTr/link/victim": 1})
    for case, names in zip(CASES, outputs, strict=True):
        record = target / ".mmkd_conversion" / f"{case}.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "fingerprint": [], "outputs": names}))
    record = target / ".mmkd_conversion" / "gone.json"
    record.write_text(json.dumps({"case": "../../../victim", "fingerprint": [], "outputs": {}}))
    run(source)  # converted again
    assert all(victim.read_text() == "x" for victim in victims)
    record.unlink()
    (target / "labelsTr" / "link").unlink()
    assert content(target) == expected


def test_a_second_conversion_at_the_same_time_is_refused(source: Path, raw: Path) -> None:
    with locked(raw / "Dataset501_BraTS2018"):
        with pytest.raises(InputError, match=f"Dataset501_BraTS2018 is in use by process {os.getpid()}"):
            run(source)
        assert [path.name for path in (raw / "Dataset501_BraTS2018").iterdir()] == [LOCK]
    run(source)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks up child processes in /proc")
def test_a_hundred_cases_killed_at_any_time(tmp_path: Path, raw: Path) -> None:
    """First a worker is killed, then the whole run, then it is run to its end: three processes, 100 cases."""
    source, target = tmp_path / "src", raw / "Dataset501_BraTS2018"
    for seed in range(100):
        write_case(
            source,
            f"Brats18_TCIA01_{seed:03d}_1",
            seed=seed,
            ending=".nii",
            missing=["t2"] if seed % 9 else [],
            shape=(24, 24, 24),
        )
    command = [sys.executable, "-m", "nnunetv2_mmkd.cli.main", "convert", "brats2018", str(source), "-np", "3"]

    process, workers = _started(command, raw, target, labels=5)
    assert len(workers) >= 3  # and multiprocessing's own helper
    os.kill(workers[-1], signal.SIGKILL)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 1 and "a worker process was killed" in message.splitlines()[-1]
    first = _finished(target)
    assert 0 < len(first) < 500 and _gone(workers)

    process, workers = _started(command, raw, target, labels=len(list(target.glob("labelsTr/*.nii.gz"))) + 5)
    process.kill()
    process.communicate(timeout=60)
    assert workers and _gone(workers), "workers outlived their parent"
    second = _finished(target)
    assert len(first) < len(second) < 500
    kept = {name: stamp for name, stamp in first.items() if second.get(name) == stamp}
    assert len(kept) >= len(first) - 4 * 5, "cases that were finished are not converted again"

    last = subprocess.run(command, env=os.environ | {"nnUNet_raw": str(raw)}, stderr=subprocess.PIPE, text=True)
    assert last.returncode == 0 and "of 100 cases have been converted before" in last.stderr
    assert "convert BraTS 2018: 100%" in last.stderr  # the progress bar
    assert len(_finished(target)) == 500 and not list(target.rglob("*.tmp"))
    content = json.loads((target / "dataset.json").read_text())
    assert content["numTraining"] == 100 and len(content["missing_modalities"]) == 88


def _started(command: list[str], raw: Path, target: Path, labels: int) -> tuple[subprocess.Popen[str], list[int]]:
    """A conversion that has written so many labels and goes on, and its child processes."""
    process = subprocess.Popen(
        command, env=os.environ | {"nnUNet_raw": str(raw)}, stderr=subprocess.PIPE, text=True, bufsize=-1
    )
    deadline = time.monotonic() + 60
    while len(list(target.glob("labelsTr/*.nii.gz"))) < labels and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return process, [int(child) for child in children]


def _finished(target: Path) -> dict[str, int]:
    """The images and labels that have their final name, each read to its end -> time of writing."""
    assert not (target / "dataset.json").exists() or not list(target.rglob("*.tmp"))
    files = sorted(target.rglob("*.nii.gz"))
    for path in files:
        read_volume(path)
    return {path.name: path.stat().st_mtime_ns for path in files}


def _gone(pids: list[int]) -> bool:
    """Whether processes end within half a minute."""
    deadline = time.monotonic() + 30
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(_alive, pids))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
