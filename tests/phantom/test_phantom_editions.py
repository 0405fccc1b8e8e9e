"""Phantoms as the archives of every edition: found, recognised, labelled; time points, tables, grid."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.editions.discover import discover
from nnunetv2_mmkd.editions.recognise import recognise
from nnunetv2_mmkd.editions.spec import Channel, EditionSpec
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.phantom.case import PhantomConfig, make_brain_case
from nnunetv2_mmkd.phantom.editions import Config, fitting_config
from nnunetv2_mmkd.phantom.heart_case import HeartConfig
from nnunetv2_mmkd.phantom.writer import write_phantom

PHANTOMS = {name: spec for name, spec in EDITIONS.items() if spec.archive is not None}
every_edition = pytest.mark.parametrize("spec", PHANTOMS.values(), ids=PHANTOMS)


def small(spec: EditionSpec) -> Config:
    return HeartConfig(size=32) if spec.name.startswith("myops") else PhantomConfig(size=16)


@every_edition
def test_it_is_found_and_recognised(spec: EditionSpec, tmp_path: Path) -> None:
    missing = [channel.name for channel in spec.channels[1:]]
    folders = write_phantom(tmp_path, 4, small(spec), edition=spec, validation=1, missing={2: missing})
    found = {files.case: files for files in discover(spec, [tmp_path])}
    training = [spec.archive.case(index, True) for index in range(4)]
    assert sorted(found) == sorted([*training, spec.archive.case(0, False)])
    assert [found[case].folder for case in training] == folders[:4]
    for index, case in enumerate(training):
        assert sum(image is not None for image in found[case].images) == (1 if index == 2 else len(spec.channels))
        label = nib.load(found[case].label)
        assert set(np.unique(label.dataobj)) == set(spec.allowed_labels)
        assert label.get_data_dtype() == (np.int16 if max(spec.allowed_labels) > 255 else np.uint8)
    assert found[spec.archive.case(0, False)].label is None
    assert recognise([tmp_path]).spec is spec


def test_the_cases_without_label_are_others(tmp_path: Path) -> None:
    spec = EDITIONS["brats2021"]
    write_phantom(tmp_path, 1, small(spec), edition=spec, validation=1)
    images = [np.asanyarray(nib.load(files.images[0]).dataobj) for files in discover(spec, [tmp_path])]
    assert len(images) == 2 and not np.array_equal(*images)


@pytest.mark.parametrize("edition", ["brats2024-gli", "brats2024-ped"])
def test_cavities_and_time_points(edition: str, tmp_path: Path) -> None:
    spec = EDITIONS[edition]
    assert spec.archive.visits == 2
    write_phantom(tmp_path, 4, small(spec), edition=spec)
    cases = discover(spec, [tmp_path])
    assert len({spec.patient(files.case) for files in cases}) == 2
    plain = make_brain_case(PhantomConfig(size=16), 0)
    hollow = make_brain_case(PhantomConfig(size=16, cavity=True), 0)
    assert ((plain.tissue != hollow.tissue) == (hollow.tissue == 7)).all() and (
        plain.tissue[hollow.tissue == 7] == 5
    ).all()


@pytest.mark.parametrize(
    ("edition", "columns"),
    [("fets2021", ["Subject_ID", "Partition_ID"]), ("fets2022", ["Partition_ID", "Subject_ID"])],
)
def test_the_table_of_institutions(edition: str, columns: Sequence[str], tmp_path: Path) -> None:
    spec = EDITIONS[edition]
    (folder, *_) = write_phantom(tmp_path, 4, small(spec), edition=spec)
    with (folder.parent / "partitioning_1.csv").open() as file:
        reader = csv.DictReader(file)
        rows = {row["Subject_ID"]: row["Partition_ID"] for row in reader}
    assert reader.fieldnames == columns
    assert rows == {spec.archive.case(index, True): str(1 + index % 3) for index in range(4)}


def test_padded_to_the_grid_of_the_edition(tmp_path: Path) -> None:
    config = PhantomConfig(size=16, spacing=1, grid=(40, 240, 20))
    case, plain = make_brain_case(config, 0), make_brain_case(PhantomConfig(size=16, spacing=1), 0)
    assert np.array_equal(case.affine, [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
    inner = (slice(12, 28), slice(112, 128), slice(2, 18))
    for padded, small_one in ((case.seg, plain.seg), (case.images["t2"], plain.images["t2"])):
        assert padded.shape == (40, 240, 20) and np.array_equal(padded[inner], small_one)
        assert np.count_nonzero(padded) == np.count_nonzero(small_one)
    with pytest.raises(InputError, match="does not fit into a grid"):
        PhantomConfig(size=16, grid=(40, 15, 20))


def test_more_cases_without_label_may_be_added(tmp_path: Path) -> None:
    spec = EDITIONS["fets2022"]
    write_phantom(tmp_path, 1, small(spec), edition=spec)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.nii.gz")}
    write_phantom(tmp_path, 2, small(spec), edition=spec, validation=1)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(discover(spec, [tmp_path])) == 3
    assert json.loads((tmp_path / "phantom.json").read_text())["edition"] == "fets2022"
    with pytest.raises(InputError, match="validation: 1 before, 0 now"):
        write_phantom(tmp_path, 2, small(spec), edition=spec)
    with pytest.raises(InputError, match='edition: "fets2022" before, "brats2021" now'):
        write_phantom(tmp_path, 2, small(spec), edition=EDITIONS["brats2021"], validation=1)


def test_editions_without_a_phantom(tmp_path: Path) -> None:
    spec = EDITIONS["brats2018"]
    with pytest.raises(InputError, match=r"does not say what its archives look like"):
        write_phantom(tmp_path, 1, edition=replace(spec, archive=None))
    pelvis = replace(spec, channels=(Channel("adc", "ADC", ("adc",)),), archive=None)
    with pytest.raises(InputError, match=r"no phantom has the modalities adc with the labels \[1, 2, 3\]"):
        write_phantom(tmp_path, 1, edition=pelvis)
    with pytest.raises(InputError, match="HeartConfig is not for BraTS 2018"):
        write_phantom(tmp_path, 1, HeartConfig(), edition=spec)
    with pytest.raises(InputError, match="PhantomConfig is not for MyoPS"):
        fitting_config(EDITIONS["myops2020"], PhantomConfig())
    with pytest.raises(InputError, match="must not be negative, not -1"):
        write_phantom(tmp_path / "out", 1, edition=spec, validation=-1)
    assert not (tmp_path / "out").exists()


def test_an_archive_that_contradicts_its_spec() -> None:
    spec = EDITIONS["brats2021"]
    with pytest.raises(InputError, match=r"archive: \['x', 'y'\] do not match case_pattern"):
        replace(spec, archive=replace(spec.archive, training="a/x", validation="b/y"))
    with pytest.raises(InputError, match="archive: a training and a validation case have one name"):
        replace(spec, archive=replace(spec.archive, first=(1, 1)))
    with pytest.raises(InputError, match="archive: 5 endings"):
        replace(spec, archive=replace(spec.archive, endings=("_t1", "_seg")))


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["-np", "1", "--disable_progress_bar"]
    heart = ["phantom", "--edition", "MyoPS2020", str(tmp_path / "heart"), "--cases", "2", "--validation", "1"]
    assert main([*heart, "--size", "32", *how]) == 0
    assert len(list((tmp_path / "heart" / "train25").iterdir())) == 6
    assert len(list((tmp_path / "heart" / "test20").iterdir())) == 3
    for brains in (["--full_grid"], ["--size", "32", "32", "4"], ["--exchangeable"], ["--enhancing", "t2"]):
        assert main([*heart, *brains, *how]) == 1
        assert "its phantom is a heart" in capsys.readouterr().err
    grid = ["phantom", str(tmp_path / "grid"), "--edition", "brats2024-gli", "-n", "1", "--size", "16", "--full_grid"]
    assert main([*grid, *how]) == 0
    (image,) = (tmp_path / "grid").rglob("*-t1n.nii.gz")
    assert nib.load(image).shape == (182, 218, 182) and nib.load(image).header.get_zooms() == (1, 1, 1)
    assert main(["phantom", str(tmp_path / "none"), "--edition", "brats1999"]) == 1
    assert "unknown edition" in capsys.readouterr().err and not (tmp_path / "none").exists()
