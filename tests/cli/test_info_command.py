"""``mmkd info``: everything there is, without torch; nnU-Net's names and the trainers' own files as the truth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.registry import METRICS
from nnunetv2_mmkd.paths import EXT_TRAINER
from nnunetv2_mmkd.trainer_catalogue import STATUSES, trainers_of
from nnunetv2_mmkd.workflows import info

FOLDER = Path(__file__).parents[2] / "trainer_variants"


def facts(capsys: pytest.CaptureFixture[str]) -> dict:
    assert main(["info", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_names_everything(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", "/data/raw")
    found = facts(capsys)
    assert list(found["editions"]) == list(EDITIONS) and list(found["metrics"]) == list(METRICS)
    assert found["packages"]["torch"] and found["packages"]["nnunetv2"].startswith("2.8")
    assert found["devices"]["cpu_cores"] >= 1 and found["devices"]["torch_built_for"].split()[0] in ("CPU", "CUDA")
    assert found["folders"]["nnUNet_raw"] == "/data/raw"
    names = {entry["name"] for entry in found["trainers"]}
    assert {"nnUNetTrainerModalityDropout", "nnUNetTrainerMetaKD", "nnUNetTrainerPASSION_RFNet"} <= names


def test_text_has_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys)
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for entry in found["trainers"]:
        assert f"{entry['name']} " in text and entry["paper"] in text and entry["status"] in text
    for name in (*found["editions"], *found["metrics"], *found["suffixes"], *found["lesion_tasks"]):
        assert name in text


def test_needs_no_torch() -> None:
    code = (
        "import sys; from nnunetv2_mmkd.cli.main import main; assert main(['info', '--json']) == 0; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'nnunetv2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_every_trainer_of_ours_says_how_far_it_was_tried() -> None:
    """The catalogue has exactly the classes that the modules define, each with a status that is explained."""
    entries = trainers_of(FOLDER)
    by_import = set()
    for file in FOLDER.glob("nnUNet*.py"):
        module = __import__(f"nnunetv2_mmkd.trainer_variants.{file.stem}", fromlist=["*"])
        by_import |= {
            name
            for name, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__ and name.startswith("nnUNetTrainer")
        }
    assert {entry.name for entry in entries} == by_import
    assert all(entry.status in STATUSES and entry.summary.endswith(".") for entry in entries)
    assert all(entry.paper for entry in entries if entry.url) and all(entry.url for entry in entries if entry.paper)
    assert [entry.name for entry in entries if entry.status == "recommended"] == ["nnUNetTrainerModalityDropout"]


def test_trainers_of_ones_own_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        'PAPER = "A"\nclass nnUNetTrainerMine:\n    """Mine."""\n'
        'class nnUNetTrainerMine2:\n    PAPER = "B"\nclass Other: pass\n'
    )
    monkeypatch.setenv(EXT_TRAINER, str(tmp_path))
    mine = [entry for entry in facts(capsys)["trainers"] if entry["file"] == "mine.py"]
    assert [(entry["name"], entry["paper"], entry["summary"]) for entry in mine] == [
        ("nnUNetTrainerMine", "A", "Mine."),
        ("nnUNetTrainerMine2", "B", ""),
    ]
    (tmp_path / "broken.py").write_text("class nnUNetTrainerBroken(:")
    with pytest.raises(InputError, match=r"broken\.py"):
        trainers_of(tmp_path)
    assert main(["info"]) == 1 and "broken.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "gpus"),
    [
        ("printf 'NVIDIA H100, 81559 MiB, 570.1\\nNVIDIA H100, 81559 MiB, 570.1\\n'", 2),
        ("echo 'NVIDIA-SMI has failed'; exit 9", 0),
    ],
)
def test_gpus_are_those_that_nvidia_smi_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, gpus: int
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    assert info.devices()["nvidia"] == ["NVIDIA H100, 81559 MiB, 570.1"] * gpus


def test_torch_that_cannot_use_the_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "_nvidia", lambda: ["NVIDIA H100"])
    for build, expected in (("CPU", True), ("CUDA 12.8", False)):
        monkeypatch.setattr(info, "_torch_build", lambda build=build: build)
        assert ("cannot use the GPU" in info.as_text(info.information())) is expected


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from nnunetv2_mmkd import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mmkd {__version__}\n"
