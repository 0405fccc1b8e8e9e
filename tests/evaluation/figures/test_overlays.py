"""Overlays: slices, orientation, Dice in the CSV, files that do not fit."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from long_tables import drawn, one
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.figures.overlay import REGION_COLOURS, _header, _mark_sides, overlays
from nnunetv2_mmkd.evaluation.figures.planes import grey_range, plane_of, read_picture

REGIONS = {"WT": (1, 2), "ET": (2,)}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def volume() -> NDArray[np.uint8]:
    """WT of 8 x 8 in slice 3 and 4 x 4 in slice 5, ET of 4 x 4 in slice 3."""
    labels = np.zeros((24, 20, 8), np.uint8)
    labels[4:12, 4:12, 3] = 1
    labels[4:8, 4:8, 3] = 2
    labels[4:8, 4:8, 5] = 1
    return labels


def nifti(path: Path, voxels: NDArray, affine: NDArray = LPS) -> Path:
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


@pytest.fixture
def files(tmp_path: Path, volume: NDArray[np.uint8]) -> dict[str, Path]:
    half = volume.copy()
    half[:8, :, 3] = 0
    image = np.random.default_rng(0).random(volume.shape).astype(np.float32)
    return {
        "image": nifti(tmp_path / "image.nii.gz", image),
        "truth": nifti(tmp_path / "truth.nii.gz", volume),
        "half": nifti(tmp_path / "half.nii.gz", half),
        "empty": nifti(tmp_path / "empty.nii.gz", np.zeros_like(volume)),
    }


@pytest.mark.parametrize("style", ["fill", "contour"])
@pytest.mark.parametrize("crop", ["image", "regions"])
def test_dice_and_slice(files: dict[str, Path], style: str, crop: str, tmp_path: Path) -> None:
    predictions = {"A": {"t1": files["truth"], "t1+flair": files["half"]}, "B": {"t1": files["empty"]}}
    overlays(
        *(files["image"], files["truth"], predictions, REGIONS, tmp_path / "over.png"),
        reference_name="flair",
        case="c1",
        style=style,  # type: ignore[arg-type]
        crop=crop,  # type: ignore[arg-type]
        title="A title",
    )
    drawn(tmp_path / "over.png")
    numbers = pd.read_csv(tmp_path / "over.csv")
    assert list(numbers.columns) == ["case", "method", "subset", "region", "dice", "slice", "plane", "background"]
    assert len(numbers) == 6
    assert set(numbers["slice"]) == {3}
    assert set(numbers["plane"]) == {"axial"}
    assert one(numbers, "dice", method="A", subset="t1", region="WT") == 1
    assert one(numbers, "dice", method="A", subset="t1+flair", region="WT") == pytest.approx(2 * 48 / (80 + 48))
    assert one(numbers, "dice", method="A", subset="t1+flair", region="ET") == 0
    assert one(numbers, "dice", method="B", subset="t1", region="WT") == 0


def test_a_chosen_slice(files: dict[str, Path], tmp_path: Path) -> None:
    arguments = (files["image"], files["truth"], {"A": {"t1": files["half"]}}, REGIONS, tmp_path / "over.png")
    numbers = overlays(*arguments, reference_name="t1", slice_index=5)
    assert set(numbers["slice"]) == {5}
    with pytest.raises(InputError, match="slices 0 to 7"):
        overlays(*arguments, reference_name="t1", slice_index=8)


def test_empty_truth(files: dict[str, Path], tmp_path: Path) -> None:
    image, none = files["image"], files["empty"]
    found = overlays(image, none, {"A": {"t1": files["half"]}}, REGIONS, tmp_path / "a.png", reference_name="t1")
    assert set(found["slice"]) == {3}
    arguments = (image, none, {"A": {"t1": none}}, REGIONS, tmp_path / "b.png")
    nothing = overlays(*arguments, reference_name="t1", empty="nan")
    assert set(nothing["slice"]) == {4}
    assert nothing["dice"].isna().all()
    drawn(tmp_path / "b.png")


def test_an_ignored_label_does_not_count(tmp_path: Path, files: dict[str, Path], volume: NDArray[np.uint8]) -> None:
    truth = volume.copy()
    truth[:8, :, 3] = 9
    arguments = (files["image"], nifti(tmp_path / "ignored.nii.gz", truth), {"A": {"t1": files["half"]}}, REGIONS)
    numbers = overlays(*arguments, tmp_path / "over.png", reference_name="t1", ignored=9)
    assert one(numbers, "dice", region="WT") == 1


@pytest.mark.parametrize("axes", ["LPS", "RAS", "RAI", "PIR", "SLA"])
def test_every_orientation_looks_the_same(axes: str, tmp_path: Path) -> None:
    right_anterior = np.zeros((8, 10, 6), np.float32)
    right_anterior[6:, 8:, 4] = 1
    image = nib.Nifti1Image(right_anterior, np.eye(4))
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(axes))
    )
    nib.save(image.as_reoriented(turn), tmp_path / "image.nii.gz")
    picture = read_picture(tmp_path / "image.nii.gz")
    index = int(picture.plane.areas(picture.voxels > 0).argmax())
    page = picture.plane.slice(picture.voxels, index)
    assert page.shape == (10, 8)
    assert (np.argwhere(page) == [[0, 0], [0, 1], [1, 0], [1, 1]]).all()
    assert picture.plane.name == "axial"


def test_other_formats_have_the_orientation_of_nifti(tmp_path: Path) -> None:
    voxels = np.zeros((6, 10, 8), np.float32)
    voxels[4, :2, :2] = 1
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "image.nrrd"))
    picture = read_picture(tmp_path / "image.nrrd")
    assert picture.plane.name == "axial"
    page = picture.plane.slice(picture.voxels, 4)
    assert page.shape == (10, 8)
    assert page[:2, :2].all() and page.sum() == 4


def test_thick_slices_are_shown_in_their_plane() -> None:
    coronal = plane_of(np.diag([1.0, 8.0, 1.0]), (32, 6, 32))
    assert (coronal.axis, coronal.name, coronal.aspect) == (1, "coronal", 1.0)
    sagittal = plane_of(np.diag([8.0, 1.0, 2.0]), (6, 32, 32))
    assert (sagittal.axis, sagittal.name, sagittal.aspect) == (0, "sagittal", 2.0)
    assert plane_of(np.diag([1.0, 1.0, 2.0]), (32, 32, 1)).axis == 2


def test_two_dimensions(tmp_path: Path) -> None:
    labels = np.zeros((40, 30), np.uint8)
    labels[5:15, 5:15] = 1
    files = {}
    for name, values in (("image", labels * 100 + 50), ("truth", labels), ("prediction", labels * 0)):
        files[name] = tmp_path / f"{name}.png"
        sitk.WriteImage(sitk.GetImageFromArray(values), str(files[name]))
    regions = {"lesion": (1,)}
    arguments = (files["image"], files["truth"], {"A": {"t1": files["prediction"]}}, regions, tmp_path / "over.png")
    numbers = overlays(*arguments, reference_name="t1")
    assert one(numbers, "dice", region="lesion") == 0
    assert set(numbers["slice"]) == {0}
    drawn(tmp_path / "over.png")
    flat = nifti(tmp_path / "flat.nii.gz", labels[..., None])
    numbers = overlays(flat, flat, {"A": {"t1": flat}}, regions, tmp_path / "flat.png", reference_name="t1")
    assert one(numbers, "dice", region="lesion") == 1


def test_small_regions_lie_over_large_ones(files: dict[str, Path], tmp_path: Path) -> None:
    regions = {"ET": (2,), "WT": (1, 2)}
    arguments = (files["image"], files["truth"], {"A": {"t1": files["truth"]}}, regions, tmp_path / "over.png")
    overlays(*arguments, reference_name="t1", style="contour")
    pixels = drawn(tmp_path / "over.png")[..., :3]
    for colour in REGION_COLOURS[:2]:
        assert (np.abs(pixels - to_rgb(colour)).max(axis=-1) < 0.02).sum() > 50


def test_files_that_do_not_fit(files: dict[str, Path], tmp_path: Path, volume: NDArray[np.uint8]) -> None:
    image, truth, path = files["image"], files["truth"], tmp_path / "over.png"
    other = nifti(tmp_path / "other.nii.gz", volume[:-1])
    moved = nifti(tmp_path / "moved.nii.gz", volume, np.diag([-1.0, -1.0, 2.0, 1.0]))
    good = {"A": {"t1": truth}}
    with pytest.raises(InputError, match="does not exist"):
        overlays(image, truth, {"A": {"t1": tmp_path / "absent.nii.gz"}}, REGIONS, path, reference_name="t1")
    with pytest.raises(InputError, match="does not exist"):
        overlays(tmp_path / "absent.png", truth, good, REGIONS, path, reference_name="t1")
    with pytest.raises(InputError, match=r"other\.nii\.gz has shape .* resample"):
        overlays(other, truth, good, REGIONS, path, reference_name="t1")
    with pytest.raises(InputError, match=r"moved\.nii\.gz .* resample"):
        overlays(image, truth, {"A": {"t1": moved}}, REGIONS, path, reference_name="t1")
    with pytest.raises(InputError, match="at least one"):
        overlays(image, truth, {"A": {}}, REGIONS, path, reference_name="t1")
    with pytest.raises(InputError, match="at least one"):
        overlays(image, truth, good, {}, path, reference_name="t1")
    with pytest.raises(InputError, match="'fill' or 'contour'"):
        overlays(image, truth, good, REGIONS, path, reference_name="t1", style="dots")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"ends in \.png"):
        overlays(image, truth, good, REGIONS, tmp_path / "over.svg", reference_name="t1")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError, match="cannot be read"):
        overlays(tmp_path / "text.png", truth, good, REGIONS, path, reference_name="t1")
    assert not path.exists()


def test_columns_are_named_by_what_is_missing() -> None:
    names = ("t1", "t1ce", "t2", "flair")
    heads = {subset: _header(subset, names).replace("\n", " ") for subset in ("t1+t1ce+t2+flair", "t1+t2", "flair")}
    assert list(heads.values()) == ["nothing missing", "T1ce, FLAIR missing", "FLAIR alone: T1, T1ce, T2 missing"]


@pytest.mark.parametrize(("plane", "marks"), [("axial", ["R", "L"]), ("sagittal", ["A", "P"]), ("", [])])
def test_sides_are_marked(plane: str, marks: list[str]) -> None:
    ax = Figure().subplots()
    _mark_sides(ax, plane)
    assert [text.get_text() for text in ax.texts] == marks


def test_brightness(files: dict[str, Path], tmp_path: Path) -> None:
    voxels = np.linspace(1, 1000, 4000).reshape(20, 20, 10)
    low, high = grey_range(voxels, 1)
    assert 900 < high < 1000 and 0 <= low < 5
    assert grey_range(voxels, 2) == pytest.approx((low, low + (high - low) / 2))
    with pytest.raises(InputError, match="brightness 0"):
        overlays(
            *(files["image"], files["truth"], {"A": {"t1": files["truth"]}}, REGIONS, tmp_path / "over.png"),
            reference_name="t1",
            brightness=0,
        )
