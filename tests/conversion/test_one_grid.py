"""All files of a case on one grid: reoriented without loss, rounded, or refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from brats_like import AFFINE, SHAPE, labels, write_case

from nnunetv2_mmkd.conversion.convert import convert
from nnunetv2_mmkd.editions.brats import BRATS2018
from nnunetv2_mmkd.errors import InputError

CASE = "Brats18_TCIA01_001_1"


def run(source: Path) -> Path:
    return convert(BRATS2018, [source], 501, processes=1, show_progress=False)


def canonical(path: Path) -> None:
    nib.save(nib.as_closest_canonical(nib.load(path)), path)


def turned(path: Path) -> None:
    """Axes permuted and flipped."""
    image = nib.load(path)
    nib.save(image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]])), path)


def scaled(path: Path) -> None:
    """Reoriented, with a slope: the bits of the voxels must stay."""
    image = nib.load(path)
    image.header.set_slope_inter(2, 1)
    nib.save(nib.as_closest_canonical(image), path)


def moved(mm: float) -> Callable[[Path], None]:
    def move(path: Path) -> None:
        image = nib.load(path)
        affine = image.affine + np.outer([0, 1, 0, 0], [0, 0, 0, mm])
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), affine), path)

    return move


def content(target: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Voxels and affine of all files of a data set, by name."""
    files = sorted(target.glob("*Tr/*.nii.gz"))
    return {file.name: (nib.load(file).get_fdata(), nib.load(file).affine) for file in files}


@pytest.mark.parametrize("spoil", [canonical, turned])
@pytest.mark.parametrize("which", ["seg", "t1", "t2"])
def test_a_reoriented_file_comes_out_as_the_original(
    which: str, spoil: Callable[[Path], None], tmp_path: Path, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_case(tmp_path / "src")
    expected = content(run(tmp_path / "src"))
    spoil(folder / f"{CASE}_{which}.nii.gz")
    with caplog.at_level(logging.WARNING):
        found = content(run(tmp_path / "src"))
    for name, (voxels, affine) in expected.items():
        assert (found[name][0] == voxels).all() and (found[name][1] == affine).all(), name
    assert f"case {CASE}: {CASE}_{which}.nii.gz is stored as" in caplog.text and "reoriented to LPS" in caplog.text


def test_a_reoriented_file_keeps_its_scaling(tmp_path: Path, raw: Path) -> None:
    folder = write_case(tmp_path / "src")
    before = nib.load(folder / f"{CASE}_t2.nii.gz")
    scaled(folder / f"{CASE}_t2.nii.gz")
    stored = nib.load(folder / f"{CASE}_t2.nii.gz")
    after = nib.load(run(tmp_path / "src") / "imagesTr" / f"{CASE}_0002.nii.gz")
    assert (after.affine == before.affine).all() and after.get_data_dtype() == stored.get_data_dtype()
    assert (after.get_fdata() == nib.as_closest_canonical(stored).get_fdata()[::-1, ::-1]).all()


def test_a_case_of_another_orientation_keeps_it(tmp_path: Path, raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = "Brats18_TCIA02_002_1"
    for path in write_case(tmp_path / "src").iterdir():
        canonical(path)
    write_case(tmp_path / "src", other)
    write_case(tmp_path / "src", "Brats18_TCIA02_003_1")
    with caplog.at_level(logging.WARNING):
        target = run(tmp_path / "src")
    assert f"1 case is stored as RAS ({CASE}), most as LPS" in caplog.text and "reoriented to" not in caplog.text
    image, label = (target / name for name in (f"imagesTr/{CASE}_0000.nii.gz", f"labelsTr/{CASE}.nii.gz"))
    assert nib.aff2axcodes(nib.load(image).affine) == tuple("RAS")
    assert (nib.load(image).affine == nib.load(label).affine).all()
    expected = nib.as_closest_canonical(nib.Nifti1Image(labels(), AFFINE))
    assert ((nib.load(label).get_fdata() > 0) == (expected.get_fdata() > 0)).all()
    assert (nib.load(label).affine == expected.affine).all()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            moved(30),
            r"lies up to 30 voxels away .*269.0, 0.0\] mm, expected \[0.0, 239.0.*resample .* register it",
        ),
        (moved(0.2), "lies up to 0.2 voxels away"),
        (lambda path: turn(path, 30), "lies up to 8.82 voxels away .* rotated"),
        (lambda path: turn(path, 2), "lies up to 0.594 voxels away .* rotated"),
    ],
)
@pytest.mark.parametrize("which", ["seg", "t1", "t2"])
def test_another_place_is_refused(
    which: str, spoil: Callable[[Path], None], message: str, tmp_path: Path, raw: Path
) -> None:
    path = write_case(tmp_path / "src") / f"{CASE}_{which}.nii.gz"
    spoil(path)
    with pytest.raises(InputError, match=rf"case {CASE}: .*{path.name} {message}"):
        run(tmp_path / "src")
    assert not list(raw.iterdir())


def turn(path: Path, degrees: float) -> None:
    """Turn the header, not the voxels."""
    image = sitk.ReadImage(str(path))
    turning = sitk.Euler3DTransform((0, 0, 0), 0, 0, np.radians(degrees))
    image.SetDirection(turning.GetMatrix())
    sitk.WriteImage(image, str(path))


def test_a_fourth_axis_of_length_one_goes(tmp_path: Path, raw: Path) -> None:
    folder = write_case(tmp_path / "src")
    expected = content(run(tmp_path / "src"))
    for which in ("t2", "seg"):
        image = nib.load(folder / f"{CASE}_{which}.nii.gz")
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[..., None], image.affine), image.get_filename())
    for name, (voxels, affine) in content(run(tmp_path / "src")).items():
        assert voxels.shape == SHAPE and (voxels == expected[name][0]).all() and (affine == expected[name][1]).all()
