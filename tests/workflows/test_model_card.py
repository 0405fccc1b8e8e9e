"""``mmkd card``: the head is the Hub's, and nothing is told that the model's folder does not know."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_nnunet import Home, environment, set_variables, untrained

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.evaluation.card import write_card
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerMetaKD

SUBSETS = ("t1", "t2", "t1+t2", "t1+t1ce+t2")


@pytest.fixture(scope="module")
def folder(session_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of fold 0, not trained."""
    with environment(session_home, tmp_path_factory.mktemp("card")):
        return untrained(session_home.trainer(nnUNetTrainerMetaKD, session_home.dataset(3, "regions")), 0)


@pytest.fixture(autouse=True)
def variables(session_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, session_home, tmp_path / "results")


def card(folder: Path, out: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Head and body."""
    assert main(["card", "-m", str(folder), "-o", str(out), *arguments]) == 0
    _, head, body = out.read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), body


def sections(body: str) -> dict[str, str]:
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in body.split("\n## ")[1:]}


def test_what_is_not_known_is_not_told(folder: Path, tmp_path: Path) -> None:
    head, body = card(folder, tmp_path / "card.md")
    assert head["license"] == "unknown" and "model-index" not in head and "metrics" not in head
    found = sections(body)
    assert list(found) == [
        "Use", "Intended use", "Training data", "Training", "Performance", "Limits", "Licence and citation",
    ]  # fmt: skip
    assert "**Not known.**" in found["Performance"] and "No validation is known" in found["Limits"]
    assert "| source | not known |" in found["Training data"] and "| terms | not known |" in found["Training data"]
    assert "licence is not stated" in found["Licence and citation"]
    assert "not a medical device" in found["Intended use"]


def test_what_is_known(folder: Path, tmp_path: Path) -> None:
    values = {name: {"whole": 0.9 - 0.1 * n, "core": 0.5 + 0.1 * n} for n, name in enumerate(SUBSETS)}
    subsets = {
        name: {region: {"mean": value, "sd": 0.05, "cases": 2} for region, value in row.items()}
        for name, row in values.items()
    }
    before = (folder / "dataset.json").read_bytes()
    try:
        write_card(str(folder), {"0": {"metric": "dice", "checkpoint": "checkpoint_final.pth", "subsets": subsets}})
        head, body = card(folder, tmp_path / "card.md", "--license", "cc-by-nc-4.0", "-f", "0")
    finally:
        (folder / "dataset.json").write_bytes(before)
    assert head["license"] == "cc-by-nc-4.0" and head["pipeline_tag"] == "image-segmentation"
    assert head["library_name"] == "nnunetv2-mmkd" and {"missing-modalities", "t1ce"} <= set(head["tags"])
    (index,) = head["model-index"]
    (result,) = index["results"]
    assert index["name"] and set(result) == {"task", "dataset", "metrics"}
    assert result["task"]["type"] == "image-segmentation" and {"type", "name"} <= set(result["dataset"])
    assert {each["name"]: each["value"] for each in result["metrics"]} == {
        "Dice whole, all modalities": 0.6,
        "Dice core, all modalities": 0.8,
        "Dice whole, mean over 4 subsets": 0.75,
        "Dice core, mean over 4 subsets": 0.65,
    }
    assert all(each["type"] == "dice" for each in result["metrics"])
    found = sections(body)
    assert "| t1+t2 | 0.700 ± 0.050 | 0.700 ± 0.050 |" in found["Performance"]
    assert "whole is worst with t1+t1ce+t2: Dice 0.60" in found["Limits"] and "2 cases only" in found["Limits"]
    assert "arxiv.org/abs/2405.07155" in found["Training"] and "2405.07155" in found["Licence and citation"]
    assert "| cases that lack a modality | 1: t2 in 1 |" in found["Training data"]
    assert "`_0001` t1ce" in found["Use"] and "epochs; nnU-Net's own schedule has 1000" in found["Limits"]


def test_the_place_of_the_card(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["card", "-m", str(folder)]
    try:
        assert main(argv) == 0
        first = (folder / "README.md").read_text()
        assert first.startswith("---\nlicense: unknown\n")
        assert main(argv) == 1 and "--overwrite replaces it" in capsys.readouterr().err
        assert main([*argv, "--overwrite", "--license", "mit"]) == 0
        assert (folder / "README.md").read_text() != first
    finally:
        (folder / "README.md").unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--license", "My licence"], "is no identifier of the Hub"),
        (["-f", "3"], "has no checkpoint_final.pth for fold 3; folds with it: 0"),
        (["-chk", "checkpoint_best.pth"], "has no checkpoint_best.pth"),
    ],
)
def test_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["card", "-m", str(folder), "-o", str(tmp_path / "card.md"), *arguments]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "card.md").exists()


def test_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", "-m", str(tmp_path)]) == 1
    assert "is not the folder of a trained model: plans.json does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"trainer": "nnUNetTrainerLCKD", "training_cases": 4}'])
def test_what_no_training_wrote(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    file = shutil.copytree(folder, tmp_path / folder.name) / "fold_0" / "mmkd_config.json"
    assert file.is_file()
    file.write_text(content)
    assert main(["card", "-m", str(tmp_path / folder.name), "-o", str(tmp_path / "card.md")]) == 1
    assert str(file) in capsys.readouterr().err and not (tmp_path / "card.md").exists()
