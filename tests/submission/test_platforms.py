"""What the platforms demand: names, ids, grids, archives; and what is refused, with the offenders' names."""

from __future__ import annotations

import copy
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from brats_like import AFFINE, SHAPE, save
from edition_fixtures import truth, write

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.conversion.case import read_label
from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.editions.discover import discover
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.submission.check import check_submission
from nnunetv2_mmkd.submission.write import write_submission


def predict(spec: EditionSpec, source: Path, predictions: Path) -> Path:
    """The ground truth as predictions."""
    for files in discover(spec, [source]):
        save(predictions / f"{files.case}.nii.gz", read_label(spec, files.case, files.label))
    return predictions


@pytest.fixture
def brats2021(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of two cases of BraTS 2021 and of their predictions."""
    for number in (0, 2):
        write(EDITIONS["brats2021"], tmp_path / "src", folder=f"BraTS2021_0000{number}")
    return tmp_path / "src", predict(EDITIONS["brats2021"], tmp_path / "src", tmp_path / "predictions")


ARCHIVES = {name: spec for name, spec in EDITIONS.items() if spec.archive is not None}


@pytest.mark.parametrize("spec", ARCHIVES.values(), ids=ARCHIVES)
def test_every_platform_knows_the_names_of_its_edition(spec: EditionSpec) -> None:
    keys = []
    for label in (True, False):
        case = spec.archive.case(0, label)
        keys.append(spec.platform.key(spec.submission_name.format(case=case)))
        assert keys[-1] is not None and (case.endswith(keys[-1]) or keys[-1] == f"{case}.nii.gz")
    assert keys[0] != keys[1] or spec.name == "fets2024"


def test_zip_and_tar(brats2021: tuple[Path, Path], tmp_path: Path) -> None:
    spec, (source, predictions) = EDITIONS["brats2021"], brats2021
    arguments = ["-i", str(predictions), "-ref", str(source), "-o", str(tmp_path / "out"), "--disable_progress_bar"]
    for name in ("mine.zip", "mine.tar.gz"):
        assert main(["submit", "brats2021", *arguments, "--zip", name]) == 0
        check_submission(spec, tmp_path / "out" / name, [source])
    with (
        tarfile.open(tmp_path / "out" / "mine.tar.gz") as tar,
        zipfile.ZipFile(tmp_path / "out" / "mine.zip") as zipped,
    ):
        assert tar.getnames() == zipped.namelist() == ["BraTS2021_00000.nii.gz", "BraTS2021_00002.nii.gz"]
        for name in tar.getnames():
            assert tar.extractfile(name).read() == zipped.read(name) == (tmp_path / "out" / name).read_bytes()
    again = (tmp_path / "out" / "mine.tar.gz").read_bytes()
    write_submission(spec, predictions, [source], tmp_path / "out", zip_name="mine.tar.gz", show_progress=False)
    assert (tmp_path / "out" / "mine.tar.gz").read_bytes() == again


def test_an_archive_that_the_platform_does_not_take(tmp_path: Path) -> None:
    write(EDITIONS["brats2020"], tmp_path / "src")
    predictions = predict(EDITIONS["brats2020"], tmp_path / "src", tmp_path / "predictions")
    with pytest.raises(InputError, match=r"--zip 'x.tar.gz': the Image Processing Portal of CBICA takes .zip"):
        write_submission(EDITIONS["brats2020"], predictions, [tmp_path / "src"], tmp_path / "out", zip_name="x.tar.gz")


def repacked(archive: Path, names: dict[str, str], target: Path) -> Path:
    """An archive with files of another under other names; new name -> old name."""
    with tarfile.open(archive) as old, tarfile.open(target, "w:gz") as new:
        for name, before in names.items():
            member = old.getmember(before)
            stream = old.extractfile(member)
            renamed = copy.copy(member)  # TarInfo.replace came with Python 3.11.4
            renamed.name = name
            new.addfile(renamed, stream)
    return target


ONE, TWO = "BraTS2021_00000.nii.gz", "BraTS2021_00002.nii.gz"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"my_00000.nii.gz": ONE, "00002.nii.gz": TWO}, None),
        ({ONE: ONE}, "1 cases without a file: BraTS2021_00002.nii.gz"),
        ({ONE: ONE, TWO: TWO, "BraTS2021_00003.nii.gz": ONE}, "1 names that match no original case: BraTS2021_00003"),
        ({ONE: ONE, "BraTS2021_00002_seg.nii.gz": TWO}, "1 names that match no original case: BraTS2021_00002_seg"),
        ({f"predictions/{ONE}": ONE, TWO: TWO}, "1 names that match no original case: predictions/"),
        ({ONE: ONE, TWO: TWO, "copy_00002.nii.gz": TWO}, "2 names that occur twice: BraTS2021_00002.*; copy_00002"),
    ],
)
def test_ids(names: dict[str, str], message: str | None, brats2021: tuple[Path, Path], tmp_path: Path) -> None:
    spec, (source, predictions) = EDITIONS["brats2021"], brats2021
    archive = write_submission(spec, predictions, [source], tmp_path / "out", zip_name="x.tar.gz", show_progress=False)
    other = repacked(archive, names, tmp_path / "other.tar.gz")
    if message is None:
        check_submission(spec, other, [source])
    else:
        with pytest.raises(InputError, match=message):
            check_submission(spec, other, [source])


def test_check_on_the_command_line(
    brats2021: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, (source, predictions) = EDITIONS["brats2021"], brats2021
    archive = write_submission(spec, predictions, [source], tmp_path / "out", zip_name="x.tar.gz", show_progress=False)
    other = repacked(archive, {ONE: ONE}, tmp_path / "other.tar.gz")
    assert main(["submit", "brats2021", "-ref", str(source), "--check", str(archive)]) == 0
    assert main(["submit", "brats2021", "-ref", str(source), "--check", str(other)]) == 1
    assert f"1 cases without a file: {TWO}" in capsys.readouterr().err
    assert main(["submit", "brats2021", "-ref", str(source), "--check", str(other), "--allow_missing"]) == 0
    for arguments in (["--check", str(other), "-o", str(tmp_path)], ["-i", str(predictions)]):
        with pytest.raises(SystemExit):
            main(["submit", "brats2021", "-ref", str(source), *arguments])


def test_a_tar_that_is_cut_off(brats2021: tuple[Path, Path], tmp_path: Path) -> None:
    spec, (source, predictions) = EDITIONS["brats2021"], brats2021
    archive = write_submission(spec, predictions, [source], tmp_path / "out", zip_name="x.tar.gz", show_progress=False)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(InputError, match=r"cannot be read as a zip or tar.gz archive"):
        check_submission(spec, archive, [source])


@pytest.mark.parametrize("edition", ["brats2024-gli", "brats2024-met", "brats2024-ped"])
def test_the_grid_of_2024(edition: str, tmp_path: Path) -> None:
    spec = EDITIONS[edition]
    write(spec, tmp_path / "src")
    predictions = predict(spec, tmp_path / "src", tmp_path / "predictions")
    case = spec.archive.case(0, True)
    with pytest.raises(InputError, match=rf"1 cases whose grid Synapse does not take: {case}.nii.gz \(shape \(14, 12"):
        write_submission(spec, predictions, [tmp_path / "src"], tmp_path / "out", show_progress=False)
    assert not (tmp_path / "out").exists()


def test_in_2023_shape_or_affine_is_enough(tmp_path: Path) -> None:
    spec = EDITIONS["brats2023-gli"]
    case = spec.archive.case(0, True)
    write(spec, tmp_path / "src")
    predictions = predict(spec, tmp_path / "src", tmp_path / "predictions")
    write_submission(spec, predictions, [tmp_path / "src"], tmp_path / "out", show_progress=False)
    moved = AFFINE.copy()
    moved[1, 3] = 200
    for path in (tmp_path / "src").rglob("*.nii.gz"):
        save(path, np.asanyarray(nib.load(path).dataobj), moved)
    save(predictions / f"{case}.nii.gz", read_label(spec, case, next((tmp_path / "src").rglob("*-seg.nii.gz"))), moved)
    with pytest.raises(InputError, match="1 cases whose grid Synapse does not take"):
        write_submission(spec, predictions, [tmp_path / "src"], tmp_path / "out", show_progress=False)
    own = replace(spec, platform=replace(spec.platform, grid=SHAPE))
    write_submission(own, predictions, [tmp_path / "src"], tmp_path / "out", show_progress=False)


def test_a_case_of_full_size(tmp_path: Path) -> None:
    spec = EDITIONS["brats2024-met"]
    write(spec, tmp_path / "src", shape=(240, 240, 155), missing=["t1", "t1ce", "t2"])
    predictions = predict(spec, tmp_path / "src", tmp_path / "predictions")
    archive = write_submission(spec, predictions, [tmp_path / "src"], tmp_path / "out", show_progress=False)
    assert zipfile.ZipFile(archive).namelist() == [f"{spec.archive.case(0, True)}.nii.gz"]


def test_myops(tmp_path: Path) -> None:
    spec = EDITIONS["myops2020"]
    write(spec, tmp_path / "src")
    predictions = predict(spec, tmp_path / "src", tmp_path / "predictions")
    arguments = ["-i", str(predictions), "-ref", str(tmp_path / "src"), "-o", str(tmp_path / "out")]
    assert main(["submit", "myops2020", *arguments, "--file_name", "{case}_seg.nii.gz"]) == 0
    written = nib.load(tmp_path / "out" / "myops_training_101_seg.nii.gz")
    assert written.get_data_dtype() == np.int16 and np.array_equal(np.asanyarray(written.dataobj), truth(spec))


@pytest.mark.parametrize(
    ("file_name", "message"),
    [
        ("seg.nii.gz", "expected a name with {case}"),
        ("x/{case}.nii.gz", "no folders"),
        ("{case}.nii", "ends in .nii.gz"),
        ("{case}_seg.nii.gz", "2 file names in which Synapse finds no id .*BraTS2021_00000_seg.nii.gz"),
    ],
)
def test_names_that_will_not_do(file_name: str, message: str, brats2021: tuple[Path, Path], tmp_path: Path) -> None:
    spec, (source, predictions) = EDITIONS["brats2021"], brats2021
    with pytest.raises(InputError, match=message):
        write_submission(spec, predictions, [source], tmp_path / "out", file_name=file_name, show_progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("edition", ["brats2023-men", "brats2024-ped", "myops2020"])
def test_labels_of_another_edition(edition: str, tmp_path: Path) -> None:
    spec = EDITIONS[edition]
    write(spec, tmp_path / "src")
    case = spec.archive.case(0, True)
    save(tmp_path / "predictions" / f"{case}.nii.gz", np.full(SHAPE, 7, np.uint8))
    own = replace(spec, platform=replace(spec.platform, grid=None))
    with pytest.raises(InputError, match=rf"labels other than 0, 1, 2.*: {case}.nii.gz \(7\)"):
        write_submission(own, tmp_path / "predictions", [tmp_path / "src"], tmp_path / "out", show_progress=False)
