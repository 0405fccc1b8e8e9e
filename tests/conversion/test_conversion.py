"""Conversion of good cases: layout, voxels, labels, regions, missing modalities, nnU-Net's own check."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from brats_like import AFFINE, SHAPE, SUFFIXES, labels, save, write_case

import nnunetv2_mmkd.dataset_conversion as dataset_conversion
from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.conversion.convert import convert
from nnunetv2_mmkd.editions.brats import BRATS2018
from nnunetv2_mmkd.editions.discover import discover

CASE = "Brats18_TCIA01_001_1"


def run(source: Path, **options: object) -> Path:
    return convert(BRATS2018, [source], 501, **{"processes": 1, "show_progress": False, **options})


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def test_layout_voxels_and_labels(tmp_path: Path, raw: Path) -> None:
    folder = write_case(tmp_path / "src" / "HGG")
    target = run(tmp_path / "src")
    assert target == raw / "Dataset501_BraTS2018"
    for index, suffix in enumerate(SUFFIXES):
        source = folder / f"{CASE}_{suffix}.nii.gz"
        assert (target / "imagesTr" / f"{CASE}_{index:04d}.nii.gz").read_bytes() == source.read_bytes()
    written = nib.load(target / "labelsTr" / f"{CASE}.nii.gz")
    assert written.get_data_dtype() == np.uint8
    assert np.array_equal(np.array([0, 2, 1, 9, 3])[labels()], voxels(target / "labelsTr" / f"{CASE}.nii.gz"))
    assert np.array_equal(written.affine, AFFINE)
    content = json.loads((target / "dataset.json").read_text())
    assert content["channel_names"] == {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}
    assert content["labels"]["tumor_core"] == [2, 3] and content["regions_class_order"] == [1, 2, 3]
    assert content["numTraining"] == 1 and content["missing_modalities"] == {} and content["edition"] == "brats2018"
    assert "Menze" in content["citation"][0]
    entry = json.loads((target / "case_map.json").read_text())[CASE]
    assert entry["source"] == f"HGG/{CASE}" and entry["grade"] == "HGG"
    assert entry["modalities"] == ["t1", "t1ce", "t2", "flair"]


def test_passes_the_integrity_check_of_nnunet(tmp_path: Path, raw: Path) -> None:
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

    write_case(tmp_path / "src" / "HGG", missing=["t2"])
    write_case(tmp_path / "src" / "LGG", "Brats18_TCIA01_002_1", seed=1, ending=".nii", missing=["t1", "flair"])
    verify_dataset_integrity(str(run(tmp_path / "src")), num_processes=1)


def test_classes_name_and_cli(tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(tmp_path / "src")
    options = ["--labels", "classes", "--name", "Mine", "-np", "1", "--disable_progress_bar"]
    assert main(["convert", "BraTS2018", "-d", "77", str(tmp_path / "src"), *options]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-4:] == [
        "next:",
        "  nnUNetv2_plan_and_preprocess -d 77 -pl nnUNetPlannerResEncM -c 3d_fullres",
        "  mmkd splits patients -d 77 --folds 2",  # nnU-Net would make five folds
        "  mmkd train 77 3d_fullres 0 -p nnUNetResEncUNetMPlans -tr nnUNetTrainerModalityDropout",
    ]
    content = json.loads((raw / "Dataset077_Mine" / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "edema": 1, "necrosis_non_enhancing": 2, "enhancing": 3}
    assert "regions_class_order" not in content
    with pytest.raises(SystemExit) as left:
        main(["convert", "--list"])
    assert left.value.code == 0 and "Dataset501_BraTS2018" in capsys.readouterr().out


def test_missing_files_become_zero_images(tmp_path: Path, raw: Path) -> None:
    folder = write_case(tmp_path / "src", missing=["t1", "flair"], qform=2)
    target = run(tmp_path / "src")
    content = json.loads((target / "dataset.json").read_text())
    assert content["missing_modalities"] == {CASE: ["t1", "flair"]}
    assert json.loads((target / "case_map.json").read_text())[CASE]["modalities"] == ["t1ce", "t2"]
    reference = nib.load(folder / f"{CASE}_t1ce.nii.gz")
    for index in (0, 3):
        blank = nib.load(target / "imagesTr" / f"{CASE}_{index:04d}.nii.gz")
        assert blank.shape == SHAPE and not voxels(blank.get_filename()).any()
        assert np.array_equal(blank.affine, reference.affine) and blank.header["qform_code"] == 2


def test_an_image_of_zeros_is_missing_with_a_warning(
    tmp_path: Path, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_case(tmp_path / "src")
    save(folder / f"{CASE}_t1ce.nii.gz", np.zeros(SHAPE, np.int16))
    target = run(tmp_path / "src")
    assert json.loads((target / "dataset.json").read_text())["missing_modalities"] == {CASE: ["t1ce"]}
    assert f"{CASE}: {CASE}_t1ce.nii.gz is all zero; T1ce is taken as missing" in caplog.text


def test_cases_without_label_go_to_images_ts(tmp_path: Path, raw: Path) -> None:
    write_case(tmp_path / "train")
    write_case(tmp_path / "validation", "Brats18_CBICA_ABT_1", label=False)
    target = convert(BRATS2018, [tmp_path / "train", tmp_path / "validation"], 501, processes=1, show_progress=False)
    assert len(list((target / "imagesTs").iterdir())) == 4 and len(list((target / "imagesTr").iterdir())) == 4
    assert json.loads((target / "dataset.json").read_text())["numTraining"] == 1


def test_tolerates_the_layouts_of_the_mirrors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    src = tmp_path / "src"
    write_case(src / "MICCAI_BraTS_2018_Data_Training" / "MICCAI_BraTS_2018_Data_Training" / "LGG", ending=".nii")
    odd = write_case(src, "Brats18_CBICA_AAM_1", seed=1)
    (odd / "Brats18_CBICA_AAM_1_seg.nii.gz").rename(odd / "W39_1998.09.19_Segm.NII.GZ")
    (odd / "Brats18_CBICA_AAM_1_t1ce.nii.gz").rename(odd / "Brats18_CBICA_AAM_1-T1Gd.nii.gz")
    wrapped = odd / "Brats18_CBICA_AAM_1_t2.nii"
    wrapped.mkdir()
    (odd / "Brats18_CBICA_AAM_1_t2.nii.gz").rename(wrapped / "volume.nii.gz")
    for stray in (src / "survival_data.csv", odd / "notes.csv", odd / "._Brats18_CBICA_AAM_1_t1.nii.gz"):
        stray.write_text("stray")
    write_case(src / "__MACOSX", "Brats18_XXX_1")
    write_case(src / "Brats18_2013_0_1", "Brats18_2013_0_1")
    (src / "unrelated").mkdir()
    found = {files.case: files for files in discover(BRATS2018, [src])}
    assert sorted(found) == ["Brats18_2013_0_1", "Brats18_CBICA_AAM_1", CASE]
    assert all(len(files.files) == 5 for files in found.values())
    assert found[CASE].grade == "LGG" and found["Brats18_2013_0_1"].grade is None
    assert found["Brats18_CBICA_AAM_1"].images[2] == wrapped / "volume.nii.gz"


def test_the_later_folder_wins(tmp_path: Path, raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_case(tmp_path / "old", seed=1)
    new = write_case(tmp_path / "new", seed=2)
    (files,) = discover(BRATS2018, [tmp_path / "old", tmp_path / "new"])
    assert files.folder == new and "found twice" in caplog.text


def test_uncompressed_sources_and_scaled_voxels_are_unchanged(tmp_path: Path, raw: Path) -> None:
    folder = write_case(tmp_path / "src", ending=".nii")
    scaled = nib.Nifti1Image(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), AFFINE)
    scaled.header.set_slope_inter(0.25, 3)
    nib.save(scaled, folder / f"{CASE}_t2.nii")
    save(folder / f"{CASE}_flair.nii", np.random.default_rng(3).random(SHAPE).astype(np.float32))
    target = run(tmp_path / "src")
    for index, suffix in enumerate(SUFFIXES):
        before = nib.load(folder / f"{CASE}_{suffix}.nii")
        after = nib.load(target / "imagesTr" / f"{CASE}_{index:04d}.nii.gz")
        assert after.get_data_dtype() == before.get_data_dtype() and np.array_equal(after.affine, before.affine)
        assert np.array_equal(after.get_fdata(), before.get_fdata())


def test_float_labels(tmp_path: Path, raw: Path) -> None:
    folder = write_case(tmp_path / "src")
    save(folder / f"{CASE}_seg.nii.gz", labels().astype(np.float64) + 4e-4)
    written = voxels(run(tmp_path / "src") / "labelsTr" / f"{CASE}.nii.gz")
    assert np.array_equal(written, np.array([0, 2, 1, 9, 3])[labels()])


def test_a_rounded_origin_is_replaced_with_a_warning(
    tmp_path: Path, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_case(tmp_path / "src")
    moved = AFFINE.copy()
    moved[:3, 3] += 0.05
    shifted = nib.Nifti1Image(voxels(folder / f"{CASE}_t2.nii.gz"), moved)
    shifted.header.set_slope_inter(2, 1)
    nib.save(shifted, folder / f"{CASE}_t2.nii.gz")
    before = nib.load(folder / f"{CASE}_t2.nii.gz").get_fdata()
    save(folder / f"{CASE}_seg.nii.gz", labels(), moved)
    with caplog.at_level(logging.WARNING):
        target = run(tmp_path / "src")
    after = nib.load(target / "imagesTr" / f"{CASE}_0002.nii.gz")
    assert np.array_equal(after.affine, AFFINE) and np.array_equal(after.get_qform(), AFFINE)
    assert np.array_equal(after.get_fdata(), before)
    assert np.array_equal(nib.load(target / "labelsTr" / f"{CASE}.nii.gz").affine, AFFINE)
    assert f"origin or direction of {CASE}_t2.nii.gz differs" in caplog.text and f"{CASE}_seg.nii.gz" in caplog.text


def test_real_cases_keep_every_voxel(brats2018_data: Path, raw: Path, tmp_path: Path) -> None:
    source = discover(BRATS2018, [brats2018_data])[0]
    target = convert(BRATS2018, [source.folder], 501, processes=1, show_progress=False)
    for index, path in enumerate(source.images):
        before, after = nib.load(path), nib.load(target / "imagesTr" / f"{source.case}_{index:04d}.nii.gz")
        assert after.get_data_dtype() == before.get_data_dtype() and np.array_equal(before.affine, after.affine)
        assert np.array_equal(np.asanyarray(before.dataobj), np.asanyarray(after.dataobj))
    before, after = nib.load(source.label), nib.load(target / "labelsTr" / f"{source.case}.nii.gz")
    assert np.array_equal(before.affine, after.affine)
    back = np.array([BRATS2018.to_submission()[value] for value in range(4)])
    assert np.array_equal(back[np.asanyarray(after.dataobj)], np.asanyarray(before.dataobj))


def test_workers_need_neither_torch_nor_nnunet() -> None:
    code = "import sys, nnunetv2_mmkd.conversion.convert; assert not {'torch', 'nnunetv2'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_script_of_the_edition(tmp_path: Path, raw: Path) -> None:
    write_case(tmp_path / "src")
    script = Path(str(dataset_conversion.__file__)).with_name("Dataset501_BraTS2018.py")
    command = [sys.executable, str(script), "-i", str(tmp_path / "src"), "-d", "501", "-np", "1"]
    assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0
    assert (raw / "Dataset501_BraTS2018" / "dataset.json").is_file()
