"""Institutions of FeTS: noted at conversion, so that the converted data set is enough for splits and rates."""

from __future__ import annotations

import json
import logging
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.phantom.case import PhantomConfig
from nnunetv2_mmkd.phantom.writer import write_phantom

HOW = ["-np", "1", "--disable_progress_bar"]


@pytest.fixture
def preprocessed(tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return tmp_path / "preprocessed"


def convert(edition: str, source: Path, *options: str) -> int:
    return main(["convert", edition, str(source), "-d", "516", "--name", "F", *HOW, *options])


@pytest.mark.parametrize("edition", ["fets2021", "fets2022", "fets2024"])
@pytest.mark.parametrize("inside", [True, False])
def test_the_converted_data_set_is_enough(
    edition: str, inside: bool, tmp_path: Path, raw: Path, preprocessed: Path
) -> None:
    spec, source = EDITIONS[edition], tmp_path / "source"
    (folder, *_) = write_phantom(source, 7, PhantomConfig(size=16), edition=spec, validation=1)
    header = (folder.parent / "partitioning_1.csv").read_text().splitlines()[0]
    assert header == ("Subject_ID,Partition_ID" if edition == "fets2021" else "Partition_ID,Subject_ID")
    assert convert(edition, folder.parent if inside else source) == 0
    shutil.rmtree(source)
    entries = json.loads((raw / "Dataset516_F" / "case_map.json").read_text())
    assert entries.pop(spec.archive.case(0, False), {}).get("institution") is None
    site_of = {spec.archive.case(index, True): str(1 + index % 3) for index in range(7)}
    assert {case: entry["institution"] for case, entry in entries.items()} == site_of
    assert main(["splits", "institutions", "-d", "516", "--folds", "3"]) == 0
    folds = json.loads((preprocessed / "Dataset516_F" / "splits_final.json").read_text())
    members = defaultdict(list)
    for case, site in sorted(site_of.items()):
        members[site].append(case)
    assert sorted(fold["val"] for fold in folds) == sorted(members.values())  # leave one institution out
    assert main(["rates", "-d", "516", "--tag", "site", "--lacks", "2=t1ce,flair"]) == 0
    table = json.loads((preprocessed / "Dataset516_F" / "mmkd_missing_site.json").read_text())
    assert table["missing"] == {case: ["t1ce", "flair"] for case in members["2"]}
    assert table["source"] == "2=t1ce,flair, institutions of case_map.json"


def test_splits_with_the_conversion(tmp_path: Path, preprocessed: Path) -> None:
    write_phantom(tmp_path / "source", 4, PhantomConfig(size=16), edition=EDITIONS["fets2022"])
    assert convert("fets2022", tmp_path / "source", "--splits", "institutions") == 0
    folds = json.loads((preprocessed / "Dataset516_F" / "splits_final.json").read_text())
    assert len(folds) == 3  # as many as institutions, which are fewer than five
    assert sorted(case for fold in folds for case in fold["val"]) == sorted({*folds[0]["train"], *folds[0]["val"]})


def test_a_table_that_comes_later_or_changes(
    tmp_path: Path, raw: Path, preprocessed: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, source = EDITIONS["fets2022"], tmp_path / "source"
    (folder, *_) = write_phantom(source, 2, PhantomConfig(size=16), edition=spec)
    table = folder.parent / "partitioning_1.csv"
    text = table.read_text()
    table.unlink()
    with caplog.at_level(logging.INFO):
        assert convert("fets2022", source) == 0
    assert "partitioning_1.csv is not in the folder above the cases" in caplog.text
    assert main(["splits", "institutions", "-d", "516", "--folds", "2"]) == 1
    assert "case_map.json names no institutions" in capsys.readouterr().err
    table.write_text(text + "-1,FeTS2022_00001\n9,FeTS2022_77777\n")  # not training data; not here
    assert convert("fets2022", source) == 0
    entries = json.loads((raw / "Dataset516_F" / "case_map.json").read_text())
    assert {case: entry["institution"] for case, entry in entries.items()} == {
        "FeTS2022_90001": "1",
        "FeTS2022_90002": "2",
    }
    table.write_text("Subject_ID,Site\nFeTS2022_90001,1\n")
    assert convert("fets2022", source) == 1
    assert "partitioning_1.csv has no column 'Partition_ID'" in capsys.readouterr().err
