"""``mmkd convert auto``: which edition, why, and when it does not say."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from brats_like import AFFINE, save
from edition_fixtures import truth, write

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.editions.recognise import recognise
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError

ARCHIVES = {name: spec for name, spec in EDITIONS.items() if spec.archive is not None}


@pytest.mark.parametrize("spec", ARCHIVES.values(), ids=ARCHIVES)
@pytest.mark.parametrize("label", [True, False])
def test_the_layout_of_every_edition(spec: EditionSpec, label: bool, tmp_path: Path) -> None:
    write(spec, tmp_path)
    if not label and spec.name != "brats2024-ped":  # its validation folder has no year
        write(spec, tmp_path / "validation", label=False)
        assert recognise([tmp_path / "validation"]).spec is spec
    assert recognise([tmp_path]).spec is spec


def test_it_says_how(tmp_path: Path, raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(EDITIONS["brats2024-ped"], tmp_path / "src", folder="BraTS-PED-00001-000")
    with caplog.at_level(logging.INFO):
        assert main(["convert", "auto", str(tmp_path / "src"), "-np", "1", "--disable_progress_bar"]) == 0
    assert "1 cases with names like BraTS-PED-00001-000: brats2023-ped or brats2024-ped" in caplog.text
    assert "labels 0, 1, 2, 3, 4 in 1 files: brats2024-ped" in caplog.text
    assert "recognised as BraTS 2024 PED (brats2024-ped)" in caplog.text
    assert (raw / "Dataset512_BraTS2024PED" / "dataset.json").is_file()


def test_labels_outweigh_the_folder(tmp_path: Path) -> None:
    write(EDITIONS["brats2024-ped"], tmp_path, folder="BraTS2023/BraTS-PED-00001-000")
    assert recognise([tmp_path]).spec.name == "brats2024-ped"


def test_the_grid(tmp_path: Path) -> None:
    for suffix in ("t1n", "t2f"):
        save(
            tmp_path / "BraTS-GLI-00001-000" / f"BraTS-GLI-00001-000-{suffix}.nii.gz",
            np.ones((182, 218, 182), np.uint8),
        )
    recognised = recognise([tmp_path])
    assert recognised.spec.name == "brats2024-gli" and recognised.reasons[-1] == "grid 182x218x182: brats2024-gli"


@pytest.mark.parametrize(
    ("folders", "edition"),
    [
        (["BraTS2025-GLI-PRE-Challenge-TrainingData/BraTS-GLI-00001-000"], "brats2025-gli-pre"),
        (["training_data1_v2/BraTS-GLI-00001-100"], "brats2024-gli"),
        (["BraTS2025/a/BraTS-GLI-00001-000", "BraTS2025/b/BraTS-GLI-00001-100"], "brats2025-gli"),
        (["a/BraTS-GLI-00001-000"], "brats2023-gli"),
        (["a/BraTS-GLI-00001-100"], "brats2024-gli"),
        (["a/BraTS-PED-00001-000"], "brats2024-ped"),
        (["BraTS2025/BraTS-PED-00001-000"], "brats2025-ped"),
        (["MICCAI-LH-BraTS2025-MET-Challenge-Training/BraTS-MET-00001-000"], "brats2025-met"),
    ],
)
def test_what_is_of_2025(folders: list[str], edition: str, tmp_path: Path) -> None:
    for folder in folders:
        write(EDITIONS["brats2024-ped" if "PED" in folder else "brats2023-met"], tmp_path, folder=folder)
    assert recognise([tmp_path]).spec.name == edition


@pytest.mark.parametrize(
    ("edition", "names"),
    [
        ("brats2023-ssa", "brats2023-ssa or brats2024-ssa"),
        ("brats2023-met", "brats2023-met or brats2024-met"),
        ("fets2022", "fets2022 or fets2024"),
    ],
)
def test_what_cannot_be_told(edition: str, names: str, tmp_path: Path) -> None:
    case = write(EDITIONS[edition], tmp_path / "elsewhere").name
    write(EDITIONS[edition], tmp_path / "src", folder=case)
    with pytest.raises(InputError, match=rf"cannot be told .*{names}.*name it, e.g. mmkd convert {edition}"):
        recognise([tmp_path / "src"])


def test_folders_of_two_years_suggest_nothing(tmp_path: Path) -> None:
    for year in (2023, 2024):
        write(EDITIONS["brats2023-ssa"], tmp_path, folder=f"BraTS{year}/BraTS-SSA-0000{year % 10}-000")
    with pytest.raises(InputError, match="cannot be told"):
        recognise([tmp_path])


def test_cases_of_several_editions(tmp_path: Path) -> None:
    for edition in ("brats2018", "brats2021", "myops2020"):
        write(EDITIONS[edition], tmp_path)
    found = r"brats2018 \(1 cases\), brats2021 \(1 cases\), myops2020 \(1 cases\)"
    with pytest.raises(InputError, match=f"several editions: {found}"):
        recognise([tmp_path])


def test_no_edition(tmp_path: Path) -> None:
    save(tmp_path / "src" / "patient_1" / "patient_1_t1.nii.gz", truth(EDITIONS["brats2018"]), AFFINE)
    with pytest.raises(InputError, match=r"no case of any edition.*mmkd convert --list"):
        recognise([tmp_path / "src"])
    with pytest.raises(InputError, match="does not exist"):
        recognise([tmp_path / "nowhere"])


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["convert", "--list"])
    shown = capsys.readouterr().out
    assert left.value.code == 0
    for spec in EDITIONS.values():
        assert f"{spec.name} " in shown and f"Dataset{spec.dataset_id}_{spec.dataset_name}" in shown
        assert all(note in shown for note in spec.notes)
