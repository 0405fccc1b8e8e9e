"""Editions that are no folders of NIfTI files on one grid: other formats, names, grids, and files of several images."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from brats_like import AFFINE, SHAPE, save
from edition_fixtures import write

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.conversion.convert import convert
from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.editions.discover import discover
from nnunetv2_mmkd.editions.recognise import recognise
from nnunetv2_mmkd.errors import InputError

COARSE = AFFINE @ np.diag([2.0, 2.0, 1.0, 1.0])
COARSE[:3, 3] += [0.5, -0.5, 0.25]
MNI = "_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI"


def wave(affine: np.ndarray, shape: tuple[int, ...], high: float = 500.0) -> np.ndarray:
    """A smooth function of the place in mm, sampled on a grid."""
    places = np.einsum("ij,j...->i...", affine[:3, :3], np.indices(shape)) + affine[:3, 3].reshape(3, 1, 1, 1)
    return high + 100 * np.sin(places[0] / 6) + 80 * np.cos(places[1] / 7) + 5 * places[2]


def label(*values: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    voxels = np.zeros(shape, np.uint8)
    for number, value in enumerate(values):
        voxels[2 + 2 * number : 4 + 2 * number, 2:10, 2:8] = value
    return voxels


def mha(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """What SimpleITK makes of the same NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = save(path.with_name("x.nii"), voxels, affine)
    sitk.WriteImage(sitk.ReadImage(str(plain)), str(path), True)
    plain.unlink()
    return path


def isles(root: Path, raw: bool = False) -> None:
    case = "sub-strokecase0001_ses-0001"
    kinds = {"FLAIR": "anat", "dwi": "dwi", "adc": "dwi"}
    for number, kind in ((number, kind) for number in (1, 2) for kind in kinds):
        name, folder = case.replace("0001_", f"000{number}_"), f"sub-strokecase000{number}/ses-0001"
        place = root / ("rawdata" if raw else "ISLES-2022") / folder / ("" if raw else kinds[kind])
        affine, shape = (COARSE, (7, 7, 10)) if kind == "FLAIR" else (AFFINE, SHAPE)
        save(place / f"{name}_{kind.lower() if raw else kind}.nii.gz", wave(affine, shape).astype(np.float32), affine)
        (place / f"{name}_{kind}.json").write_text("{}")
    place = root / "derivatives" / "sub-strokecase0001" / "ses-0001"
    save(place / f"{case}_msk.nii.gz", label(1))
    (place / f"{case}_snp.png").write_bytes(b"png")


def picai(root: Path) -> None:
    for study, kinds in (("1000000", ("t2w", "adc", "hbv", "sag")), ("1000001", ("t2w", "hbv"))):
        for kind in kinds:
            affine, shape = (AFFINE, SHAPE) if kind == "t2w" else (COARSE, (7, 7, 10))
            mha(root / f"images/10000/10000_{study}_{kind}.mha", wave(affine, shape).astype(np.int16), affine)
    labels = root / "picai_labels/csPCa_lesion_delineations/human_expert"
    save(labels / "resampled" / "10000_1000000.nii.gz", label(2, 3, 5))
    save(labels / "original" / "10000_1000000.nii.gz", label(4, shape=(7, 7, 10)), COARSE)
    save(root / "picai_labels/anatomical_delineations/whole_gland/AI/Bosma22b/10000_1000001.nii.gz", label(1))


def prostate(root: Path) -> None:
    both = np.stack([wave(AFFINE, SHAPE), wave(AFFINE, SHAPE, 900)], axis=-1).astype(np.float32)
    for folder, case in (("imagesTr", "prostate_00"), ("imagesTs", "prostate_03")):
        save(root / "Task05_Prostate" / folder / f"{case}.nii.gz", both)
        (root / "Task05_Prostate" / folder / f"._{case}.nii.gz").write_bytes(b"AppleDouble")
    save(root / "Task05_Prostate" / "labelsTr" / "prostate_00.nii.gz", label(1, 2))
    (root / "Task05_Prostate" / "dataset.json").write_text("{}")


def multiple_sclerosis(root: Path, name: str = "{}", truth: str = "consensus_gt") -> None:
    for case, kinds in (("patient01", ("T1W", "T1WKS", "T2W", "FLAIR")), ("patient02", ("T1W", "FLAIR"))):
        place = root / "cross_sectional" / case
        for kind in kinds:
            save(place / f"{name.format(kind, case=case)}.nii.gz", wave(AFFINE, SHAPE).astype(np.float32))
        save(place / f"{truth.format(case=case)}.nii.gz", label(1).astype(np.float32))
        save(place / "brainmask.nii.gz", label(1))
        (place / "T1W_to_FLAIR.txt").write_text("1 0 0 0")


def mni(root: Path) -> None:
    multiple_sclerosis(root, "{}" + MNI, "GOLD_STANDARD_N4_noneck_reduced_winsor_regtoFLAIR_regtoMNI")
    for path in root.rglob(f"*{MNI}.nii.gz"):
        path.rename(path.with_name(path.name.replace("T1WKS", "T1POST").replace("1W", "1").replace("2W", "2")))


LAYOUTS: dict[str, tuple[str, Callable[[Path], None], dict[str, list[str]], dict[str, list[int]]]] = {
    # edition, files, missing modalities of each case, labels of each training case
    "ISLES": (
        "isles2022", isles, {"sub-strokecase0001_ses-0001": [], "sub-strokecase0002_ses-0001": []},
        {"sub-strokecase0001_ses-0001": [0, 1]},
    ),
    "ISLES as in its repository": (
        "isles2022", lambda root: isles(root, raw=True),
        {"sub-strokecase0001_ses-0001": [], "sub-strokecase0002_ses-0001": []},
        {"sub-strokecase0001_ses-0001": [0, 1]},
    ),
    "PI-CAI": ("picai", picai, {"10000_1000000": [], "10000_1000001": ["adc"]}, {"10000_1000000": [0, 1]}),
    "MSD": ("msd-prostate", prostate, {"prostate_00": [], "prostate_03": []}, {"prostate_00": [0, 1, 2]}),
    "MS": (
        "open-ms", multiple_sclerosis, {"patient01": [], "patient02": ["t1ce", "t2"]},
        {"patient01": [0, 1], "patient02": [0, 1]},
    ),
    "MS, original archive": (
        "open-ms", lambda root: multiple_sclerosis(root, "{case}_{}", "{case}_consensus_gt"),
        {"patient01": [], "patient02": ["t1ce", "t2"]}, {"patient01": [0, 1], "patient02": [0, 1]},
    ),
    "MS in MNI space": (
        "open-ms", mni, {"patient01": [], "patient02": ["t1ce", "t2"]}, {"patient01": [0, 1], "patient02": [0, 1]},
    ),
}  # fmt: skip


def run(edition: str, *sources: Path) -> Path:
    spec = EDITIONS[edition]
    return convert(spec, sources, spec.dataset_id, processes=1, show_progress=False)


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout(layout: str, tmp_path: Path, raw: Path) -> None:
    edition, make, missing, labels = LAYOUTS[layout]
    make(tmp_path / "src")
    spec = recognise([tmp_path / "src"]).spec
    assert spec.name == edition
    target = run(edition, tmp_path / "src")
    content = json.loads((target / "dataset.json").read_text())
    assert content["missing_modalities"] == {case: names for case, names in missing.items() if names}
    assert content["numTraining"] == len(labels)
    assert content["labels"] == {"background": 0, **spec.classes} and "regions_class_order" not in content
    found = {path.name.split(".")[0]: np.unique(voxels(path)).tolist() for path in (target / "labelsTr").iterdir()}
    assert found == labels
    for case in missing:
        images = [
            target / ("imagesTr" if case in labels else "imagesTs") / f"{case}_{index:04d}.nii.gz"
            for index in range(len(spec.channels))
        ]
        for channel, path in zip(spec.channels, images, strict=True):
            assert voxels(path).shape == SHAPE and np.allclose(nib.load(path).affine, AFFINE)
            assert voxels(path).any() == (channel.name not in missing[case])
    patients = {entry["patient"] for entry in json.loads((target / "case_map.json").read_text()).values()}
    assert len(patients) == (1 if edition == "picai" else len(missing))


def test_the_command_says_what_is_resampled(
    tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    picai(tmp_path / "src")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.mha")}
    with caplog.at_level(logging.INFO):
        assert main(["convert", "picai", str(tmp_path / "src"), "-np", "1", "--disable_progress_bar"]) == 0
    assert {path: path.read_bytes() for path in before} == before
    how = "cubic B-splines, by the headers; nothing is registered"
    assert f"resampled onto the grid of the T2 ({how}): ADC of 1 cases, HBV of 2 cases" in caplog.messages
    for folder in ("Bosma22b", "original"):
        assert f"{folder}: not taken for labels of PI-CAI, which lie in a folder named" in caplog.text
    entries = json.loads((raw / "Dataset530_PICAI" / "case_map.json").read_text())
    assert entries["10000_1000000"]["resampled"] == ["adc", "hbv"]
    assert "-d 530 -c 3d_fullres" in capsys.readouterr().out.replace("530 3d_fullres", "-d 530 -c 3d_fullres")


def test_what_is_resampled_is_where_it_was(tmp_path: Path, raw: Path) -> None:
    """The reference and the label keep every bit; a smooth image keeps its values at every place in mm."""
    isles(tmp_path / "src")
    target, case = run("isles2022", tmp_path / "src"), "sub-strokecase0001_ses-0001"
    for index in (0, 1):
        assert np.array_equal(
            voxels(target / "imagesTr" / f"{case}_{index:04d}.nii.gz"), wave(AFFINE, SHAPE).astype(np.float32)
        )
    assert np.array_equal(voxels(target / "labelsTr" / f"{case}.nii.gz"), label(1))
    flair, expected = voxels(target / "imagesTr" / f"{case}_0002.nii.gz"), wave(AFFINE, SHAPE)
    assert flair.dtype == np.float32
    inner = (slice(3, -4), slice(3, -3), slice(2, -2))
    assert np.abs(flair - expected)[inner].max() < 3  # of 10 to 700
    assert flair.max() <= wave(COARSE, (7, 7, 10)).max() + 1e-3  # splines do not leave the range
    assert not flair[-1].any()  # outside


def test_whole_numbers_stay_whole_numbers(tmp_path: Path, raw: Path) -> None:
    picai(tmp_path / "src")
    target = run("picai", tmp_path / "src")
    assert nib.load(target / "imagesTr" / "10000_1000000_0001.nii.gz").get_data_dtype() == np.int16


def test_the_label_decides_where_the_reference_is_missing(tmp_path: Path, raw: Path) -> None:
    picai(tmp_path / "src")
    (tmp_path / "src/images/10000/10000_1000000_t2w.mha").unlink()
    target = run("picai", tmp_path / "src")
    for index in range(3):
        assert voxels(target / "imagesTr" / f"10000_1000000_{index:04d}.nii.gz").shape == SHAPE
    assert json.loads((target / "dataset.json").read_text())["missing_modalities"]["10000_1000000"] == ["t2"]


def moved(mm: float) -> Callable[[Path], None]:
    def move(path: Path) -> None:
        image = sitk.ReadImage(str(path))
        image.SetOrigin([value + mm for value in image.GetOrigin()])
        sitk.WriteImage(image, str(path), True)

    return move


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def coloured(path: Path) -> None:
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(sitk.Compose(image, image), str(path))


def nan(path: Path) -> None:
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32)
    image[1, 1, 1] = float("nan")
    sitk.WriteImage(image, str(path))


@pytest.mark.parametrize(
    ("which", "spoil", "message"),
    [
        ("adc", moved(5), r"10000_1000000_adc.mha covers \d+% of the grid of 10000_1000000_t2w.mha, .*one exam"),
        ("adc", cut, r"10000_1000000_adc.mha: cannot be read"),
        ("t2w", lambda path: path.write_bytes(b"no image"), r"10000_1000000_t2w.mha: cannot be read"),
        ("hbv", coloured, r"10000_1000000_hbv.mha: has 2 values per voxel; expected one"),
        ("hbv", nan, r"10000_1000000_hbv.mha: 1 voxels are NaN"),
        ("t2w", moved(1), r"10000_1000000.nii.gz lies up to .*10000_1000000_t2w"),  # a label is never resampled
    ],
)
def test_what_is_refused(which: str, spoil: Callable[[Path], None], message: str, tmp_path: Path, raw: Path) -> None:
    picai(tmp_path / "src")
    spoil(tmp_path / f"src/images/10000/10000_1000000_{which}.mha")
    with pytest.raises(InputError, match=message):
        run("picai", tmp_path / "src")
    assert not list(raw.rglob("dataset.json"))


def test_a_label_that_is_not_resampled_onto_the_reference(tmp_path: Path, raw: Path) -> None:
    picai(tmp_path / "src")
    labels = tmp_path / "src/picai_labels/csPCa_lesion_delineations/human_expert"
    shutil.copy(labels / "original/10000_1000000.nii.gz", labels / "resampled")
    with pytest.raises(InputError, match=r"resampled/10000_1000000.nii.gz has shape \(7, 7, 10\), but .*t2w.mha has"):
        run("picai", tmp_path / "src")


@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 3)])
def test_a_file_of_several_images_that_holds_others(shape: tuple[int, ...], tmp_path: Path, raw: Path) -> None:
    prostate(tmp_path / "src")
    save(tmp_path / "src/Task05_Prostate/imagesTr/prostate_00.nii.gz", np.ones(shape, np.float32))
    with pytest.raises(InputError, match=r"prostate_00.nii.gz: shape .*; expected 2 images in one file"):
        run("msd-prostate", tmp_path / "src")


def test_each_image_of_a_file_of_several(tmp_path: Path, raw: Path) -> None:
    prostate(tmp_path / "src")
    target = run("msd-prostate", tmp_path / "src")
    for index, high in enumerate((500.0, 900.0)):
        written = nib.load(target / "imagesTr" / f"prostate_00_{index:04d}.nii.gz")
        assert written.header["dim"][0] == 3
        assert np.array_equal(np.asanyarray(written.dataobj), wave(AFFINE, SHAPE, high).astype(np.float32))


def test_as_nnunet_splits_them(tmp_path: Path, raw: Path) -> None:
    """The images of nnUNetv2_convert_MSD_dataset."""
    from nnunetv2.dataset_conversion.convert_MSD_dataset import split_4d_nifti

    prostate(tmp_path / "src")
    target = run("msd-prostate", tmp_path / "src")
    (tmp_path / "theirs").mkdir()
    split_4d_nifti(str(tmp_path / "src/Task05_Prostate/imagesTr/prostate_00.nii.gz"), str(tmp_path / "theirs"))
    theirs = sorted((tmp_path / "theirs").iterdir())
    assert [path.name for path in theirs] == [f"prostate_00_{index:04d}.nii.gz" for index in range(2)]
    for path in theirs:
        own = nib.load(target / "imagesTr" / path.name)
        assert np.array_equal(voxels(path), np.asanyarray(own.dataobj))
        assert np.allclose(nib.load(path).affine, own.affine)


def test_submitted_again(tmp_path: Path, raw: Path) -> None:
    """The truth as nnU-Net would predict it, on the grid and with the name of the case."""
    prostate(tmp_path / "src")
    shutil.copytree(run("msd-prostate", tmp_path / "src") / "labelsTr", tmp_path / "predictions")
    arguments = ["-i", str(tmp_path / "predictions"), "-ref", str(tmp_path / "src"), "-o", str(tmp_path / "out")]
    assert main(["submit", "msd-prostate", *arguments, "--allow_missing"]) == 0
    assert np.array_equal(voxels(tmp_path / "out" / "prostate_00.nii.gz"), label(1, 2))


def test_the_whole_repository_of_the_ms_data(tmp_path: Path, raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of the versions of a case the last is taken; raw and longitudinal data are others."""
    for version in ("coregistered", "coregistered_resampled", "raw"):
        multiple_sclerosis(tmp_path / version)
        (tmp_path / "src/cross_sectional").mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / version / "cross_sectional", tmp_path / "src/cross_sectional" / version)
    for study in ("study1", "study2"):
        save(tmp_path / f"src/longitudinal/raw/patient01/{study}_FLAIR.nii.gz", wave(AFFINE, SHAPE))
    found = discover(EDITIONS["open-ms"], [tmp_path / "src"])
    assert [files.folder.parent.name for files in found] == ["coregistered_resampled"] * 2
    assert "Open MS (Ljubljana): 2 cases below folders raw are not taken" in caplog.messages
    assert "Open MS (Ljubljana): 1 cases below folders longitudinal are not taken" in caplog.messages


def test_raw_ms_images_are_refused(tmp_path: Path, raw: Path) -> None:
    multiple_sclerosis(tmp_path / "src")
    save(tmp_path / "src/cross_sectional/patient01/T1W.nii.gz", wave(COARSE, (7, 7, 10)), COARSE)
    with pytest.raises(InputError, match=r"case patient01: .*T1W.nii.gz has shape .*must be on one grid"):
        run("open-ms", tmp_path / "src")


@pytest.mark.parametrize("centre", [".", "MyoPS_train/CenterC"])
def test_the_hearts_of_care(centre: str, tmp_path: Path, raw: Path) -> None:
    spec = EDITIONS["myops-plus"]
    for number, missing in ((3001, ()), (3002, ("t2",))):
        place = write(spec, tmp_path / "src", folder=f"{centre}/Case{number}/Case{number}", missing=missing)
        (place / ".DS_Store").write_bytes(b"Bud1")
    assert recognise([tmp_path / "src"]).spec is spec
    target = run("myops-plus", tmp_path / "src")
    content = json.loads((target / "dataset.json").read_text())
    assert content["missing_modalities"] == {"Case3002": ["t2"]} and content["recommended_configuration"] == "2d"
    assert content["labels"]["scar"] == [5] and content["numTraining"] == 2


MET = EDITIONS["brats2025-met"]


def test_stray_labels_of_the_metastases(tmp_path: Path, raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(MET, tmp_path)
    truth = voxels(folder / f"{folder.name}-seg.nii.gz").copy()
    truth[0, 0, :3] = 6, 8, 4
    save(folder / f"{folder.name}-seg.nii.gz", truth)
    written = voxels(run("brats2025-met", tmp_path) / "labelsTr" / f"{folder.name}.nii.gz")
    assert written[0, 0, :3].tolist() == [4, 4, 4]
    for value in (6, 8):
        assert f"1 voxels of {folder.name}-seg.nii.gz have the label {value}, taken for 4" in caplog.text
    truth[0, 0, 0] = 5
    save(folder / f"{folder.name}-seg.nii.gz", truth)
    with pytest.raises(InputError, match="has the label 5"):
        run("brats2025-met", tmp_path)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("apart", [True, False])
def test_corrected_labels(flat: bool, apart: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(MET, tmp_path / "src" if not apart else tmp_path / "images")
    case = folder.name
    corrected = tmp_path / "src" / "MICCAI-LH-BraTS2025-MET-Challenge-corrected-labels"
    name = f"{case}-seg.nii.gz"
    expected = save(corrected / (name if flat else f"{case}/{name}"), label(3))
    save(corrected / "BraTS-MET-00000-000-seg.nii.gz", label(3))
    sources = [corrected, tmp_path / "images"] if apart else [tmp_path / "src"]
    (found,) = discover(MET, sources)
    assert found.label == expected and all(found.images)
    assert f"{case}: the label {expected} replaces {folder / name}" in caplog.text
    assert "BraTS-MET-00000-000: a label without images, not used" in caplog.text
