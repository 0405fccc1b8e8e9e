"""``mmkd predict --native``: segmentations of aligned exams on the grid of each sequence as it came."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from refusals import refusal
from tiny_model import image_of, write

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.registration import case as registration_case
from nnunetv2_mmkd.registration import exam

QUICK = ["-f", "0", "-device", "cpu", "-npp", "0", "-nps", "0", "--disable_tta", "--disable_progress_bar"]


def test_predict_native(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """t2 lies three voxels beside t1ce; its segmentation is that of t1ce there, and covers what t1ce does not."""
    write(tmp_path / "in" / "anna" / "anna_t1ce.nii.gz", image_of("anna", 1))
    write(tmp_path / "in" / "anna" / "anna_t2.nii.gz", image_of("anna", 2, (16, 24, 30)))
    motion = sitk.Euler3DTransform()
    motion.SetTranslation((-3.0, 0.0, 0.0))  # three voxels to the left on the page, as the axes point
    monkeypatch.setattr(registration_case, "register", lambda *_: motion)
    monkeypatch.setattr(exam, "LEAST_EXTENT", 0.0)  # of a real registration
    align = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "aligned"), "--reference", "t1ce", "--accept", "anna"]
    assert main(["align", *align, "--disable_progress_bar"]) == 0
    where = ["-i", str(tmp_path / "aligned"), "-o", str(tmp_path / "out"), "-m", str(model)]
    assert main(["predict", *where, *QUICK, "--native"]) == 0
    said = "of each sequence as it came: 2 segmentations of 1 case in "
    assert f"{said}{tmp_path / 'out' / 'native'}" in caplog.text
    labels = np.asarray(nib.load(tmp_path / "out" / "anna.nii.gz").dataobj)
    assert len(np.unique(labels)) > 1
    for name in ("t1ce", "t2"):
        found = nib.load(tmp_path / "out" / "native" / f"anna_{name}.nii.gz")
        own = nib.load(tmp_path / "in" / "anna" / f"anna_{name}.nii.gz")
        assert found.shape == own.shape and np.array_equal(found.affine, own.affine)
        voxels = np.asarray(found.dataobj)
        if name == "t1ce":
            assert np.array_equal(voxels, labels)
        else:
            size = labels.shape
            assert np.array_equal(voxels[3 : 3 + size[0], : size[1], : size[2]], labels)
            assert not voxels[3 + size[0] :].any() and not voxels[:3].any()


def test_folder_that_was_not_aligned(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in" / "anna_t1ce.nii.gz", image_of("anna", 1))
    where = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(model)]
    said = refusal(["predict", *where, *QUICK, "--native"], capsys)
    assert "was not made by mmkd align or mmkd preprocess" in said
    assert "--native needs -i" in refusal(["predict", *where, *QUICK, "--native", "--output_name", "{case}_x"], capsys)
    assert not (tmp_path / "out").exists()
