"""A case in a page: what is measured, what is drawn, and what is said of what is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_mmkd.evaluation.page.case_view import CaseFiles, CaseView, case_bytes, view_case, view_cases
from nnunetv2_mmkd.evaluation.page.pictures import decoded, total_size

REGIONS = {"WT": (1, 2), "ET": (2,)}
SPACING = (1.0, 1.5, 2.0)
RAS = np.diag([*SPACING, 1.0])
SHAPE = (40, 36, 20)


def labels() -> np.ndarray:
    volume = np.zeros(SHAPE, np.uint8)
    volume[25:35, 5:15, 8:14] = 1
    volume[28:31, 8:11, 9:12] = 2
    return volume


def image() -> np.ndarray:
    volume = np.zeros(SHAPE, np.float32)
    volume[4:-4, 4:-4, 2:-2] = np.linspace(100, 300, 32)[:, None, None]
    return volume


def save(file: Path, volume: np.ndarray, affine: np.ndarray = RAS) -> Path:
    nib.save(nib.Nifti1Image(volume, affine), file)
    return file


@pytest.fixture
def files(tmp_path: Path) -> CaseFiles:
    """A case with an image, truth and prediction."""
    return CaseFiles(
        "case",
        {"t1": save(tmp_path / "t1.nii.gz", image()), "t1ce": "no file"},
        {"all images": save(tmp_path / "seg.nii.gz", np.roll(labels(), 2, 0))},
        save(tmp_path / "truth.nii.gz", labels()),
        given={"all images": ("t1ce",)},
    )


def images(view: CaseView) -> dict[str, tuple[bool, str]]:
    return {each["name"]: (each["source"] is not None, each["missing"]) for each in view.viewer["images"]}


def tile(view: CaseView, source: str) -> np.ndarray:
    """The slice that is shown first, of a mask its opacity."""
    number, (width, height), across = (view.viewer[name] for name in ("start", "size", "across"))
    picture = decoded(source)
    values = np.asarray(picture.getchannel("A") if picture.mode == "RGBA" else picture.convert("L"))
    return values[number // across * height :, number % across * width :][:height, :width]


def test_volumes_are_in_millilitres(files: CaseFiles) -> None:
    view = view_case(files, REGIONS, 10**6)
    assert view.unit == "ml" and not view.problems
    for name in ("", "all images"):
        assert view.volumes[name] == pytest.approx({"WT": 600 * 3 / 1000, "ET": 27 * 3 / 1000})


def test_what_is_drawn_is_the_slice_as_overlays_show_it(files: CaseFiles) -> None:
    """The patient's left (great x in RAS) is at the right of the page, anterior (great y) above."""
    view = view_case(files, REGIONS, 10**6)
    truth, predicted = view.viewer["truth"], view.viewer["predictions"][0]["masks"]
    assert view.viewer["sides"] == "RL" and view.viewer["plane"] == "axial"
    assert view.viewer["slices"][view.viewer["start"]] in range(8, 14)
    assert view.viewer["aspect"] == pytest.approx(1.5)
    rows, columns = np.nonzero(tile(view, truth[0]))
    height, width = tile(view, truth[0]).shape
    assert len(rows) == 100 and columns.max() - columns.min() == 9
    assert np.unique(tile(view, truth[0])).tolist() == [0, 255]
    moved = np.nonzero(tile(view, predicted[0]))[1]
    grey = tile(view, view.viewer["images"][0]["source"]).astype(int)
    bright, dark = grey[height // 2, :6].max(), grey[height // 2, -6:].max()
    # in RAS x grows to the right, and the patient's right is at the left: so are the mask and the bright side
    assert columns.mean() < width / 2 and moved.mean() == columns.mean() - 2 and bright > 200 > 100 > dark > 0
    assert rows.mean() > height / 2  # little y is posterior


def test_what_is_missing_is_named_and_never_painted(files: CaseFiles) -> None:
    view = view_case(files, REGIONS, 10**6)
    assert images(view) == {"T1": (True, ""), "T1ce": (False, "no file")}
    assert view.viewer["predictions"][0]["lacked"] == ["T1"]


@pytest.mark.parametrize(
    ("spoil", "missing", "problem"),
    [
        (lambda file: file.unlink(), "image not found", "T1: t1.nii.gz does not exist"),
        (lambda file: save(file, np.zeros(SHAPE, np.float32)), "all zero", ""),
        (lambda file: file.write_bytes(file.read_bytes()[:-30]), "cannot be shown", "T1: t1.nii.gz"),
        (lambda file: save(file, image()[:-1]), "cannot be shown", "T1: t1.nii.gz has shape (39, 36, 20)"),
    ],
)
def test_the_segmentation_stands_without_its_image(
    files: CaseFiles, spoil: Callable[[Path], object], missing: str, problem: str
) -> None:
    spoil(Path(files.images["t1"]))
    view = view_case(files, REGIONS, 10**6)
    assert images(view)["T1"] == (False, missing)
    assert bool(view.problems) == bool(problem) and "".join(view.problems).startswith(problem)
    assert str(files.truth.parent if files.truth else "") not in "".join(view.problems)  # pages are sent around
    assert np.count_nonzero(tile(view, view.viewer["truth"][0])) == 100
    assert view.volumes["all images"]["WT"] == pytest.approx(1.8)


def test_a_segmentation_that_is_gone_is_said(files: CaseFiles) -> None:
    files.predictions["all images"].unlink()
    view = view_case(files, REGIONS, 10**6)
    assert view.problems == ("all images: seg.nii.gz does not exist",) and list(view.volumes) == [""]
    assert view.viewer["predictions"] == []
    files.truth.unlink()  # type: ignore[union-attr]
    assert view_case(files, REGIONS, 10**6).viewer == {}


def test_an_image_of_another_orientation_is_turned(files: CaseFiles) -> None:
    before = view_case(files, REGIONS, 10**6)
    turned = RAS @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, -1, 0, SHAPE[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    save(Path(files.images["t1"]), image()[::-1, ::-1], turned)
    assert nib.aff2axcodes(turned) == ("L", "P", "S")
    after = view_case(files, REGIONS, 10**6)
    assert after.viewer["images"][0]["source"] == before.viewer["images"][0]["source"]


@pytest.mark.parametrize("ending", [".mha", ".nrrd", ".png"])
def test_other_formats(tmp_path: Path, ending: str) -> None:
    seg, grey = labels().transpose(), image().transpose()
    if ending == ".png":
        seg, grey = seg[10], grey[10].astype(np.uint8)
    for name, volume in (("seg", seg), ("t1", grey)):
        sitk.WriteImage(sitk.GetImageFromArray(volume), str(tmp_path / (name + ending)))
    files = CaseFiles("case", {"t1": tmp_path / f"t1{ending}"}, {"all": tmp_path / f"seg{ending}"})
    view = view_case(files, REGIONS, 10**6)
    flat = ending == ".png"
    assert (view.unit, view.volumes["all"]["WT"]) == (("px", 100.0) if flat else ("ml", pytest.approx(0.6)))
    assert images(view) == {"T1": (True, "")} and view.viewer["depth"] == (1 if flat else 20)
    assert np.count_nonzero(tile(view, view.viewer["predictions"][0]["masks"][0])) == 100


def test_a_case_keeps_to_its_budget(files: CaseFiles) -> None:
    save(Path(files.images["t1"]), np.random.default_rng(0).normal(100, 20, SHAPE).astype(np.float32))
    sizes = {}
    for budget in (40_000, 8_000):
        viewer = view_case(files, REGIONS, budget).viewer
        sources = [viewer["images"][0]["source"], *viewer["truth"], *viewer["predictions"][0]["masks"]]
        sizes[len(viewer["slices"])] = total_size(sources)
        assert total_size(sources) <= budget
    assert len(sizes) == 2 and max(sizes) <= 20
    assert 100 * case_bytes(100) < 50e6 * 0.91 and case_bytes(1) == case_bytes(2) < 2e6


def test_only_volumes_of_cases_that_are_not_drawn(files: CaseFiles) -> None:
    not_drawn = CaseFiles("other", files.images, files.predictions, files.truth, drawn=False)
    first, second = view_cases([files, not_drawn], REGIONS)
    assert second.viewer == {} and second.volumes == first.volumes and first.viewer
