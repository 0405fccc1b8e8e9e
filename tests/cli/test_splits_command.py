"""``mmkd splits``: exit codes and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from listed import write_lines, write_names

from nnunetv2_mmkd.cli.main import main

CASES = [f"case_{number}" for number in range(5)]


def test_lists_patients_and_an_existing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_names(tmp_path, monkeypatch, CASES)
    train = str(write_lines(tmp_path / "train.txt", *CASES[:3]))
    val = str(write_lines(tmp_path / "val.txt", *CASES[3:]))
    assert main(["splits", "-d", "501", train, val]) == 0
    assert capsys.readouterr().out == f"fold 0: 3 training, 2 validation cases\n{folder / 'splits_final.json'}\n"
    assert main(["splits", "patients", "-d", "501"]) == 1
    assert "mmkd splits: error:" in capsys.readouterr().err
    key = ["--patient_key", r"case_(\d)", "--seed", "2"]
    assert main(["splits", "patients", "-d", "501", "--folds", "2", "--overwrite", *key]) == 0
    assert len(json.loads((folder / "splits_final.json").read_text())) == 2


@pytest.mark.parametrize("argv", [["patients"], ["-d", "501"], ["-d", "x", "patients"]])
def test_wrong_usage(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["splits", *argv])
    assert caught.value.code == 2


def test_institutions_and_partial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_names(tmp_path, monkeypatch, CASES)
    rows = [f"{site},{case}" for site, case in zip("11223", [*CASES[:4], "stranger"], strict=True)]
    table = str(write_lines(tmp_path / "partitioning_1.csv", "Partition_ID,Subject_ID", *rows))
    assert main(["splits", "institutions", table, "-d", "501", "--folds", "2"]) == 1
    assert "stranger" in capsys.readouterr().err
    assert main(["splits", "institutions", table, "-d", "501", "--folds", "2", "--partial"]) == 0
    assert "fold 1: 2 training, 2 validation cases" in capsys.readouterr().out
