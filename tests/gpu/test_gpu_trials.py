"""The trials of ``python tests/gpu``: a few of them on the CPU, all of them where there is a GPU."""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import gpu_trial
import pytest
import torch
from every_trainer import every_trainer
from gpu_report import NO_TIME, run
from test_benchmark import tiny_plan

from nnunetv2_mmkd.benchmark.plan import synthetic_plan
from nnunetv2_mmkd.training.trainer import nnUNetTrainerMMKD

CPU = torch.device("cpu")


def test_a_table_and_what_failed_or_found_no_time(tmp_path: Path) -> None:
    file = tmp_path / "gpu.md"
    names = ["nnUNetTrainerMetaKD", "nnUNetTrainerLCKD", "nnUNetTrainerNoSuchThing", "nnUNetTrainerSpecialist_t1_t2"]
    trials, text = run(tiny_plan(), names, CPU, minutes=10, iterations=3, output=file)
    notes = {each.trainer: each.note for each in trials}
    failed = notes.pop("nnUNetTrainerNoSuchThing")
    assert failed.startswith("failed: InputError") and set(notes.values()) == {""}
    assert all(each.seconds > 0 for each in trials if each.trainer in notes)
    assert file.read_text() == text and "| nnUNetTrainer | no |" in text and "Two ranks: not run: 0 GPU" in text
    assert text.count("all passed") == 3 and failed in text
    _, text = run(tiny_plan(), names[:1], CPU, minutes=0, iterations=1)
    assert text.count(NO_TIME) == 3


@pytest.mark.parametrize(
    ("broken", "said"),
    [("load_checkpoint", "not restored"), ("validation_step", "loss of the validation is nan")],
)
def test_a_check_that_fails_is_said(broken: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nnUNetTrainerMMKD, broken, lambda *_: {"loss": float("nan")})
    result = gpu_trial.try_trainer("nnUNetTrainerModalityDropout", tiny_plan(), CPU, False, 1)
    assert result.note.startswith("failed: RuntimeError") and said in result.note


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "there is no CUDA device; a dry run: --device cpu"),
        ("--device cpu --iterations 0", "--iterations: '0': expected a whole number from 1 on"),
        ("--device cpu --patch 60", "patch"),
        ("--device cpu -tr nnUNetTrainerNone", "nnUNetTrainerNone"),
    ],
)
def test_the_command_needs_no_pytest_and_refuses_in_one_line(
    arguments: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("nnUNet_def_n_proc", "nnUNet_n_proc_DA"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["tests/gpu", *arguments.split()])
    for name in ("gpu_report", "gpu_trial", "nested_differences", "tiny_nnunet"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "pytest", None)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(Path(__file__).parent), run_name="__main__")
    line = capsys.readouterr().err
    assert stop.value.code == 2 and line.startswith("python tests/gpu: error: ") and said in line
    assert line.count("\n") == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", [gpu_trial.STOCK, *(each.__name__ for each in every_trainer())])
def test_on_a_gpu(name: str, compiled: bool) -> None:
    plan = synthetic_plan().resized((64, 64, 64))
    result = gpu_trial.try_trainer(name, plan, torch.device("cuda", 0), compiled, 3)
    assert replace(result, seconds=None, peak=None) == gpu_trial.Trial(name, compiled)
