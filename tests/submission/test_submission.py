"""Submission: round trip from the source labels, headers, the archive, and what is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from brats_like import AFFINE, SHAPE, labels, save, write_case

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.conversion.convert import convert
from nnunetv2_mmkd.editions.brats import BRATS2018
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.submission.check import check_submission
from nnunetv2_mmkd.submission.write import write_submission

CASES = ("Brats18_CBICA_AAM_1", "Brats18_TCIA01_001_1")


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    """Two cases, with unlike qform and sform codes and file endings; the first lacks its T1."""
    write_case(tmp_path / "src", CASES[0], seed=0, missing=["t1"], qform=2, sform=1)
    write_case(tmp_path / "src", CASES[1], seed=1, ending=".nii", qform=0, sform=2)
    return tmp_path / "src"


@pytest.fixture
def predictions(tmp_path: Path, originals: Path, raw: Path) -> Path:
    """The ground truth in nnU-Net's labels, as nnU-Net would name it."""
    target = convert(BRATS2018, [originals], 501, processes=1, show_progress=False)
    shutil.copytree(target / "labelsTr", tmp_path / "predictions")
    (tmp_path / "predictions" / "plans.json").write_text("{}")
    return tmp_path / "predictions"


def submit(predictions: Path, originals: Path, out: Path, **options: object) -> Path:
    return write_submission(BRATS2018, predictions, [originals], out, **{"show_progress": False, **options})


def test_round_trip(predictions: Path, originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["-i", str(predictions), "-ref", str(originals), "-o", str(out), "--zip", "mine.zip"]
    assert main(["submit", "brats2018", *arguments, "--disable_progress_bar"]) == 0
    with zipfile.ZipFile(out / "mine.zip") as archive:
        assert sorted(archive.namelist()) == [f"{case}.nii.gz" for case in CASES]
        archive.extractall(tmp_path / "unpacked")
    for seed, case in enumerate(CASES):
        assert (out / f"{case}.nii.gz").read_bytes() == (tmp_path / "unpacked" / f"{case}.nii.gz").read_bytes()
        written = nib.load(tmp_path / "unpacked" / f"{case}.nii.gz")
        first = next(path for path in sorted(originals.glob(f"{case}/*_t1*")))
        header, original = written.header, nib.load(first).header
        assert np.array_equal(np.asanyarray(written.dataobj), labels(seed))
        assert header.get_data_dtype() == np.uint8 and header["bitpix"] == 8
        for field in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units"):
            assert np.array_equal(header[field], original[field]), field
        for field in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
            assert np.array_equal(header[field], original[field]), field
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (3, 2)])
def test_codes_and_scaling_of_the_original(codes: tuple[int, int], tmp_path: Path) -> None:
    folder = write_case(tmp_path / "src", CASES[0], label=False, qform=codes[0], sform=codes[1])
    scaled = nib.load(folder / f"{CASES[0]}_t1.nii.gz")
    scaled.header.set_slope_inter(0.5, 10)
    nib.save(scaled, folder / f"{CASES[0]}_t1.nii.gz")
    affine = nib.load(folder / f"{CASES[0]}_t1.nii.gz").affine
    save(tmp_path / "predictions" / f"{CASES[0]}.nii.gz", np.full(SHAPE, 3, np.float32), affine)
    submit(tmp_path / "predictions", tmp_path / "src", tmp_path / "out")
    written = nib.load(tmp_path / "out" / f"{CASES[0]}.nii.gz")
    assert (written.header["qform_code"], written.header["sform_code"]) == codes
    assert np.array_equal(written.affine, affine)
    assert set(np.asanyarray(written.dataobj).ravel()) == {4}


def test_foreign_labels(predictions: Path, originals: Path, tmp_path: Path) -> None:
    save(predictions / f"{CASES[0]}.nii.gz", np.full(SHAPE, 4, np.uint8))
    with pytest.raises(InputError, match=rf"labels other than 0, 1, 2, 3: {CASES[0]}.nii.gz \(4\)"):
        submit(predictions, originals, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_geometry(predictions: Path, originals: Path, tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] = 7
    save(predictions / f"{CASES[0]}.nii.gz", labels(), moved)
    save(predictions / f"{CASES[1]}.nii.gz", labels(shape=(14, 12, 11)))
    with pytest.raises(InputError, match="2 predictions whose geometry") as error:
        submit(predictions, originals, tmp_path / "out")
    assert f"{CASES[0]}.nii.gz lies up to 7 voxels away" in str(error.value)
    assert f"{CASES[1]}.nii.gz has shape (14, 12, 11), but {CASES[1]}_t1.nii has (14, 12, 10)" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_flipped_prediction_is_turned_back(
    predictions: Path, originals: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = zipfile.ZipFile(submit(predictions, originals, tmp_path / "out"))
    file = predictions / f"{CASES[0]}.nii.gz"
    nib.save(nib.as_closest_canonical(nib.load(file)), file)
    found = zipfile.ZipFile(submit(predictions, originals, tmp_path / "new"))
    assert [found.read(name) for name in found.namelist()] == [expected.read(name) for name in expected.namelist()]
    assert f"{file.name} is stored as RAS" in caplog.text


def test_unknown_and_missing_cases(predictions: Path, originals: Path, tmp_path: Path) -> None:
    shutil.copy(predictions / f"{CASES[0]}.nii.gz", predictions / "Brats18_X_9.nii.gz")
    with pytest.raises(InputError, match=r"1 predictions that match no original case: Brats18_X_9.nii.gz"):
        submit(predictions, originals, tmp_path / "out")
    (predictions / "Brats18_X_9.nii.gz").unlink()
    (predictions / f"{CASES[1]}.nii.gz").unlink()
    with pytest.raises(InputError, match=rf"have no prediction \(--allow_missing leaves them out\): {CASES[1]}"):
        submit(predictions, originals, tmp_path / "out")
    archive = submit(predictions, originals, tmp_path / "out", allow_missing=True)
    assert zipfile.ZipFile(archive).namelist() == [f"{CASES[0]}.nii.gz"]
    with pytest.raises(InputError, match=f"cases without a file: {CASES[1]}"):
        check_submission(BRATS2018, archive, [originals])


def test_broken_prediction_and_bad_folders(predictions: Path, originals: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        submit(tmp_path / "nowhere", originals, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no predictions"):
        submit(tmp_path / "empty", originals, tmp_path / "out")
    with pytest.raises(InputError, match="which is read"):
        submit(predictions, originals, predictions)
    with pytest.raises(InputError, match="which is read"):
        submit(predictions, originals, next(originals.rglob(CASES[0])))
    with pytest.raises(InputError, match="without folders"):
        submit(predictions, originals, tmp_path / "out", zip_name="../x.zip")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*a file is where a folder is needed"):
        submit(predictions, originals, tmp_path / "file")
    path = predictions / f"{CASES[0]}.nii.gz"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=rf"{CASES[0]}.nii.gz: cannot be read"):
        submit(predictions, originals, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_old_archive_does_not_survive_a_failure(
    predictions: Path, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = submit(predictions, originals, tmp_path / "out")
    monkeypatch.setattr(
        "nnunetv2_mmkd.submission.write.nifti.image_bytes",
        lambda voxels, like: nib.Nifti1Image(voxels, np.eye(4)).to_bytes(),
    )
    with pytest.raises(InputError, match=r"files that differ from what the platform expects.*affine"):
        submit(predictions, originals, tmp_path / "out")
    assert not archive.exists() and not list(archive.parent.glob(".*"))


@pytest.mark.parametrize(
    ("voxels", "name", "message"),
    [
        (labels().astype(np.int16), f"{CASES[0]}.nii.gz", "voxel type int16, expected uint8"),
        (np.full(SHAPE, 3, np.uint8), f"{CASES[0]}.nii.gz", r"labels \[3\]"),
        (labels(shape=(14, 12, 11)), f"{CASES[0]}.nii.gz", "shape"),
        (labels(), f"folder/{CASES[0]}.nii.gz", "match no original case"),
    ],
)
def test_check_finds_what_is_wrong(
    voxels: np.ndarray, name: str, message: str, originals: Path, tmp_path: Path
) -> None:
    path = save(tmp_path / "x.nii.gz", voxels, qform=2, sform=1)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.write(path, name)
    with pytest.raises(InputError, match=message):
        check_submission(BRATS2018, tmp_path / "bad.zip", [originals], allow_missing=True)


def test_check_of_what_is_no_archive(originals: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read as a zip"):
        check_submission(BRATS2018, tmp_path / "bad.zip", [originals])


SWAPPED = {"background": 0, "NCR": 1, "ED": 2, "ET": 3}


def test_labels_are_matched_by_name(
    predictions: Path, originals: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for case in CASES:
        image = nib.load(predictions / f"{case}.nii.gz")
        own = np.array([0, 2, 1, 3])[np.asanyarray(image.dataobj)]  # as SWAPPED says
        save(predictions / f"{case}.nii.gz", own.astype(np.uint8), image.affine)
    (predictions / "dataset.json").write_text(json.dumps({"labels": SWAPPED}))
    submit(predictions, originals, tmp_path / "out")
    for seed, case in enumerate(CASES):
        written = nib.load(tmp_path / "out" / f"{case}.nii.gz")
        assert np.array_equal(np.asanyarray(written.dataobj), labels(seed))
    assert "labels of BraTS 2018 by name: 1 -> 2, 2 -> 1" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"labels": {"background": 0, "lesion": 1}}', "dataset.json: the label 'lesion' is unknown"),
        ('{"labels": ["a"]}', "dataset.json: 'labels' is a list"),
        ("[]", "dataset.json is a list"),
    ],
)
def test_labels_that_are_not_the_editions(
    predictions: Path, originals: Path, tmp_path: Path, content: str, message: str
) -> None:
    (predictions / "dataset.json").write_text(content)
    with pytest.raises(InputError, match=message):
        submit(predictions, originals, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [f"{CASES[0]}.nii.gz.part", f"{CASES[0]}.NII.gz.crdownload", f"{CASES[0]} (1).mgz"])
def test_a_prediction_is_not_absent_by_its_name(predictions: Path, originals: Path, tmp_path: Path, name: str) -> None:
    (predictions / f"{CASES[0]}.nii.gz").rename(predictions / name)
    with pytest.raises(InputError, match=f"looks like {CASES[0]}.nii.gz"):
        submit(predictions, originals, tmp_path / "out", allow_missing=True)


def test_a_prediction_that_is_not_compressed(predictions: Path, originals: Path, tmp_path: Path) -> None:
    nib.save(nib.load(predictions / f"{CASES[1]}.nii.gz"), predictions / f"{CASES[1]}.nii")
    for case in CASES:
        (predictions / f"{case}.nii.gz").unlink()
    submit(predictions, originals, tmp_path / "out", allow_missing=True)
    assert np.array_equal(np.asanyarray(nib.load(tmp_path / "out" / f"{CASES[1]}.nii.gz").dataobj), labels(1))
