"""The container's entry point, run as the challenges run it, on phantoms with files deleted; and the recipes' files."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
from brats_like import SHAPE
from documented import ROOT
from edition_fixtures import write
from tiny_nnunet import Home, environment, set_variables, untrained

from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout

FOLDER = ROOT / "documentation" / "containers"
SPEC = EDITIONS["brats2023-gli"]
LACKING = {"BraTS-GLI-00001-000": ["t1ce"], "BraTS-GLI-00002-000": [], "BraTS-GLI-00003-001": ["t1", "t2", "flair"]}


@pytest.fixture(scope="module")
def model(session_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of four modalities, whose labels 1 and 2 are said to be two of the edition's."""
    with environment(session_home, tmp_path_factory.mktemp("container")):
        trainer = session_home.trainer(nnUNetTrainerModalityDropout, session_home.dataset(4, "classes"))
        folder = untrained(trainer, 0)
    content = json.loads((folder / "dataset.json").read_text())
    content |= {"labels": {"background": 0, "edema": 1, "enhancing": 2}, "edition": "brats2023-gli"}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def cases(tmp_path: Path, session_home: Home, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cases without labels, of which some lack files."""
    set_variables(monkeypatch, session_home, tmp_path / "results")
    for case, missing in LACKING.items():
        write(SPEC, tmp_path / "input", label=False, missing=missing, folder=case)
    return tmp_path / "input"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("infer", FOLDER / "infer.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(output: Path, cases: Path) -> None:
    """One segmentation per case and nothing else, with the geometry of the images and the labels of the edition."""
    assert sorted(path.name for path in output.iterdir()) == [f"{case}.nii.gz" for case in sorted(LACKING)]
    for case in LACKING:
        image = nib.load(next((cases / case).glob("*.nii.gz")))
        segmentation = nib.load(output / f"{case}.nii.gz")
        assert segmentation.shape == SHAPE and np.array_equal(segmentation.affine, image.affine)
        values = set(np.unique(np.asanyarray(segmentation.dataobj)).tolist())
        assert values <= {0, 2, 3} and values & {2, 3}  # edema, and enhancing tumour


@pytest.mark.parametrize("before", [[], ["infer"]], ids=["2025", "2024"])
def test_cases_that_lack_files(
    program: ModuleType, model: Path, cases: Path, tmp_path: Path, before: list[str]
) -> None:
    arguments = [f"--data_path={cases}", f"--output_path={tmp_path / 'output'}", "--model", str(model), "--disable_tta"]
    assert program.main([*before, *arguments]) == 0
    check(tmp_path / "output", cases)


@pytest.mark.slow
def test_as_a_program(model: Path, cases: Path, tmp_path: Path) -> None:
    """In an environment of its own, which knows nothing of nnU-Net's folders."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    command = [sys.executable, str(FOLDER / "infer.py"), "infer", f"--data_path={cases}"]
    command += [f"--output_path={tmp_path / 'output'}", "--disable_tta"]
    ended = subprocess.run(command, env={**keep, "MMKD_MODEL": str(model)}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    check(tmp_path / "output", cases)
    assert "missing: t1ce (no file)" in ended.stderr and "/predictions" not in ended.stderr


def test_refused(
    program: ModuleType, model: Path, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        folders = ["--model", str(model), "--output_path", str(tmp_path / "output"), "--data_path", str(cases)]
        assert program.main([*folders, *arguments]) == 1
        assert not (tmp_path / "output").exists()
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    assert "unknown edition" in refused("--edition", "brats1999")
    assert "nowhere does not exist" in refused("--data_path", str(tmp_path / "nowhere"))
    assert f"{tmp_path} is not the folder of a trained model" in refused("--model", str(tmp_path))
    assert "which is read" in refused("--output_path", str(cases))
    second = cases / "BraTS-GLI-00002-000"
    (second / "BraTS-GLI-00002-000-t1c.nii.gz").rename(second / "BraTS-GLI-00002-000-t1c.nii.gz.part")
    assert "BraTS-GLI-00002-000-t1c.nii.gz.part" in refused()


def test_what_the_recipes_copy_exists() -> None:
    """Docker and Apptainer are not run here."""
    docker = (FOLDER / "Dockerfile").read_text()
    copied = " ".join(re.findall(r"^COPY (?!--from)(.+) \S+$", docker, re.MULTILINE)).split()
    apptainer = (FOLDER / "model.def").read_text().partition("%files")[2].partition("%post")[0]
    *listed, model = [line.split()[0] for line in apptainer.split("\n") if line.strip()]
    assert model == "{{" and "COPY --from=model . /model" in docker
    assert sorted(copied) == sorted(listed) and all((ROOT / name).exists() for name in copied)
