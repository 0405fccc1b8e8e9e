"""``mmkd rates``: exit codes and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from listed import write_lines, write_names

from nnunetv2_mmkd.cli import rates as verb
from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.protocols.missing_masks import PASSION_ORDER

CASES = [f"case_{number}" for number in range(5)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_names(tmp_path, monkeypatch, CASES)


def test_by_name_and_seed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["rates", "-d", "501", "--tag", "mr2468", "--rates", "t1=0.2", "t1ce=0.4", "t2=0.6", "flair=0.8"]
    assert main([*argv, "--seed", "1037"]) == 0
    out = capsys.readouterr().out
    assert "all cases (5)" in out and out.endswith(f"{folder / 'mmkd_missing_mr2468.json'}\n")
    assert json.loads((folder / "mmkd_missing_mr2468.json").read_text())["seed"] == 1037
    assert main([*argv, "--seed", "3"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*argv, "--seed", "3", "--overwrite"]) == 0


def test_csv_and_institutions(tmp_path: Path, folder: Path) -> None:
    rows = [f'{case},0,"[False, True, True, True]",[0]' for case in CASES]
    table = str(write_lines(tmp_path / "masks.csv", "data_name,mask_id,mask,pos_mask_ids", *rows))
    assert main(["rates", "-d", "501", "--tag", "csv", "--csv", table]) == 0
    assert json.loads((folder / "mmkd_missing_csv.json").read_text())["missing"][CASES[0]] == ["flair"]
    sites = str(write_lines(tmp_path / "sites.csv", "Subject_ID,Partition_ID", *(f"{case},1" for case in CASES)))
    assert main(["rates", "-d", "501", "--tag", "site", "--lacks", "1=t1ce", "--sites", sites]) == 0
    assert json.loads((folder / "mmkd_missing_site.json").read_text())["missing"][CASES[0]] == ["t1ce"]
    assert main(["rates", "-d", "501", "--tag", "none", "--lacks", "1=t1ce"]) == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["--tag", "x", "--rates", "t1=0.2"],
        ["-d", "501", "--rates", "t1=0.2"],
        ["-d", "501", "--tag", "x"],
        ["-d", "501", "--tag", "x", "--rates", "t1=0.2", "--csv", "x.csv"],
    ],
)
def test_wrong_usage(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["rates", *argv])
    assert caught.value.code == 2


def test_default_order_is_the_literatures() -> None:
    args = verb.build_parser().parse_args(["-d", "1", "--tag", "x", "--csv", "x.csv"])
    assert tuple(args.order) == PASSION_ORDER
