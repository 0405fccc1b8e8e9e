"""``from nnunetv2_mmkd import predict``: one call, the same segmentation as the predictor's and the command's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_model import read, write_case

import nnunetv2_mmkd
from nnunetv2_mmkd import MMKDPredictor, predict
from nnunetv2_mmkd.errors import InputError


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return dict(zip(("t1", "t1ce", "t2"), write_case(tmp_path / "images", "case"), strict=True))


def test_one_call_equals_the_predictor(
    model: Path, files: dict[str, Path], make_predictor: Callable[..., MMKDPredictor], tmp_path: Path
) -> None:
    expected = make_predictor((0, 1)).predict_case({"t1": files["t1"], "t2": files["t2"]})
    output = tmp_path / "out" / "seg.nii.gz"
    found = predict(model, t1=files["t1"], t1ce=None, t2w=str(files["t2"]), device="cpu", output=output)
    assert np.array_equal(found, expected) and np.array_equal(read(output), expected)
    loaded = make_predictor((0, 1))
    assert np.array_equal(predict(loaded, t1=files["t1"], t2=files["t2"]), expected)
    everything = predict(model, **files, device="cpu")
    assert not np.array_equal(everything, expected)
    one_fold = predict(model, **files, device="cpu", folds=[0], mirroring=False)
    assert not np.array_equal(one_fold, everything)


def test_arrays(model: Path, files: dict[str, Path]) -> None:
    spacing = {"spacing": (1.5, 1.0, 1.0)}
    found = predict(model, t2=read(files["t2"]), properties=spacing, device="cpu")
    assert np.array_equal(found, predict(model, t2=files["t2"], device="cpu"))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"t1": None}, "at least one"),
        ({}, "at least one"),
        ({"t1": "/nowhere/a.nii.gz"}, "/nowhere/a.nii.gz"),
        ({"t3": None, "t1": "a.nii.gz"}, "'t3'"),
    ],
)
def test_wrong_images_are_refused(model: Path, images: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        predict(model, **images, device="cpu")


def test_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing-here"):
        predict(tmp_path / "nothing-here", t1="a.nii.gz", device="cpu")


def test_imported_when_asked_for() -> None:
    code = (
        "import sys, nnunetv2_mmkd; assert 'torch' not in sys.modules and 'predict' in nnunetv2_mmkd.__all__; "
        "from nnunetv2_mmkd import predict; assert 'torch' in sys.modules and callable(predict)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no_such_name"):
        nnunetv2_mmkd.no_such_name  # noqa: B018
