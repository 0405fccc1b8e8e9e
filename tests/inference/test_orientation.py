"""Images of a case in other orientations: the same output bit for bit; and what is not on one grid."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from tiny_model import read, write_case

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.predictor import MMKDPredictor

Make = Callable[..., MMKDPredictor]


def orient(file: Path, orientation: str) -> None:
    sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(file)), orientation), str(file))


@pytest.mark.parametrize("channel", [0, 1, 2])
@pytest.mark.parametrize("orientation", ["LPS", "PIR"])
def test_a_reoriented_image_changes_nothing(
    make_predictor: Make, tmp_path: Path, channel: int, orientation: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_case(tmp_path / "in", "a")[channel]
    predictor, properties = make_predictor(), ("GetSpacing", "GetOrigin", "GetDirection", "GetSize")
    predictor.predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    before = sitk.ReadImage(str(tmp_path / "out" / "a.nii.gz"))
    orient(file, orientation)
    with caplog.at_level(logging.WARNING):
        predictor.predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    after = sitk.ReadImage(str(tmp_path / "out" / "a.nii.gz"))
    assert (sitk.GetArrayFromImage(after) == sitk.GetArrayFromImage(before)).all()
    assert all(getattr(after, name)() == getattr(before, name)() for name in properties)
    assert f"case a: {file.name} is stored as" in caplog.text
    images = dict(zip(("t1", "t1ce", "t2"), (tmp_path / "in" / f"a_000{i}.nii.gz" for i in range(3)), strict=True))
    assert (predictor.predict_case(images) == sitk.GetArrayFromImage(before)).all()


def test_a_case_of_its_own_orientation_keeps_it_which_is_said(
    make_predictor: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for file in write_case(tmp_path / "in", "a"):
        orient(file, "PIR")
    write_case(tmp_path / "in", "b")
    orient(write_case(tmp_path / "in", "c")[0], "PIR")  # it gets onto the others' grid
    make_predictor().predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    image, found = (sitk.ReadImage(str(file)) for file in (tmp_path / "in/a_0000.nii.gz", tmp_path / "out/a.nii.gz"))
    assert found.GetSize() == image.GetSize() and np.allclose(found.GetOrigin(), image.GetOrigin())
    assert found.GetDirection() == image.GetDirection()
    assert "1 case is stored as PIR (a), most as RAS: each keeps its own, and nnU-Net does not reorient" in caplog.text


def test_a_rounded_and_a_moved_image(make_predictor: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_case(tmp_path / "in", "a")[2]
    image, predictor = sitk.ReadImage(str(file)), make_predictor()
    predictor.predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    before = read(tmp_path / "out" / "a.nii.gz")
    image.SetOrigin((-10.05, 20.0, 5.0))
    sitk.WriteImage(image, str(file))
    with caplog.at_level(logging.WARNING):
        predictor.predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    assert (read(tmp_path / "out" / "a.nii.gz") == before).all() and "taken for rounding" in caplog.text
    image.SetOrigin((-40.0, 20.0, 5.0))
    sitk.WriteImage(image, str(file))
    with pytest.raises(InputError, match=r"case a: .*a_0002\.nii\.gz lies up to 30 voxels .*register.*--missing t2"):
        predictor.predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_fourth_axis_of_length_one(make_predictor: Make, tmp_path: Path) -> None:
    file = write_case(tmp_path / "in", "a")[1]
    predictor = make_predictor()
    predictor.predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    before = read(tmp_path / "out" / "a.nii.gz")
    sitk.WriteImage(sitk.JoinSeries([sitk.ReadImage(str(file))]), str(file))
    predictor.predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    assert (read(tmp_path / "out" / "a.nii.gz") == before).all()


@pytest.fixture
def upright(model: Path, tmp_path: Path) -> Path:
    """The model, of training images that were all stored as RAS."""
    shutil.copytree(model, folder := tmp_path / "model")
    content = json.loads((folder / "plans.json").read_text())
    content["mmkd"]["orientation"] = "RAS"
    (folder / "plans.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("orientation", ["PIR", "LPS"])
def test_a_case_is_predicted_in_the_orientation_of_the_training_and_written_in_its_own(
    upright: Path, tmp_path: Path, orientation: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Segmentation, probabilities and uncertainty: the same numbers at the same places, stored as the images are."""

    def run(images: Path) -> Path:
        out = images.parent / f"{images.name}_out"
        options = ["-f", "0", "-device", "cpu", "--uncertainty", "--save_probabilities", "--disable_progress_bar"]
        assert main(["predict", "-i", str(images), "-o", str(out), "-m", str(upright), *options]) == 0
        return out

    write_case(tmp_path / "stored", "a")
    expected = run(tmp_path / "stored")
    for file in write_case(tmp_path / "turned", "a"):
        orient(file, orientation)
    found = run(tmp_path / "turned")
    assert f"1 case is stored as {orientation} (a), the model's training images as RAS" in caplog.text
    maps = sorted(file.relative_to(expected) for file in expected.rglob("*.nii.gz"))
    assert len(maps) == 3
    image = sitk.ReadImage(str(tmp_path / "turned" / "a_0000.nii.gz"))
    for name in maps:
        before, after = (sitk.ReadImage(str(folder / name)) for folder in (expected, found))
        assert after.GetSize() == image.GetSize() and after.GetDirection() == image.GetDirection()
        assert np.allclose(after.GetOrigin(), image.GetOrigin()) and np.allclose(after.GetSpacing(), image.GetSpacing())
        back = sitk.GetArrayFromImage(sitk.DICOMOrient(after, "RAS"))
        assert (back == sitk.GetArrayFromImage(before)).all() and back.max() > 0, name
    segmentation = read(found / "a.nii.gz")
    assert (np.load(found / "a.npz")["probabilities"].argmax(0) == segmentation).all()
    predictor = MMKDPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(upright), (0,))
    images = {name: tmp_path / "turned" / f"a_000{i}.nii.gz" for i, name in enumerate(("t1", "t1ce", "t2"))}
    assert (predictor.predict_case(images, tmp_path / "one.nii.gz") == segmentation).all()
    assert (read(tmp_path / "one.nii.gz") == segmentation).all()


@pytest.mark.parametrize(("degrees", "turned"), [(20, True), (40, False)])
def test_an_oblique_case_is_not_turned(
    upright: Path, tmp_path: Path, degrees: float, turned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for file in write_case(tmp_path / "in", "a"):
        orient(file, "PIR")
        image, angle = sitk.ReadImage(str(file)), np.radians(degrees)
        about_x = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
        image.SetDirection((about_x @ np.reshape(image.GetDirection(), (3, 3))).ravel())
        sitk.WriteImage(image, str(file))
    predictor = MMKDPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(upright), (0,))
    with caplog.at_level(logging.WARNING):
        predictor.predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    assert ("no value is changed" if turned else "oblique and predicted as stored") in caplog.text
    assert read(tmp_path / "out" / "a.nii.gz").shape == read(tmp_path / "in" / "a_0000.nii.gz").shape
