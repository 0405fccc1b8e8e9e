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

from nnunetv2_mmkd.dataset_conversion import convert as module
from nnunetv2_mmkd.dataset_conversion.convert import convert
from nnunetv2_mmkd.dataset_conversion.editions import BRATS2018
from nnunetv2_mmkd.dataset_conversion.nifti import read_volume
from nnunetv2_mmkd.errors import InputError

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
    with pytest.raises(InputError, match=r"taken by Dataset501_BraTS2018.*choose another -d"):
        run(source, labels="classes")
    write_case(tmp_path / "other")
    with pytest.raises(InputError, match="taken by Dataset501_BraTS2018"):
        run(tmp_path / "other")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks up child processes in /proc")
def test_killed_at_any_time_leaves_no_broken_file(tmp_path: Path, raw: Path) -> None:
    source = tmp_path / "src"
    for seed in range(24):
        write_case(source, f"Brats18_TCIA01_{seed:03d}_1", seed=seed, ending=".nii", shape=(48, 48, 48))
    command = [sys.executable, "-m", "nnunetv2_mmkd.cli.main", "convert", "brats2018", str(source), "-np", "2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"nnUNet_raw": str(raw)})
    target = raw / "Dataset501_BraTS2018"
    deadline = time.monotonic() + 30
    while not list(target.glob("labelsTr/*.nii.gz")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert children and not any(_alive(child) for child in children), "workers outlived their parent"
    finished = list(target.rglob("*.nii.gz"))
    assert finished and len(finished) < 24 * 5 and not (target / "dataset.json").exists()
    for path in finished:
        read_volume(path)
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert (target / "dataset.json").is_file() and not list(target.rglob("*.tmp"))
    assert len(list(target.rglob("*.nii.gz"))) == 24 * 5


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
