"""Bad input: the message names file, case and remedy, and nothing has been written."""

from __future__ import annotations

import copy
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from full_disk import small_files_only
from tiny_model import TRAINER, image_of, read, write, write_case

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.cases import case_of_files
from nnunetv2_mmkd.inference.checks import check_case
from nnunetv2_mmkd.inference.job import JobRequest
from nnunetv2_mmkd.inference.predictor import MMKDPredictor
from nnunetv2_mmkd.inference.reader import CompletingIO, CompletingPlans

Make = Callable[..., MMKDPredictor]


def truncate(file: Path, keep: float = 0.7) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(bytes(content))


def with_nan(file: Path) -> None:
    image = image_of("b", 1)
    image[5, 5, 5] = np.nan
    write(file, image)


def header(**fields: object) -> Callable[[Path], object]:
    """Change fields of the header, whatever they mean."""

    def change(file: Path) -> None:
        content = gzip.decompress(file.read_bytes())
        changed = nib.Nifti1Header(content[:348], check=False)
        for field, value in fields.items():
            changed[field] = value
        file.write_bytes(gzip.compress(changed.binaryblock + content[348:]))

    return change


def second_version(file: Path) -> None:
    image = nib.load(file)
    nib.save(nib.Nifti2Image(np.asanyarray(image.dataobj), image.affine), file)


def one_slice(file: Path) -> None:
    sitk.WriteImage(sitk.ReadImage(str(file))[:, :, 7], str(file))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda file: file.write_bytes(b"not an image"), "cannot be read"),
    "empty": (lambda file: file.write_bytes(b""), "the file is empty"),
    "truncated": (truncate, "cannot be read"),
    "end cut off": (lambda file: truncate(file, 0.999), "cannot be read"),
    "damaged": (flip, "cannot be read"),
    "nan": (with_nan, "1 voxels are NaN"),
    "shape": (lambda file: write(file, image_of("b", 1, (13, 20, 22))), "has shape"),
    "not compressed": (lambda file: file.write_bytes(gzip.decompress(file.read_bytes())), "is not gzip-compressed"),
    "no offset": (header(vox_offset=0), "vox_offset 0 of its header is out of range"),
    "offset in the header": (header(vox_offset=100), "vox_offset 100 of its header is out of range"),
    "NIfTI-2": (second_version, "it is NIfTI-2, which SimpleITK"),
    "a picture": (one_slice, "is two-dimensional, and this model takes volumes"),
    "spacing": (lambda file: write(file, image_of("b", 1), (1.0, 1.0, 1.6)), "has voxel size"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_image(make_predictor: Make, tmp_path: Path, name: str) -> None:
    write_case(tmp_path / "in", "a")
    file = write_case(tmp_path / "in", "b")[1]
    spoil, message = BROKEN[name]
    spoil(file)
    with pytest.raises(InputError, match=message) as caught:
        make_predictor().predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    assert str(file) in str(caught.value) and "case b" in str(caught.value) and "--missing" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("masked", "fill", "warned"), [(True, 1, True), (True, 0, False), (False, 1, False)])
def test_a_skull_where_the_model_knows_none(
    make_predictor: Make, tmp_path: Path, masked: bool, fill: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Plans that normalise within a mask are of images that are empty around an organ."""
    content = copy.deepcopy(make_predictor().plans_manager.plans)
    for configuration in content["configurations"].values():
        configuration["use_mask_for_norm"] = [masked] * 3
    image = image_of("a", 0)
    image[image == 0] = fill
    image[:4] = fill
    file = str(write(tmp_path / "a_0000.nii.gz", image))
    case = case_of_files("a", ("t1", "t1ce", "t2"), [file, None, None])
    assert check_case(case, CompletingPlans(content, ".nii.gz"), {}).used == ("t1",)
    assert ("case a: its images are hardly empty anywhere" in caplog.text) == warned


def test_several_channels_in_one_file(make_predictor: Make, tmp_path: Path) -> None:
    files = write_case(tmp_path / "in", "a")
    sitk.WriteImage(sitk.JoinSeries([sitk.ReadImage(str(files[0]))] * 2), str(files[0]))
    with pytest.raises(InputError, match=r"a_0000\.nii\.gz: shape \(22, 20, 14, 2\).*one file per image"):
        make_predictor().predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a_0007.nii.gz", "no channel 0007"),
        ("a_t1ce.nii.gz", "no channel suffix"),
        ("a_0001.nii", r"looks like a_0001\.nii\.gz \(case a, t1ce\)"),
        ("a_0001.nii.gz.part", r"looks like a_0001\.nii\.gz \(case a, t1ce\)"),
    ],
)
def test_misnamed_file(make_predictor: Make, tmp_path: Path, name: str, message: str) -> None:
    write_case(tmp_path / "in", "a", (0, 2))
    (tmp_path / "in" / name).write_bytes(b"")
    with pytest.raises(InputError, match=message) as caught:
        make_predictor().predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    assert name in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_uncompressed_copy_beside_an_image(make_predictor: Make, tmp_path: Path) -> None:
    """SimpleITK reads the header of ``x.nii.gz`` and the voxels of ``x.nii``, and says nothing."""
    (file, *_) = write_case(tmp_path / "in", "a", (0,))
    write(file.with_suffix(""), image_of("a", 0) + 7)
    assert (read(file) == image_of("a", 0) + 7).all()  # if this fails, SimpleITK has been mended
    for source in (str(tmp_path / "in"), [[str(file), None, None]]):
        with pytest.raises(InputError, match=r"a_0000\.nii\.gz lies beside a_0000\.nii, whose voxels SimpleITK"):
            make_predictor().predict_from_files_sequential(source, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_files_that_do_not_matter(make_predictor: Make, tmp_path: Path) -> None:
    write_case(tmp_path / "in", "a")
    for name in ("a_0001.nii.md5", "._a_0001.nii.gz", "notes.txt"):
        (tmp_path / "in" / name).write_bytes(b"")
    (tmp_path / "in" / "more").mkdir()
    assert len(make_predictor()._prepare(JobRequest(str(tmp_path / "in"), None)).cases) == 1


@pytest.mark.parametrize(
    ("replace", "reason"),
    [
        (lambda file: file.symlink_to("nowhere"), "a link that leads nowhere"),
        (lambda file: file.symlink_to(file), "a link that leads nowhere"),
        (lambda file: os.mkfifo(file), "no regular file"),
        (lambda file: file.mkdir(), "it is a folder"),
    ],
)
def test_no_file_of_that_name(
    make_predictor: Make, tmp_path: Path, replace: Callable[[Path], object], reason: str
) -> None:
    file = write_case(tmp_path / "in", "a")[1]
    file.unlink()
    replace(file)
    with pytest.raises(InputError, match=f"case a, t1ce.*{reason}") as caught:
        make_predictor().predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    assert str(file) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_folder_without_cases(make_predictor: Make, tmp_path: Path) -> None:
    predictor = make_predictor()
    with pytest.raises(InputError, match="does not exist"):
        predictor.predict_from_files(str(tmp_path / "in"), str(tmp_path / "out"))
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="has no image CASE_XXXX"):
        predictor.predict_from_files(str(tmp_path / "in"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_nothing_left(make_predictor: Make, tmp_path: Path) -> None:
    write_case(tmp_path / "in", "a")
    write_case(tmp_path / "in", "b", (1,))
    with pytest.raises(InputError, match="at least one"):
        make_predictor(missing=["t1", "t1ce", "t2"])
    with pytest.raises(InputError, match="unknown modality 'flair'"):
        make_predictor(missing=["flair"])
    predictor = make_predictor(missing=["t1ce"])
    with pytest.raises(InputError, match=r"case b: no image would be left .*t1ce: excluded by the user"):
        predictor.predict_from_files(str(tmp_path / "in"), str(tmp_path / "out"))
    predictor.select()
    write(tmp_path / "in" / "b_0001.nii.gz", np.zeros((14, 20, 22), np.float32))
    with pytest.raises(InputError, match=r"case b: no image would be left .*t1ce: all zero"):
        predictor.predict_from_files(str(tmp_path / "in"), str(tmp_path / "out"))
    with pytest.raises(InputError, match="has no image"):
        predictor.predict_from_files([[None, None, None]], str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_output_not_writable(make_predictor: Make, tmp_path: Path) -> None:
    write_case(tmp_path / "in", "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        make_predictor().predict_from_files(str(tmp_path / "in"), str(tmp_path / "file" / "out"))
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    if not os.access(locked, os.W_OK):  # root may write anywhere
        with pytest.raises(InputError, match="is not writable"):
            make_predictor().predict_from_files(str(tmp_path / "in"), str(locked / "out"))


def test_full_disk(make_predictor: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SimpleITK does not say that it could not write; no half of a segmentation gets its name."""
    write_case(tmp_path / "in", "a")
    predictor, whole = make_predictor(), CompletingIO.write_whole

    def write_on_full_disk(*args: object) -> None:
        with small_files_only(100):
            whole(*args)

    monkeypatch.setattr(CompletingIO, "write_whole", write_on_full_disk)
    said = r"cannot write .*out/a\.nii\.gz: File too large\. Free space there"
    with pytest.raises(InputError, match=said):
        predictor.predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".json"] == []


def test_model_that_is_not_ours(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    plans = json.loads((folder / "plans.json").read_text())
    del plans["mmkd"]
    (folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(InputError, match="was not trained with a trainer of this package"):
        MMKDPredictor().initialize_from_trained_model_folder(str(folder), (0,))
    (folder / "plans.json").unlink()
    with pytest.raises(InputError, match=r"plans\.json does not exist"):
        MMKDPredictor().initialize_from_trained_model_folder(str(folder), (0,))


def test_model_that_is_not_complete(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"fold 2 3; folds with it: 0 1"):
        MMKDPredictor().initialize_from_trained_model_folder(str(model), (0, 2, 3))
    with pytest.raises(InputError, match=r"no checkpoint_best\.pth"):
        MMKDPredictor().initialize_from_trained_model_folder(str(model), None, "checkpoint_best.pth")
    monkeypatch.delenv("nnUNet_extTrainer")
    with pytest.raises(InputError, match=rf"nnUNet_extTrainer.*{TRAINER}"):
        MMKDPredictor().initialize_from_trained_model_folder(str(model), (0,))


def result_folder(tmp_path: Path, model: Path, kind: str) -> Path:
    """A folder that output must not go to."""
    folder = tmp_path / kind
    if kind == "link to the input":
        folder.symlink_to(tmp_path / "in", target_is_directory=True)
    elif kind == "the model":
        shutil.copytree(model, folder)
    elif kind == "a fold of the model":
        folder.symlink_to(model / "fold_0", target_is_directory=True)
    elif kind == "images of the case":
        write_case(folder, "a", (1,))
    else:
        folder.mkdir()
        (folder / "dataset.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("link to the input", "which is read"),
        ("the model", "is the folder of a data set or model, by its dataset.json"),
        ("a fold of the model", "which is read"),
        ("images of the case", "holds the image a_0001.nii.gz of case a"),
        ("a data set", "is the folder of a data set or model, by its dataset.json"),
    ],
)
def test_output_where_input_lies(make_predictor: Make, model: Path, tmp_path: Path, kind: str, message: str) -> None:
    write_case(tmp_path / "in", "a")
    folder = result_folder(tmp_path, model, kind)
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError, match=message):
        make_predictor().predict_from_files_sequential(str(tmp_path / "in"), str(folder))
    assert sorted(folder.rglob("*")) == before


def test_output_below_the_input_and_again(make_predictor: Make, tmp_path: Path) -> None:
    write_case(tmp_path / "in", "a")
    for _ in range(2):  # its own dataset.json is no other's
        make_predictor().predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "in" / "out"))
    assert (tmp_path / "in" / "out" / "a.nii.gz").is_file()
