"""What cannot be aligned: one line that names the case, the file and the remedy, and nothing half done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from moved_exams import itk, save
from refusals import refusal

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.phantom.case import PhantomConfig, make_brain_case
from nnunetv2_mmkd.registration import case as registration_case

SPACING = 4.0


def align(folder: Path, output: Path, *more: str) -> list[str]:
    where = ["-i", str(folder), "-o", str(output), "--reference", "t1ce"]
    return ["align", *where, "--disable_progress_bar", *more]


def image(patient: int, name: str) -> sitk.Image:
    phantom = make_brain_case(PhantomConfig(size=48), patient)
    return itk(phantom.images[name].astype(np.float32), SPACING)


@pytest.fixture(scope="module")
def images() -> dict[tuple[int, str], sitk.Image]:
    return {(patient, name): image(patient, name) for patient, name in ((0, "t1ce"), (0, "t2"), (1, "t2"))}


@pytest.fixture
def lies_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registration, which takes seconds, finds that the images lie where they are, as they do here."""
    monkeypatch.setattr(registration_case, "register", lambda *_: sitk.Euler3DTransform())


def two_dimensional(folder: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((20, 20), np.int16), np.eye(4)), folder / "a_t2.nii.gz")


def few_slices(folder: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((20, 20, 3), np.int16), np.eye(4)), folder / "a_t2.nii.gz")


def small(folder: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((40, 40, 20), np.int16), np.eye(4)), folder / "a_t2.nii.gz")


def sheared(folder: Path) -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.4
    header = nib.Nifti1Image(np.ones((9, 9, 9), np.int16), None)
    header.set_sform(affine, 1)
    header.set_qform(None, 0)
    nib.save(header, folder / "a_t2.nii.gz")


def two_truths(folder: Path) -> None:
    """sform and qform say different places."""
    header = nib.Nifti1Image(np.ones((9, 9, 9), np.int16), np.eye(4))
    header.set_sform(np.diag([1, 1, 5, 1]), 1)
    header.set_qform(np.eye(4), 1)
    nib.save(header, folder / "a_t2.nii.gz")


def no_reference(folder: Path) -> None:
    (folder / "a_t1ce.nii.gz").rename(folder / "a_t1.nii.gz")


def two_candidates(folder: Path) -> None:
    (folder / "a_t1c.nii.gz").write_bytes((folder / "a_t1ce.nii.gz").read_bytes())


def truncated(folder: Path) -> None:
    file = folder / "a_t1ce.nii.gz"
    file.write_bytes(file.read_bytes()[:-500])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (two_dimensional, "case a, t2: .*a_t2.nii.gz is two-dimensional .* Give the whole volume"),
        (few_slices, r"case a, t2: .*a_t2.nii.gz is only 3 slices \(shape \(20, 20, 3\)\)"),
        (small, r"case a, t2: .*a_t2.nii.gz is 20 mm thick along an axis \(shape \(40, 40, 20\)\)"),
        (sheared, "case a, t2: .*a_t2.nii.gz.*sheared.*repair the header"),
        (two_truths, "case a, t2: .*a_t2.nii.gz.*repair the header"),
        (no_reference, "case a has no t1ce to bring the others onto, only t1: name more with --reference"),
        (two_candidates, "case a: two files for t1ce"),
        (truncated, "case a, t1ce: .*a_t1ce.nii.gz.*get a good copy"),
    ],
)
def test_refused(
    spoil: Callable[[Path], None],
    said: str,
    images: dict[tuple[int, str], sitk.Image],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "in"
    save(folder / "a_t1ce.nii.gz", images[0, "t1ce"])
    spoil(folder)
    message = refusal(align(folder, tmp_path / "out"), capsys)
    assert pytest.RaisesExc(ValueError, match=said).matches(ValueError(message)), message
    assert not list((tmp_path / "out").glob("a"))


def test_two_patients(
    images: dict[tuple[int, str], sitk.Image],
    lies_there: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are refused with a picture; the other case is aligned; who has looked at the picture may accept them."""
    folder, output = tmp_path / "in", tmp_path / "out"
    for case, patient in (("good", 0), ("mixed", 1)):
        save(folder / f"{case}_t1ce.nii.gz", images[0, "t1ce"])
        save(folder / f"{case}_t2.nii.gz", images[patient, "t2"])
    message = refusal(align(folder, output), capsys)
    assert "1 of 2 cases were not aligned: case mixed: t2 (" in message and "as well as by chance" in message
    assert "--accept mixed" in message
    assert (output / "good" / "alignment.json").is_file() and not (output / "mixed").exists()
    assert (output / "refused" / "mixed.png").is_file()
    assert main(align(folder, output, "--accept", "mixed")) == 0
    assert (output / "mixed" / "alignment.json").is_file() and not (output / "refused" / "mixed.png").exists()


def test_what_cannot_be_registered_is_named(
    images: dict[tuple[int, str], sitk.Image],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(registration_case, "register", lambda *_: sitk.ReadImage("absent.nii"))
    for name in ("t1ce", "t2"):
        save(tmp_path / "in" / f"a_{name}.nii.gz", images[0, name])
    said = refusal(align(tmp_path / "in", tmp_path / "out"), capsys)
    assert "case a, t2: " in said and "cannot be registered (" in said and "absent.nii" in said


def test_options(images: dict[tuple[int, str], sitk.Image], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    save(folder / "a_0001.nii.gz", images[0, "t1ce"])
    named = ("--modalities", "T1", "T1ce")
    table = folder / "exams.csv"
    table.write_text("case;T1;T1Gd\nanna;;a_0001.nii.gz\n")
    for argv, said in (
        (align(folder, tmp_path / "out"), "no dataset.json says what the channels are: give their names in order"),
        (align(folder, folder, *named), "results would be mixed with input"),
        (align(tmp_path / "nowhere", tmp_path / "out"), "nowhere does not exist"),
        (align(folder, tmp_path / "out", *named, "--accept", "b"), "--accept b: no such case; there are a"),
        (align(folder, tmp_path / "out", *named, "--manifest", str(table)), "leave out --modalities and --ignore"),
        (["align", *align(folder, tmp_path / "out")[3:]], "give the input folder with -i, or a table with --manifest"),
    ):
        assert said in refusal(argv, capsys)
    assert main(align(folder, tmp_path / "out", *named)) == 0
    assert main([*align(folder, tmp_path / "table", "--manifest", str(table))]) == 0
    assert (tmp_path / "table" / "anna" / "anna_t1ce.nii.gz").is_file()
    other = [*align(folder, tmp_path / "out", *named, "--reference", "t1ce", "t1")]
    assert "made with other settings (reference: " in refusal(other, capsys)
    (folder / "a_0001.nii.gz").rename(folder / "b_0001.nii.gz")
    assert main(align(folder, tmp_path / "out", *named)) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("[ab]")) == ["b"]
