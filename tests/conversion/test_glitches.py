"""The glitches of the archives that are in circulation, each with a fixture."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from brats_like import SHAPE, save
from edition_fixtures import truth, write

from nnunetv2_mmkd.conversion.convert import convert
from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.editions.discover import discover
from nnunetv2_mmkd.errors import InputError

MET, PED = EDITIONS["brats2024-met"], EDITIONS["brats2024-ped"]


def run(edition: str, *sources: Path) -> Path:
    spec = EDITIONS[edition]
    return convert(spec, sources, spec.dataset_id, processes=1, show_progress=False)


def source_labels(edition: str, path: Path) -> np.ndarray:
    """A label file of a converted data set, in the values of the edition."""
    back = EDITIONS[edition].to_edition()
    return np.vectorize(back.get)(np.asanyarray(nib.load(path).dataobj))


def test_case_355_of_2020_has_a_label_of_another_name(tmp_path: Path, raw: Path) -> None:
    case = "BraTS20_Training_355"
    folder = write(EDITIONS["brats2020"], tmp_path, folder=f"MICCAI_BraTS2020_TrainingData/{case}")
    (folder / f"{case}_seg.nii").rename(folder / "W39_1998.09.19_Segm.nii")
    target = run("brats2020", tmp_path)
    assert np.array_equal(
        source_labels("brats2020", target / "labelsTr" / f"{case}.nii.gz"), truth(EDITIONS["brats2020"])
    )


@pytest.mark.parametrize(
    "place",
    [
        "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData",
        "BraTS-GLI-00008-000",
        ".",
    ],
)
def test_doubled_nesting_and_none(place: str, tmp_path: Path) -> None:
    folder = write(EDITIONS["brats2023-gli"], tmp_path / "src", folder=f"{place}/BraTS-GLI-00008-000")
    (found,) = discover(EDITIONS["brats2023-gli"], [tmp_path / "src"])
    assert found.folder == folder and all(found.images) and found.label is not None
    assert [files.folder for files in discover(EDITIONS["brats2023-gli"], [folder])] == [folder]


def test_tables_next_to_the_cases(tmp_path: Path, raw: Path) -> None:
    folder = write(EDITIONS["fets2022"], tmp_path)
    (folder.parent / "partitioning_1.csv").write_text("Partition_ID,Subject_ID\n1,FeTS2022_00000\n")
    (folder.parent / "name_mapping.csv").write_text("Grade,BraTS_2020_subject_ID\nHGG,x\n")
    (folder / "survival_info.csv").write_text("Brats20ID,Age\n")
    (folder.parent / "BraTS-PTG supplementary demographic information and metadata.xlsx").write_bytes(b"PK")
    assert json.loads((run("fets2022", tmp_path) / "dataset.json").read_text())["numTraining"] == 1


def test_what_a_mac_leaves_in_archives(tmp_path: Path) -> None:
    folder = write(PED, tmp_path)
    for path in list(folder.iterdir()):
        (folder / f"._{path.name}").write_bytes(b"\x00\x05\x16\x07 AppleDouble")
    (folder.parent / ".DS_Store").write_bytes(b"Bud1")
    shutil.copytree(folder, tmp_path / "__MACOSX" / folder.name)
    shutil.copytree(folder, folder.parent / f"._{folder.name}")
    (found,) = discover(PED, [tmp_path])
    assert found.folder == folder and len(found.files) == 5
    assert not any(path.name.startswith(".") for path in found.files)


def test_compressed_and_not_in_one_case(tmp_path: Path, raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(EDITIONS["brats2019"], tmp_path)
    case = folder.name
    save(folder / f"{case}_t2.nii", np.asanyarray(nib.load(folder / f"{case}_t2.nii.gz").dataobj))
    (folder / f"{case}_t2.nii.gz").unlink()
    (folder / f"{case}_seg.nii").write_bytes(gzip.decompress((folder / f"{case}_seg.nii.gz").read_bytes()))
    target = run("brats2019", tmp_path)
    images = [np.asanyarray(nib.load(path).dataobj) for path in sorted((target / "imagesTr").glob("*.nii.gz"))]
    assert len(images) == 4 and all(image.any() for image in images)
    assert f"both .nii and .nii.gz for segmentation; {case}_seg.nii.gz is used" in caplog.text
    assert source_labels("brats2019", target / "labelsTr" / f"{case}.nii.gz").any()
    for other in (np.zeros(SHAPE, np.uint8), np.zeros((1, 1, 1), np.uint8), np.zeros((50, 50, 50), np.uint8)):
        save(folder / f"{case}_seg.nii", other)
        with pytest.raises(InputError, match=rf"{case}_seg.nii.gz is not {case}_seg.nii, compressed"):
            discover(EDITIONS["brats2019"], [tmp_path])
    (folder / f"{case}_t2.NII").write_bytes(b"which one?")
    with pytest.raises(
        InputError, match=rf"more than one file for T2: {case}_t2.NII, {case}_t2.nii; keep the right one"
    ):
        discover(EDITIONS["brats2019"], [tmp_path])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("edition", ["brats2020", "brats2024-gli", "brats2024-ped"])
def test_labels_that_a_mirror_saved_as_floats(edition: str, dtype: type, tmp_path: Path, raw: Path) -> None:
    spec = EDITIONS[edition]
    folder = write(spec, tmp_path)
    path = folder / f"{folder.name}{spec.archive.endings[-1]}{spec.archive.extension}"
    save(path, truth(spec).astype(dtype) * (1 + 1e-5))
    target = run(edition, tmp_path)
    written = target / "labelsTr" / f"{folder.name}.nii.gz"
    assert nib.load(written).get_data_dtype() == np.uint8
    assert np.array_equal(source_labels(edition, written), truth(spec))


def test_fixed_cases_replace_those_they_fix(tmp_path: Path, raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts = [f"MICCAI-BraTS2024-MET-Challenge-TrainingData_{part}" for part in ("2", "2-fixed-cases")]
    case = "BraTS-MET-00232-000"
    broken, fixed = (write(MET, tmp_path, folder=f"{part}/{case}") for part in parts)
    write(MET, tmp_path, folder=f"{parts[0]}/BraTS-MET-00233-000")
    (broken / f"{case}-t1n.nii.gz").write_bytes(b"broken header")
    target = run("brats2024-met", tmp_path)
    assert f"{case}: found twice; {fixed} replaces {broken}" in caplog.text
    places = {name: entry["source"] for name, entry in json.loads((target / "case_map.json").read_text()).items()}
    assert places == {case: f"{parts[1]}/{case}", "BraTS-MET-00233-000": f"{parts[0]}/BraTS-MET-00233-000"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_roots_the_later_wins(order: tuple[int, int], tmp_path: Path) -> None:
    folders = [write(PED, tmp_path / name, folder="BraTS-PED-00255-000") for name in ("a", "b")]
    (found,) = discover(PED, [folders[index].parent for index in order])
    assert found.folder == folders[order[1]]


@pytest.mark.parametrize("label", [True, False])
def test_missing_files_in_training_and_inference_sets(label: bool, tmp_path: Path, raw: Path) -> None:
    folder = write(PED, tmp_path, label=label, missing=["t1", "flair"])
    target = run("brats2024-ped", tmp_path)
    images = target / ("imagesTr" if label else "imagesTs")
    there = [bool(np.asanyarray(nib.load(path).dataobj).any()) for path in sorted(images.iterdir())]
    assert there == [False, True, True, False]
    content = json.loads((target / "dataset.json").read_text())
    assert content["missing_modalities"] == {folder.name: ["t1", "flair"]}
    assert content["numTraining"] == len(list((target / "labelsTr").iterdir())) == int(label)


def test_names_of_medperf(tmp_path: Path) -> None:
    folder = write(EDITIONS["fets2024"], tmp_path)
    for path in list(folder.iterdir()):
        kind = path.name[len(folder.name) + 1 :]
        path.rename(folder / f"{folder.name}_{'final' if kind.startswith('seg') else 'brain'}_{kind}")
    (found,) = discover(EDITIONS["fets2024"], [tmp_path])
    assert all(found.images) and found.label == folder / f"{folder.name}_final_seg.nii.gz"


def test_a_label_of_another_edition_is_an_error(tmp_path: Path, raw: Path) -> None:
    folder = write(EDITIONS["brats2024-gli"], tmp_path)
    with pytest.raises(InputError, match=rf"case {folder.name}: .*label 4; BraTS 2023 GLI allows 0, 1, 2, 3"):
        run("brats2023-gli", tmp_path)


@pytest.mark.parametrize("edition", ["brats2021", "myops2020"])
def test_a_file_beside_another_one_compressed(tmp_path: Path, edition: str) -> None:
    spec = EDITIONS[edition]
    write(spec, tmp_path)
    zipped = next(path for path in sorted(tmp_path.rglob("*.nii.gz")))
    plain = zipped.with_suffix("")
    plain.write_bytes(gzip.decompress(zipped.read_bytes()))
    (found,) = discover(spec, [tmp_path])
    assert zipped in found.files and plain not in found.files
    zipped.write_bytes(zipped.read_bytes()[:200])
    with pytest.raises(InputError, match=rf"{zipped.name}: cannot be read"):
        discover(spec, [tmp_path])
    zipped.write_bytes(gzip.compress(plain.read_bytes() + b"more"))
    with pytest.raises(InputError, match=rf"{zipped.name} is not {plain.name}, compressed"):
        discover(spec, [tmp_path])
