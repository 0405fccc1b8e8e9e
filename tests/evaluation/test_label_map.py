"""Reading segmentations: NIfTI and what SimpleITK reads, and what is refused."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.label_map import read_grid, read_label_map
from nnunetv2_mmkd.geometry import align

LABELS = np.arange(24).reshape(2, 3, 4) % 3
AFFINE = np.array([[-1.0, 0, 0, 10], [0, -2.0, 0, 20], [0, 0, 3.0, 30], [0, 0, 0, 1]])


def nifti(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def itk(path: Path, values: np.ndarray, *, vector: bool = False) -> Path:
    image = sitk.GetImageFromArray(values, isVector=vector)
    if not vector and values.ndim == 3:
        image.SetSpacing((1.0, 2.0, 3.0))
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti(tmp_path: Path, dtype: str, ending: str) -> None:
    found = read_label_map(nifti(tmp_path / f"a{ending}", LABELS.astype(dtype)), {0, 1, 2})
    assert found.values.dtype == np.int64 and (found.values == LABELS).all()
    assert found.spacing == (1.0, 2.0, 3.0) and (found.grid.affine == AFFINE).all()


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_other_format_has_its_axes_turned_round(tmp_path: Path, ending: str, dtype: str) -> None:
    found = read_label_map(itk(tmp_path / f"a{ending}", LABELS.astype(dtype)))
    assert (found.values == LABELS).all() and found.spacing == (3.0, 2.0, 1.0)


def test_pictures_are_two_dimensional(tmp_path: Path) -> None:
    flat = read_label_map(itk(tmp_path / "a.png", LABELS[0].astype("uint8")))
    assert (flat.values == LABELS[0]).all() and len(flat.spacing) == 2
    assert read_label_map(itk(tmp_path / "b.mha", LABELS[:1].astype("uint8"))).spacing == (2.0, 1.0)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "flat.mha", "a.png"])
def test_grid_without_voxels_is_that_of_the_whole(tmp_path: Path, name: str) -> None:
    if name.endswith(".nii.gz"):
        path = nifti(tmp_path / name, LABELS.astype("uint8"))
    else:
        values = LABELS[:1] if name == "flat.mha" else LABELS[0] if name == "a.png" else LABELS
        path = itk(tmp_path / name, values.astype("uint8"))
    grid, whole = read_grid(path), read_label_map(path)
    assert grid.shape == whole.grid.shape and (grid.affine == whole.grid.affine).all()
    assert align(grid, whole.grid).same and whole.on_grid_of(whole) is whole


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.where(LABELS == 2, np.nan, 0.0), "a.nii.gz: 8 voxels are NaN"),
        (LABELS * 0.37, "a.nii.gz: label value 0.37 is not a whole number; expected labels, not probabilities"),
        (np.where(LABELS == 2, 4, LABELS), "a.nii.gz: holds the label 4; this data set has 0, 1, 2"),
        (np.where(LABELS == 2, -1, LABELS), "a.nii.gz: holds the label -1"),
        (np.stack([LABELS, LABELS], -1), "expected a 3-D image"),
    ],
)
def test_bad_values(tmp_path: Path, values: np.ndarray, message: str) -> None:
    path = nifti(tmp_path / "a.nii.gz", values.astype("float32"))
    with pytest.raises(InputError, match=message):
        read_label_map(path, {0, 1, 2})


def test_bad_files(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii.gz", LABELS.astype("uint8"))
    whole = path.read_bytes()
    for size in (len(whole) - 9, 20, 0):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"a\.nii\.gz: cannot be read"):
            read_label_map(path)
    (tmp_path / "a.mha").write_text("nothing")
    for read in (read_label_map, read_grid):
        with pytest.raises(InputError, match=r"b\.nii\.gz does not exist"):
            read(tmp_path / "b.nii.gz")
        with pytest.raises(InputError, match=r"a\.mha: cannot be read"):
            read(tmp_path / "a.mha")


def test_bad_values_in_other_formats(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.mha: label value 0\.[48] is not a whole number"):
        read_label_map(itk(tmp_path / "a.mha", (LABELS * 0.4).astype("float32")))
    with pytest.raises(InputError, match=r"a\.mha: 8 voxels are NaN"):
        read_label_map(itk(tmp_path / "a.mha", np.where(LABELS == 1, np.nan, 0).astype("float32")))
    with pytest.raises(InputError, match=r"a\.png: has 3 values per voxel"):
        read_label_map(itk(tmp_path / "a.png", np.zeros((4, 5, 3), "uint8"), vector=True))


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_a_flipped_label_map_is_turned_back(tmp_path: Path, ending: str) -> None:
    truth = tmp_path / f"truth{ending}"
    sitk.WriteImage(sitk.ReadImage(str(nifti(tmp_path / "a.nii.gz", LABELS.astype("uint8")))), str(truth))
    sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(truth)), "PIR"), str(tmp_path / f"turned{ending}"))
    true, turned = read_label_map(truth), read_label_map(tmp_path / f"turned{ending}")
    assert turned.values.shape != true.values.shape
    back = turned.on_grid_of(true)
    assert (back.values == true.values).all() and back.spacing == true.spacing


def test_another_grid_is_refused(tmp_path: Path) -> None:
    truth = read_label_map(nifti(tmp_path / "truth.nii.gz", LABELS.astype("uint8")))
    near = AFFINE.copy()
    near[0, 3] += 0.09
    read_label_map(nifti(tmp_path / "near.nii.gz", LABELS.astype("uint8"), near)).on_grid_of(truth)
    for what, values, affine in (
        (r"has shape \(2, 3, 3\), but truth\.nii\.gz has \(2, 3, 4\)", LABELS[:, :, :3], AFFINE),
        (r"has voxel size \[1\.0, 2\.0, 6\.0\] mm, but", LABELS, AFFINE @ np.diag([1, 1, 2, 1])),
        (r"up to 1 voxels away", LABELS, AFFINE + np.outer([1, 0, 0, 0], [0, 0, 0, 1])),
    ):
        other = read_label_map(nifti(tmp_path / "other.nii.gz", values.astype("uint8"), affine))
        with pytest.raises(InputError, match=rf"other\.nii\.gz .*{what}.*resample"):
            other.on_grid_of(truth)
    flat = read_label_map(itk(tmp_path / "flat.png", LABELS[0].astype("uint8")))
    with pytest.raises(InputError, match="shape"):
        flat.on_grid_of(truth)
