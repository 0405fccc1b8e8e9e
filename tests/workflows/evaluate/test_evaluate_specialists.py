"""``mmkd evaluate`` and ``mmkd compare`` with specialists and a model for any subset, on real (untrained) models."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
from tiny_nnunet import Home, environment, untrained

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.evaluation.card import CARD_KEY
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.subsets import all_subset_names

HOW = ["-device", "cpu", "-np", "1", "-nps", "0", "--disable_progress_bar", "--disable_tta", "-step_size", "1"]
GENERAL, ONE, TWO = "ModalityDropout", "Specialist_t1", "Specialist_t2_t1"
EVERYTHING = all_subset_names(("t1", "t1ce", "t2"))


@pytest.fixture(scope="module")
def models(session_home: Home, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders of fold 0, which is validated on case_3 and case_5."""
    with environment(session_home, tmp_path_factory.mktemp("models")):
        return {
            name: untrained(session_home.trainer(find(f"nnUNetTrainer{name}"), session_home.dataset()), number)
            for number, name in enumerate((GENERAL, ONE, TWO))
        }


def run(out: Path, *arguments: str | Path) -> int:
    return main(["evaluate", "-o", str(out), *HOW, "--metrics", "dice", *map(str, arguments)])


def results(out: Path) -> pd.DataFrame:
    return ResultTable.read(out / "results.csv").rows


def subsets_of(table: pd.DataFrame) -> dict[str, list[str]]:
    return {str(method): list(rows["subset"].unique()) for method, rows in table.groupby("method")}


def test_a_specialist_has_its_subset_alone(
    copies: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(out, "-m", *(copies[name] for name in (TWO, GENERAL, ONE))) == 0
    table = results(out)
    assert subsets_of(table) == {GENERAL: EVERYTHING, ONE: ["t1"], TWO: ["t1+t2"]}
    assert set(table["case"]) == {"case_3", "case_5"} and not table["value"].isna().any()
    assert set(pd.read_csv(out / "shapley.csv")["method"]) == {GENERAL}
    card = json.loads((copies[TWO] / "dataset.json").read_text())[CARD_KEY]
    assert list(card["0"]["subsets"]) == ["t1+t2"]
    assert {file.name for file in (out / "figures").glob("*.png")} >= {
        "dice_heat_map.png", "dice_boxplots.png", "dice_change.png", "dice_contributions.png"
    }  # fmt: skip
    assert list((out / "figures").glob("overlay_*.png"))
    capsys.readouterr()

    csv = str(out / "results.csv")
    assert main(["compare", GENERAL, TWO, "-i", csv, "--subsets", "T2w+t1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = table[(table["subset"] == "t1+t2") & (table["region"] == "core")].groupby("method")["value"].mean()
    assert len(lines) == 3 and "2 cases of 2 patients, 1 subsets" in lines[1]
    core = next(line for line in lines if line.startswith("core"))
    assert f"{100 * (rows[GENERAL] - rows[TWO]):+.2f} [" in core
    assert main(["compare", GENERAL, TWO, "-i", csv, "--subsets", "flair"]) == 1
    assert "no subset 'flair' in " in (error := capsys.readouterr().err) and "; there are t1" in error


@pytest.mark.usefixtures("no_figures_of_the_table")
def test_specialists_together_as_one_method(
    copies: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ("-m", *copies.values(), "--specialists", "Specialists", "--no_card")
    assert run(out, *arguments, "--improvement", "Specialists") == 0
    assert subsets_of(results(out)) == {GENERAL: EVERYTHING, "Specialists": ["t1", "t1+t2"]}
    assert "Specialists" in (out / "tables" / "dice.md").read_text()
    capsys.readouterr()
    csv = str(out / "results.csv")
    assert main(["compare", GENERAL, "Specialists", "-i", csv, "--subsets", "t1", "t1+t2", "--unit", "subsets"]) == 0
    assert "2 pairs" in capsys.readouterr().out
    assert main(["compare", GENERAL, "Specialists", "-i", csv]) == 1  # the others have no partner


def test_specialists_without_a_model_for_any_subset(copies: dict[str, Path], tmp_path: Path) -> None:
    """Nothing has all subsets, nor the full set."""
    out = tmp_path / "out"
    assert run(out, "-m", copies[ONE], copies[TWO]) == 0
    assert subsets_of(results(out)) == {ONE: ["t1"], TWO: ["t1+t2"]}
    assert not (out / "shapley.csv").exists() and not (out / "figures" / "dice_change.png").exists()


@pytest.mark.usefixtures("no_figures_of_the_table")
def test_a_labelled_folder_with_a_case_that_lacks_a_modality(
    home: Home, copies: dict[str, Path], tmp_path: Path
) -> None:
    raw, out = home.raw / home.dataset(), tmp_path / "out"
    where = ("-i", raw / "imagesTr", "-l", raw / "labelsTr", "-f", "0", "--overlay", "case_1")
    assert run(out, "-m", copies[TWO], copies[ONE], *where) == 0
    cases = results(out).groupby("method")["case"].unique()
    assert "case_1" in cases[ONE] and "case_1" not in cases[TWO] and len(cases[TWO]) == 5


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        ((GENERAL, TWO), ("--subsets", "singles"), "is a specialist for t1+t2, which --subsets leaves out"),
        ((GENERAL,), ("--specialists", "S"), "none of ModalityDropout is a specialist"),
        ((GENERAL, ONE), ("--specialists", GENERAL), "another method has this name"),
        ((ONE, ONE), ("--specialists", "S", "--names", "a", "b"), "two models are for t1; evaluate one of them"),
    ],
)
def test_refusals(
    copies: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    names: tuple[str, ...],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    assert run(tmp_path / "out", "-m", *(copies[name] for name in names), *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.csv").exists()


@pytest.mark.usefixtures("no_figures_of_the_table")
def test_validated_without_the_cases_that_lack_a_modality(
    copies: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = copies[TWO]
    (model / "fold_0" / "validation").mkdir()
    summary = {"metric_per_case": [{"prediction_file": "somewhere/case_3.nii.gz"}]}
    (model / "fold_0" / "validation" / "summary.json").write_text(json.dumps(summary))
    assert run(tmp_path / "out", "-m", model, "--no_card") == 1
    assert "fold 0 of this model was validated on other cases" in capsys.readouterr().err
    dataset = json.loads((model / "dataset.json").read_text())
    dataset["missing_modalities"]["case_5"] = ["T2"]
    (model / "dataset.json").write_text(json.dumps(dataset))
    assert run(tmp_path / "out", "-m", model, "--no_card") == 0
    assert set(results(tmp_path / "out")["case"]) == {"case_3"}
