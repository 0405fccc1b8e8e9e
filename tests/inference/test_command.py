"""``mmkd predict`` from end to end on the tiny model."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from tiny_model import TRAINER, write_case

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.inference.predictor import MMKDPredictor
from nnunetv2_mmkd.inference.run import Settings, pick_device, predict_folder


@pytest.mark.parametrize("by_name", [True, False])
def test_command(model: Path, tmp_path: Path, by_name: bool) -> None:
    write_case(tmp_path / "in", "a")
    write_case(tmp_path / "in", "b", (1, 2))
    name = ["-d", "999", "-c", "3d_fullres", "-tr", TRAINER] if by_name else ["-m", str(model)]
    where = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    how = ["-f", "0", "1", "-device", "cpu", "-npp", "0", "-nps", "0", "--disable_tta", "--disable_progress_bar"]
    assert main(["predict", *where, *name, *how, "--missing", "T1c"]) == 0
    report = json.loads((tmp_path / "out" / "mmkd_report.json").read_text())
    assert {case: entry["used"] for case, entry in report["cases"].items()} == {"a": ["t1", "t2"], "b": ["t2"]}
    assert report["model"]["folds"] == [0, 1]
    assert sorted(file.name for file in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "b.nii.gz"]


def test_bad_input_has_an_exit_code(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(tmp_path / "in", "a")
    where = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    how = ["-m", str(model), "-f", "0", "-device", "cpu"]
    assert main(["predict", *where, *how, "--available", "t1ce", "--missing", "t1c"]) == 1
    assert "mmkd predict: error: no modality would be left of t1, t1ce, t2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin processes to cores")
def test_as_many_threads_as_cores_that_we_may_use() -> None:
    """Two threads of one core wait for one another."""
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        pick_device("cpu")
        assert torch.get_num_threads() == 1
    finally:
        os.sched_setaffinity(0, cores)
    pick_device("cpu")
    assert torch.get_num_threads() == len(cores)


def test_termination_cleans_up(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_case(tmp_path / "in", "a")
    monkeypatch.setattr(
        MMKDPredictor, "predict_sliding_window_return_logits", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
    )
    settings = Settings(folds=(0,), device="cpu", preprocessing_processes=0, export_processes=0)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        predict_folder(str(model), str(tmp_path / "in"), str(tmp_path / "out"), settings)
    assert caught.value.code == 143 and signal.getsignal(signal.SIGTERM) is before
    assert not [file for file in (tmp_path / "out").iterdir() if file.name.startswith(".")]
    assert json.loads((tmp_path / "out" / "mmkd_report.json").read_text())["finished"] is False
