"""``mmkd demo``: what is wrong is said before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from refusals import refusal

from nnunetv2_mmkd.workflows.demo.planning import threads_for_planning


@pytest.mark.parametrize(
    ("argv", "workers", "said"),
    [
        (["--epochs", "0"], "1", "--epochs: '0': expected a whole number from 1 to"),
        (["--iterations", "-1"], "1", "--iterations: '-1': expected a whole number from 1 to"),
        (["-n", "4"], "1", "-n: '4': expected a whole number from 5 to"),
        (["--seed", "-1"], "1", "--seed: '-1': expected a whole number from 0 to"),
        (["--size", "3"], "1", "--size: '3': expected a whole number from 16 to 512"),
        (["-tr", "nnUNetTrainerMetaKd"], "1", "nnUNetTrainerMetaKD"),
        (["--epochs", "1"], "all", "nnUNet_n_proc_DA is 'all'"),
    ],
)
def test_said_before_the_first_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    workers: str,
    said: str,
) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("nnUNet_def_n_proc", "2")
    monkeypatch.setenv("nnUNet_n_proc_DA", workers)
    assert said in refusal(["demo", "--out", str(tmp_path / "demo"), *argv], capsys)
    assert not (tmp_path / "demo").exists()


def test_no_augmenting_processes_still_leave_the_planner_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    with threads_for_planning():
        assert get_allowed_n_proc_DA() == 1
    assert get_allowed_n_proc_DA() == 0
