"""Silenced are known lines and warnings, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

from nnunetv2_mmkd.chatter import silence_warnings, without_chatter


def test_lines_of_nnunet_about_itself_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    with without_chatter():
        print("Searching for class nnUNetTrainerX in folder /f with current module None")
        print("use_folds is None, attempting to auto detect available folds")
        print("\nPredicting case_1:\nperform_everything_on_device: False\ndone with case_1")
        print("GPU prediction completed. Waiting for remaining segmentation exports to finish...")
        print("an err", end="")
        print("or\n\nThere are many\nno end of line", end="")
    assert capsys.readouterr().out == "done with case_1\nan error\n\nThere are many\nno end of line"


def test_output_before_an_error_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), without_chatter():
        print("the last words", end="")
        raise RuntimeError
    assert capsys.readouterr().out == "the last words"


def test_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error::BytesWarning")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        silence_warnings()
        warnings.warn("`torch.jit.interface` is deprecated. Please use another", FutureWarning, stacklevel=1)
        warnings.warn("something is wrong", FutureWarning, stacklevel=1)
    assert [str(each.message) for each in caught] == ["something is wrong"]
    assert os.environ["PYTHONWARNINGS"].startswith("error::BytesWarning,")
    program = (
        "import warnings; warnings.warn('`torch.jit.interface` is deprecated. x', FutureWarning); warnings.warn('y')"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr
    assert "UserWarning: y" in said and "deprecated" not in said and "nvalid" not in said
