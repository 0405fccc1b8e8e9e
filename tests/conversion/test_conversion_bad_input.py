"""Bad input: the message names file, case and remedy, and nothing that looks complete is left."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from brats_like import AFFINE, SHAPE, labels, save, write_case

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.conversion.convert import convert
from nnunetv2_mmkd.editions.brats import BRATS2018
from nnunetv2_mmkd.editions.catalogue import get_edition
from nnunetv2_mmkd.editions.spec import Channel, EditionSpec
from nnunetv2_mmkd.errors import InputError

CASE = "Brats18_TCIA01_001_1"
GOOD = "Brats18_TCIA00_001_1"


def run(source: Path, **options: object) -> Path:
    return convert(BRATS2018, [source], 501, **{"processes": 1, "show_progress": False, **options})


def another_shape(folder: Path) -> None:
    save(folder / f"{CASE}_t2.nii.gz", np.ones((14, 12, 11), np.int16))


def another_spacing(folder: Path) -> None:
    save(folder / f"{CASE}_t2.nii.gz", np.ones(SHAPE, np.int16), np.diag([-1, -1, 1.5, 1]))


def label_of_another_shape(folder: Path) -> None:
    save(folder / f"{CASE}_seg.nii.gz", labels(shape=(14, 12, 11)))


def nan(folder: Path) -> None:
    data = np.ones(SHAPE, np.float32)
    data[3, 4, 5] = np.nan
    save(folder / f"{CASE}_t1ce.nii.gz", data)


def infinity(folder: Path) -> None:
    data = np.ones(SHAPE, np.float32)
    data[3, 4, 5] = np.inf
    save(folder / f"{CASE}_t1ce.nii.gz", data)


def truncated(folder: Path) -> None:
    path = folder / f"{CASE}_flair.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])


def truncated_in_the_checksum(folder: Path) -> None:
    path = folder / f"{CASE}_flair.nii.gz"
    path.write_bytes(path.read_bytes()[:-3])


def truncated_uncompressed(folder: Path) -> None:
    path = folder / f"{CASE}_flair.nii.gz"
    (folder / f"{CASE}_flair.nii").write_bytes(gzip.decompress(path.read_bytes())[:-10])
    path.unlink()


def empty_file(folder: Path) -> None:
    (folder / f"{CASE}_flair.nii.gz").write_bytes(b"")


def no_nifti(folder: Path) -> None:
    (folder / f"{CASE}_flair.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 20)


def label_3(folder: Path) -> None:
    seg = labels()
    seg[seg == 4] = 3
    save(folder / f"{CASE}_seg.nii.gz", seg)


def fractional_label(folder: Path) -> None:
    save(folder / f"{CASE}_seg.nii.gz", labels() + np.float32(0.3))


def no_image(folder: Path) -> None:
    for path in folder.glob("*_[tf]*"):
        path.unlink()


def all_images_zero(folder: Path) -> None:
    for path in folder.glob("*_[tf]*"):
        save(path, np.zeros(SHAPE, np.int16))


def two_files(folder: Path) -> None:
    shutil.copy(folder / f"{CASE}_t1ce.nii.gz", folder / f"{CASE}_t1gd.nii.gz")


def not_compressed(folder: Path) -> None:
    path = folder / f"{CASE}_t2.nii.gz"
    path.write_bytes(gzip.decompress(path.read_bytes()))


def compressed(folder: Path) -> None:
    (folder / f"{CASE}_t2.nii.gz").rename(folder / f"{CASE}_t2.nii")


def one_slice(folder: Path) -> None:
    for path in folder.iterdir():
        nib.save(nib.load(path).slicer[:, :, 5:6], path)


def second_version(folder: Path) -> None:
    image = nib.load(folder / f"{CASE}_t2.nii.gz")
    nib.save(nib.Nifti2Image(np.asanyarray(image.dataobj), image.affine), folder / f"{CASE}_t2.nii.gz")


def four_dimensions(folder: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((*SHAPE, 2), np.int16), AFFINE), folder / f"{CASE}_t2.nii.gz")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (another_shape, [CASE, f"{CASE}_t2.nii.gz", "(14, 12, 11)", "(14, 12, 10)", f"{CASE}_t1.nii.gz"]),
        (another_spacing, [CASE, f"{CASE}_t2.nii.gz", "1.5", "voxel size"]),
        (label_of_another_shape, [f"case {CASE}", f"{CASE}_seg.nii.gz has shape (14, 12, 11)"]),
        (nan, [f"{CASE}_t1ce.nii.gz", "NaN", "get a good copy"]),
        (infinity, [f"{CASE}_t1ce.nii.gz", "infinite"]),
        (truncated, [f"{CASE}_flair.nii.gz", "cannot be read", "get a good copy"]),
        (truncated_in_the_checksum, [f"{CASE}_flair.nii.gz", "cannot be read"]),
        (truncated_uncompressed, [f"{CASE}_flair.nii", "cannot be read"]),
        (empty_file, [f"{CASE}_flair.nii.gz", "cannot be read"]),
        (no_nifti, [f"{CASE}_flair.nii.gz", "cannot be read"]),
        (label_3, [f"case {CASE}", f"{CASE}_seg.nii.gz", "label 3;", "0, 1, 2, 4"]),
        (fractional_label, [f"{CASE}_seg.nii.gz", "4.3", "whole number"]),
        (no_image, [f"case {CASE}", "no image at all", f"{CASE}_t1ce.nii.gz"]),
        (all_images_zero, [f"case {CASE}", "no image at all", "all zero"]),
        (two_files, [f"case {CASE}", "T1ce", f"{CASE}_t1gd.nii.gz"]),
        (not_compressed, [f"{CASE}_t2.nii.gz is not gzip-compressed", "end in .nii"]),
        (compressed, [f"{CASE}_t2.nii is gzip-compressed", "end in .nii.gz"]),
        (one_slice, [f"case {CASE}", f"{CASE}_t1.nii.gz is a single slice (14, 12)"]),
        (second_version, [f"{CASE}_t2.nii.gz", "NIfTI-2", "save it as NIfTI-1"]),
        (four_dimensions, [f"{CASE}_t2.nii.gz", "(14, 12, 10, 2)", "3-D"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_broken_case(spoil: Callable[[Path], None], named: list[str], tmp_path: Path, raw: Path) -> None:
    write_case(tmp_path / "src", GOOD)
    spoil(write_case(tmp_path / "src"))
    with pytest.raises(InputError) as error:
        run(tmp_path / "src")
    for text in named:
        assert text in str(error.value)
    target = raw / "Dataset501_BraTS2018"
    assert not (target / "dataset.json").exists()
    assert not list(target.rglob(f"*{CASE}*")) and not list(target.rglob("*.tmp"))
    shutil.rmtree(tmp_path / "src" / CASE)
    assert (run(tmp_path / "src") / "dataset.json").is_file()  # the rest can be converted into the same folder


@pytest.mark.parametrize("spoil", [another_shape, label_of_another_shape, no_nifti, no_image])
def test_names_and_headers_are_checked_before_any_work(spoil, tmp_path: Path, raw: Path) -> None:
    write_case(tmp_path / "src", GOOD)
    spoil(write_case(tmp_path / "src"))
    with pytest.raises(InputError):
        run(tmp_path / "src")
    assert not list(raw.iterdir())


def test_failure_in_a_worker_process_is_the_same_error(tmp_path: Path, raw: Path) -> None:
    write_case(tmp_path / "src", GOOD)
    label_3(write_case(tmp_path / "src"))
    with pytest.raises(InputError, match="label 3"):
        run(tmp_path / "src", processes=2)
    assert not (raw / "Dataset501_BraTS2018" / "dataset.json").exists()


def test_variable_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("nnUNet_raw", raising=False)
    write_case(tmp_path / "src")
    assert main(["convert", "brats2018", str(tmp_path / "src"), "-d", "501"]) == 1
    assert "nnUNet_raw is not set" in capsys.readouterr().err


@pytest.mark.parametrize("how", [["foo"], ["institutions", "foo"], ["patients", "foo"]])
def test_lists_are_looked_for_before_the_work(
    how: list[str], tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_case(tmp_path / "src")
    assert main(["convert", "brats2018", str(tmp_path / "src"), "-d", "501", "--splits", *how]) == 1
    assert "--splits foo: there is no such file" in capsys.readouterr().err
    assert not list(raw.iterdir())


def test_output_not_writable(tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_case(tmp_path / "src")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"nnUNet_raw is .*, which is a file"):
        run(tmp_path / "src")


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_id_taken(variable: str, tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_case(tmp_path / "src")
    monkeypatch.setenv(variable, str(tmp_path / variable))
    (tmp_path / variable / "Dataset501_Other").mkdir(parents=True)
    with pytest.raises(InputError, match=r"dataset id 501 is taken by Dataset501_Other .*choose another -d"):
        run(tmp_path / "src")


def test_same_name_of_someone_else_is_not_touched(tmp_path: Path, raw: Path) -> None:
    write_case(tmp_path / "src")
    (raw / "Dataset501_BraTS2018" / "imagesTr").mkdir(parents=True)
    with pytest.raises(InputError, match=r"Dataset501_BraTS2018 holds something else than a .*: choose another -d"):
        run(tmp_path / "src")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "both"}, "regions, classes"),
        ({"name": "a/b"}, "dataset name"),
        ({"name": ""}, "dataset name"),
        ({"name": "x" * 300}, "dataset name"),
        ({"processes": 0}, "at least one"),
    ],
)
def test_bad_options(options: dict, message: str, tmp_path: Path, raw: Path) -> None:
    write_case(tmp_path / "src")
    with pytest.raises(InputError, match=message):
        run(tmp_path / "src", **options)


def test_bad_sources(tmp_path: Path, raw: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        run(tmp_path / "nowhere")
    (tmp_path / "x.zip").write_text("")
    with pytest.raises(InputError, match="unpack it"):
        run(tmp_path / "x.zip")
    write_case(tmp_path / "src", "BraTS20_Training_001")
    with pytest.raises(InputError, match=r"no case of BraTS 2018 below .*right edition"):
        run(tmp_path / "src")
    with pytest.raises(InputError, match="choose from brats2018"):
        get_edition("brats1999")
    with pytest.raises(InputError, match="1 to 999"):
        convert(BRATS2018, [tmp_path / "src"], 1000)


def test_a_spec_that_contradicts_itself() -> None:
    good = {
        "name": "x", "title": "X", "dataset_id": 1, "dataset_name": "X", "case_pattern": "x",
        "channels": (Channel("t1", "T1", ("t1",)), Channel("t2", "T2", ("t2",))),
        "label_map": {0: 0, 1: 1, 2: 2}, "regions": {"whole": (1, 2), "core": (2,)}, "regions_class_order": (1, 2),
        "classes": {"a": 1, "b": 2},
    }  # fmt: skip
    EditionSpec(**good)
    for change in (
        {"label_map": {0: 0, 1: 1, 2: 3}},
        {"label_map": {0: 0, 1: 1, 2: 2, 6: 2}},
        {"classes": {"a": 1}},
        {"regions": {"whole": (1,)}},
        {"regions_class_order": (1,)},
        {"channels": (Channel("t1", "T1", ("t1",)), Channel("t2", "T2", ("T1",)))},
        {"submission_labels": {0: 0}},
        {"regions_class_order": (2, 1)},
        {"regions": {"core": (2,), "whole": (1, 2)}, "regions_class_order": (2, 1)},
        {"layout": "heap"},
        {"label_suffixes": ("T2",)},
        {"case_pattern": "("},
        {"uncertainty": {"_unc": "edge"}},
    ):
        with pytest.raises(InputError, match="edition 'x'"):
            EditionSpec(**{**good, **change})
