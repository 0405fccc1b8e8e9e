"""``mmkd demo``: what is wrong is said before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunetv2_mmkd.cli.main import main


@pytest.mark.parametrize(
    ("argv", "workers", "said"),
    [
        (["--epochs", "0"], "1", "--epochs 0: expected at least 1"),
        (["--seed", "-1"], "1", "--seed -1: expected at least 0"),
        (["--iterations", "-1"], "1", "--iterations -1: expected at least 1"),
        (["-n", "4"], "1", "-n 4: expected at least 5"),
        (["--size", "3"], "1", "phantom size: one or three whole numbers"),
        (["-tr", "nnUNetTrainerMetaKd"], "1", "nnUNetTrainerMetaKD"),
        (["--epochs", "1"], "0", "nnUNet_n_proc_DA is '0'"),
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
    assert main(["demo", "--out", str(tmp_path / "demo"), *argv]) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "demo").exists()
