"""``mmkd align``: sequences come onto one grid, segmentations find the way back, a second run has nothing to do."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from moved_exams import GRIDS, Moved, error, itk, mean_surface_distance, moved, read, save

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.phantom.case import PhantomConfig, make_brain_case
from nnunetv2_mmkd.registration import case as registration_case
from nnunetv2_mmkd.registration.native import write_native
from nnunetv2_mmkd.registration.records import read_record
from nnunetv2_mmkd.registration.rigid import register

SPACING = 4.0


def align(folder: Path, output: Path, *more: str) -> int:
    where = ["-i", str(folder), "-o", str(output), "--reference", "T1c"]
    return main(["align", *where, "--disable_progress_bar", *more])


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, sitk.Image, Mapping[str, Moved]]:
    """A folder with one exam of three sequences, the label on the reference's grid, and what was done to the others."""
    phantom = make_brain_case(PhantomConfig(size=48), 0)
    label = itk(phantom.seg.astype(np.uint8), SPACING)
    folder = tmp_path_factory.mktemp("exams")
    save(folder / "anna" / "anna_T1_post.nii.gz", itk(phantom.images["t1ce"].astype(np.float32), SPACING))
    others = {}
    for name in ("t2", "flair"):
        others[name] = moved(itk(phantom.images[name].astype(np.float32), SPACING), label, GRIDS[name], 3)
        save(folder / "anna" / f"anna_{name.upper()}.nii.gz", others[name].image)
    return folder, label, others


@pytest.fixture(scope="module")
def aligned(exam: tuple[Path, sitk.Image, Mapping[str, Moved]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("aligned") / "out"
    assert align(exam[0], output) == 0
    return output


def test_all_on_one_grid(exam: tuple[Path, sitk.Image, Mapping[str, Moved]], aligned: Path) -> None:
    source = exam[0] / "anna" / "anna_T1_post.nii.gz"
    reference = nib.load(source)
    assert (aligned / "anna" / "anna_t1ce.nii.gz").read_bytes() == source.read_bytes()
    for name in ("t2", "flair"):
        image = nib.load(aligned / "anna" / f"anna_{name}.nii.gz")
        assert image.shape == reference.shape and np.array_equal(image.affine, reference.affine)
        assert image.get_data_dtype() == np.int16
    assert (aligned / "anna" / "check.png").read_bytes().startswith(b"\x89PNG")


def test_transforms_are_those_of_the_motion(exam: tuple[Path, sitk.Image, Mapping[str, Moved]], aligned: Path) -> None:
    """SimpleITK reads them; they are right within a mm, where a voxel of the reference has 4."""
    record = read_record(aligned / "anna")
    for name, other in exam[2].items():
        found = sitk.ReadTransform(str(aligned / "anna" / "transforms" / f"{name}.tfm"))
        assert error(found, other.motion, exam[1]) < 1
        assert record.sequences[name].agreement > 1.3 and record.sequences[name].overlap > 0.9
    assert record.reference == "t1ce" and record.sequences["t1ce"].rotation == 0


def test_label_there_and_back(
    exam: tuple[Path, sitk.Image, Mapping[str, Moved]], aligned: Path, tmp_path: Path
) -> None:
    """The truth on the aligned grid lies, on the grid of each sequence, less than half a voxel from its truth."""
    source = exam[0] / "anna" / "anna_T1_post.nii.gz"
    truth = nib.load(source)
    label = sitk.GetArrayFromImage(exam[1]).T
    nib.save(nib.Nifti1Image(label, truth.affine), tmp_path / "anna.nii.gz")
    files = write_native(aligned, tmp_path, ["anna"])
    assert sorted(file.name for file in files) == [f"anna_{name}.nii.gz" for name in ("flair", "t1ce", "t2")]
    assert np.array_equal(read(tmp_path / "native" / "anna_t1ce.nii.gz"), label)
    for name, other in exam[2].items():
        image = nib.load(tmp_path / "native" / f"anna_{name}.nii.gz")
        own = nib.load(exam[0] / "anna" / f"anna_{name.upper()}.nii.gz")
        assert image.shape == own.shape and np.array_equal(image.affine, own.affine)
        found, expected = read(tmp_path / "native" / f"anna_{name}.nii.gz"), sitk.GetArrayFromImage(other.label).T
        spacing = tuple(map(float, own.header.get_zooms()))
        assert mean_surface_distance(found, expected, spacing) < min(spacing) / 2
        assert set(np.unique(found)) <= set(np.unique(label))


def test_a_second_run_has_nothing_to_do(
    exam: tuple[Path, sitk.Image, Mapping[str, Moved]],
    aligned: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("registered again")

    monkeypatch.setattr(registration_case, "register", never)
    before = {path: path.stat().st_mtime_ns for path in (aligned / "anna").rglob("*")}
    with caplog.at_level(logging.INFO):
        assert align(exam[0], aligned) == 0
    assert {path: path.stat().st_mtime_ns for path in (aligned / "anna").rglob("*")} == before
    assert "1 of 1 cases have been aligned before" in caplog.text and "anna: onto t1ce: t2 " in caplog.text


def test_the_same_bits_each_time(exam: tuple[Path, sitk.Image, Mapping[str, Moved]]) -> None:
    images = [
        sitk.ReadImage(str(exam[0] / "anna" / f"anna_{name}.nii.gz"), sitk.sitkFloat32) for name in ("T2", "FLAIR")
    ]
    first, second = (register(*images, ()).GetParameters() for _ in range(2))
    assert first == second


def test_a_header_that_lost_the_place(exam: tuple[Path, sitk.Image, Mapping[str, Moved]]) -> None:
    """Nothing overlaps where the headers say: the heads' centres are a start, too."""
    reference = sitk.ReadImage(str(exam[0] / "anna" / "anna_T1_post.nii.gz"), sitk.sitkFloat32)
    lost = sitk.Image(reference)
    lost.SetOrigin([each + 900 for each in reference.GetOrigin()])
    motion = sitk.Euler3DTransform()
    motion.SetTranslation((900.0, 900.0, 900.0))
    assert error(register(reference, lost, ()), motion, reference) < 0.5


def test_a_case_of_one_sequence_is_copied(tmp_path: Path) -> None:
    file = save(tmp_path / "in" / "bert_0001.nii.gz", itk(np.ones((9, 10, 11), np.float32).cumsum(0), 2.0))
    assert align(tmp_path / "in", tmp_path / "out", "--modalities", "T1", "T1ce") == 0
    assert (tmp_path / "out" / "bert" / "bert_t1ce.nii.gz").read_bytes() == file.read_bytes()
    record = json.loads((tmp_path / "out" / "bert" / "alignment.json").read_text())
    assert list(record["sequences"]) == ["t1ce"]


def test_what_lies_there_already_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image on the reference's grid that fits within a tenth of a voxel is not resampled; one that does not, is."""
    phantom = make_brain_case(PhantomConfig(size=32), 0)
    for name in ("t1ce", "t2", "flair"):
        save(tmp_path / "in" / f"anna_{name}.nii.gz", itk(phantom.images[name].astype(np.float32), 6.0))
    shifts = iter([(0.3, 0.3, 0.3), (2.0, 0.0, 0.0)])

    def known(*_: object) -> sitk.Euler3DTransform:
        transform = sitk.Euler3DTransform()
        transform.SetTranslation(next(shifts))
        return transform

    monkeypatch.setattr(registration_case, "register", known)
    assert align(tmp_path / "in", tmp_path / "out", "--accept", "anna") == 0
    kept = [
        (tmp_path / "out" / "anna" / f"anna_{name}.nii.gz").read_bytes()
        == (tmp_path / "in" / f"anna_{name}.nii.gz").read_bytes()
        for name in ("t2", "flair")
    ]
    assert kept == [True, False]
