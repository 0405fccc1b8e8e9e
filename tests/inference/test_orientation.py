"""Images of a case in other orientations: the same output bit for bit; and what is not on one grid."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_model import read, write_case

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
