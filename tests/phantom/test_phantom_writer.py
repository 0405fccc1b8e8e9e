"""Files of the phantom: layout, headers, interruption, incomplete cases, bad output folders, the command line."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_mmkd.cli import main as cli
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.phantom import writer
from nnunetv2_mmkd.phantom.case import PhantomConfig, make_brain_case
from nnunetv2_mmkd.phantom.writer import write_phantom

CONFIG = PhantomConfig(size=16)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_layout_and_headers(tmp_path: Path) -> None:
    config = PhantomConfig(size=(16, 20, 18), spacing=2.0)
    folders = write_phantom(tmp_path / "new" / "out", 2, config)
    home = tmp_path / "new" / "out" / "MICCAI_BraTS_2018_Data_Training" / "HGG"
    assert folders == [home / "Brats18_PHANTOM_001_1", home / "Brats18_PHANTOM_002_1"]
    assert sorted(path.name for path in home.iterdir()) == [folder.name for folder in folders]
    for index, folder in enumerate(folders):
        case = make_brain_case(config, index)
        kinds = ("flair", "seg", "t1", "t1ce", "t2")
        assert sorted(p.name for p in folder.iterdir()) == [f"{folder.name}_{kind}.nii.gz" for kind in kinds]
        for kind in kinds:
            image = nib.load(folder / f"{folder.name}_{kind}.nii.gz")
            volume = case.seg if kind == "seg" else case.images[kind]
            assert image.get_data_dtype() == (np.uint8 if kind == "seg" else np.int16)
            assert np.array_equal(np.asanyarray(image.dataobj), volume)
            assert np.array_equal(image.affine, [[-2, 0, 0, 0], [0, -2, 0, 38], [0, 0, 2, 0], [0, 0, 0, 1]])
            for transform in (image.get_sform(coded=True), image.get_qform(coded=True)):
                assert transform[1] == 1
                assert np.allclose(transform[0], case.affine)
            assert image.header.get_zooms() == (2, 2, 2)
            assert image.header.get_xyzt_units()[0] == "mm"


def test_files_of_missing_modalities_are_not_written(tmp_path: Path) -> None:
    folders = write_phantom(tmp_path / "a", 2, CONFIG, missing={1: ("t1gd", "flair")})
    assert len(list(folders[0].iterdir())) == 5
    kinds = ("seg", "t1", "t2")
    assert sorted(p.name for p in folders[1].iterdir()) == [f"{folders[1].name}_{kind}.nii.gz" for kind in kinds]
    whole = write_phantom(tmp_path / "b", 2, CONFIG)  # the images that are there are those of the complete case
    for path in folders[1].iterdir():
        assert path.read_bytes() == (whole[1] / path.name).read_bytes()


def test_a_second_run_completes_the_first_and_touches_nothing_else(tmp_path: Path) -> None:
    folders = write_phantom(tmp_path, 2, CONFIG)
    first = contents(tmp_path)
    (folders[1] / f"{folders[1].name}_t2.nii.gz").unlink()
    (folders[0] / f"{folders[0].name}_t1.nii.gz").unlink()
    untouched = folders[0] / f"{folders[0].name}_seg.nii.gz"
    os.utime(untouched, (1, 1))
    write_phantom(tmp_path, 2, CONFIG)
    assert contents(tmp_path) == first
    assert untouched.stat().st_mtime == 1
    write_phantom(tmp_path, 3, CONFIG)  # more cases are added
    longer = contents(tmp_path)
    assert {name: longer[name] for name in first if name != "phantom.json"}.items() <= first.items()
    assert len(longer) == len(first) + 5


def test_interruption_leaves_no_half_written_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: Path, target: Path) -> None:
        if str(target).endswith("_t2.nii.gz"):
            raise KeyboardInterrupt
        replace(source, target)

    replace = os.replace
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(writer.os, "replace", interrupted)
        write_phantom(tmp_path, 1, CONFIG)
    names = {Path(name).name for name in contents(tmp_path)}
    assert names == {"phantom.json", *(f"Brats18_PHANTOM_001_1_{kind}.nii.gz" for kind in ("t1", "t1ce"))}
    (folder,) = write_phantom(tmp_path, 1, CONFIG)
    assert len(list(folder.iterdir())) == 5


def test_processes_change_nothing(tmp_path: Path) -> None:
    write_phantom(tmp_path / "one", 2, CONFIG)
    write_phantom(tmp_path / "two", 2, CONFIG, processes=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"n": 0}, "at least 1, not 0"),
        ({"processes": 0}, "processes must be at least 1"),
        ({"missing": {1: ("t1",)}}, "case 1, but cases are 0 to 0"),
        ({"missing": {0: ("adc",)}}, "unknown modality 'adc'"),
        ({"missing": {0: "flair"}}, "tuple of names"),
        ({"missing": {0: ("t1", "t1ce", "t2", "flair")}}, "no image at all"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path: Path, arguments: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        write_phantom(**{"out": tmp_path / "out", "n": 1, "config": CONFIG, **arguments})
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_content_is_left_alone(tmp_path: Path) -> None:
    real = tmp_path / "MICCAI_BraTS_2018_Data_Training" / "HGG"
    real.mkdir(parents=True)
    with pytest.raises(InputError, match="holds something else than a phantom"):
        write_phantom(tmp_path, 1, CONFIG)
    assert not list(real.iterdir())
    assert not (tmp_path / "phantom.json").exists()


def test_a_phantom_of_other_settings_is_left_alone(tmp_path: Path) -> None:
    write_phantom(tmp_path, 2, CONFIG)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"other settings \(seed: 0 before, 1 now\)"):
        write_phantom(tmp_path, 2, PhantomConfig(size=16, seed=1))
    with pytest.raises(InputError, match="cases: 2 before, 1 now"):
        write_phantom(tmp_path, 1, CONFIG)
    assert contents(tmp_path) == before
    (tmp_path / "phantom.json").write_text("{")
    with pytest.raises(InputError, match=r"phantom\.json is damaged"):
        write_phantom(tmp_path, 2, CONFIG)


def test_output_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="a file is where a folder is needed"):
        write_phantom(file, 1, CONFIG)
    with pytest.raises(InputError, match=r"cannot write to .*file.sub"):
        write_phantom(file / "sub", 1, CONFIG)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)  # a mode would not stop the superuser
    with pytest.raises(InputError, match="Permission denied; choose another folder"):
        write_phantom(tmp_path / "out", 1, CONFIG)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["phantom", str(out), "-n", "1", "--size", "16", "--seed", "5", "--enhancing", "T2F", "--spacing", "4"]
    assert cli.main([*arguments, "-np", "1", "--disable_progress_bar"]) == 0
    direct = PhantomConfig(size=16, seed=5, enhancing="flair", spacing=4.0)
    write_phantom(tmp_path / "direct", 1, direct)
    assert contents(out) == contents(tmp_path / "direct")
    assert cli.main([*arguments, "--exchangeable", "--disable_progress_bar"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("mmkd phantom: error:")
    assert "exchangeable: false before, true now" in message
    assert "Traceback" not in message
    assert cli.main(["phantom", str(tmp_path / "other"), "--size", "4"]) == 1
    assert not (tmp_path / "other").exists()
