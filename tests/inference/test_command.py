"""``mmkd predict`` from end to end on the tiny model."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from tiny_model import TRAINER, write_case

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.inference.job import alone
from nnunetv2_mmkd.inference.predictor import MMKDPredictor
from nnunetv2_mmkd.inference.run import PredictionSettings, pick_device, predict_folder


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
def test_as_many_threads_as_cores_that_we_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads of one core wait for one another; OMP_NUM_THREADS is obeyed."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        pick_device("cpu")
        assert torch.get_num_threads() == 1
    finally:
        os.sched_setaffinity(0, cores)
    pick_device("cpu")
    assert torch.get_num_threads() == len(cores)
    monkeypatch.setenv("OMP_NUM_THREADS", str(len(cores) + 1))
    pick_device("cpu")
    assert torch.get_num_threads() == len(cores) + 1
    torch.set_num_threads(1)


def test_termination_cleans_up(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_case(tmp_path / "in", "a")
    monkeypatch.setattr(
        MMKDPredictor, "predict_sliding_window_return_logits", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
    )
    settings = PredictionSettings(folds=(0,), device="cpu", preprocessing_processes=0, export_processes=0)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        predict_folder(str(model), str(tmp_path / "in"), str(tmp_path / "out"), settings)
    assert caught.value.code == 143 and signal.getsignal(signal.SIGTERM) is before
    assert not [file for file in (tmp_path / "out").iterdir() if file.name.startswith(".")]
    assert json.loads((tmp_path / "out" / "mmkd_report.json").read_text())["finished"] is False


@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIOWithReorient"])
def test_an_image_is_unzipped_once_before_nnunet_reads_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    """Counted are gzip streams (ours and nibabel's) and SimpleITK's reads of zipped files."""
    folder = Path(shutil.copytree(model, tmp_path / model.name))
    plans = json.loads((folder / "plans.json").read_text())
    (folder / "plans.json").write_text(json.dumps({**plans, "image_reader_writer": reader}))
    files = [str(file) for file in write_case(tmp_path / "in", "a", (0, 2))]
    unzipped: list[str] = []
    open_gzip, read_sitk = gzip.GzipFile.__init__, sitk.ReadImage

    def count_gzip(self: gzip.GzipFile, filename: Any = None, mode: Any = None, *args: Any, **kwargs: Any) -> None:
        if "r" in (mode or "r"):
            unzipped.append(str(filename or getattr(kwargs.get("fileobj"), "name", None)))
        open_gzip(self, filename, mode, *args, **kwargs)

    def count_sitk(file: str, *args: Any, **kwargs: Any) -> sitk.Image:
        unzipped.append(str(file))
        return read_sitk(file, *args, **kwargs)

    run_case, before = DefaultPreprocessor.run_case, []

    def nnunet_begins(self: DefaultPreprocessor, *args: Any, **kwargs: Any) -> Any:
        before.extend(unzipped)
        return run_case(self, *args, **kwargs)

    monkeypatch.setattr(DefaultPreprocessor, "run_case", nnunet_begins)
    monkeypatch.setattr(gzip.GzipFile, "__init__", count_gzip)
    monkeypatch.setattr(sitk, "ReadImage", count_sitk)
    settings = PredictionSettings(folds=(0,), device="cpu", preprocessing_processes=0, export_processes=0)
    predict_folder(str(folder), str(tmp_path / "in"), str(tmp_path / "out"), settings)
    assert (tmp_path / "out" / "a.nii.gz").is_file()
    assert sorted(file for file in before if file.endswith(".gz")) == sorted(files)
    assert all(unzipped.count(file) > 1 for file in files)  # nnU-Net's own reading is seen, too


def test_two_predictions_into_one_folder(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(tmp_path / "in", "a")
    argv = ["predict", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(model), "-f", "0"]
    argv += ["-device", "cpu", "-npp", "0", "-nps", "0", "--disable_tta", "--disable_progress_bar"]
    with alone(str(tmp_path / "out")):
        assert main(argv) == 1
        assert f"out is in use by process {os.getpid()} on {socket.gethostname()}" in capsys.readouterr().err
    with alone(str(tmp_path / "out"), 1, 2):  # the other part of a prediction
        assert main([*argv, "-num_parts", "2", "-part_id", "0"]) == 0
