"""What ``mmkd evaluate`` refuses, and that nothing is predicted before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch
from evaluating import run, validation
from tiny_nnunet import Home

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.score import ScoreSettings
from nnunetv2_mmkd.files import locked
from nnunetv2_mmkd.workflows.evaluate.run import evaluate
from nnunetv2_mmkd.workflows.evaluate.settings import ReportOptions, Target, WindowSettings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-f", "0", "--subsets", "t1+pd"], "unknown modality 'pd'"),
        (["-f", "all"], "fold all"),
        (["-f", "0", "-i", "x"], "-i and -l belong together"),
        (["-f", "0", "--metrics", "jaccard"], "unknown metric 'jaccard'"),
        (["-f", "0", "--lesions", "brats2023-gli"], "WT"),
        (["-f", "0", "--published", "metakd_table1"], "metakd_table1"),
        (["-f", "0", "--template", "metakd_table1"], "template metakd_table1 is a table of the modalities flair"),
        (["-f", "0", "--improvement", "Mine"], "Mine"),
        (["-f", "0", "--overlay", "case_9"], "case_9"),
        (["-f", "0", "--names", "a", "b"], "--names"),
    ],
)
def test_refusals_before_anything_is_predicted(
    home: Home,
    models: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    out = tmp_path / "out"
    assert run(out, "-m", str(models["SharedStreams"]), *arguments) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("case_*.nii.gz"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-10]), "cannot be read as NIfTI"),
        (lambda file: sitk.WriteImage(sitk.ReadImage(str(file)) * 2, str(file)), "holds the label 4; this data set"),
    ],
)
def test_labels_that_cannot_be_scored_are_refused_before_anything_is_predicted(
    home: Home,
    models: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    message: str,
) -> None:
    data = home.raw / home.dataset(3, "regions")
    for folder in ("imagesTr", "labelsTr"):
        for file in (data / folder).glob("case_[02]*"):
            (tmp_path / folder).mkdir(exist_ok=True)
            shutil.copy(file, tmp_path / folder)
    spoil(tmp_path / "labelsTr" / "case_2.nii.gz")
    where = ("-i", str(tmp_path / "imagesTr"), "-l", str(tmp_path / "labelsTr"))
    assert run(tmp_path / "out", "-m", str(models["SharedStreams"]), "-f", "0", *where) == 1
    said = capsys.readouterr().err
    assert message in said and "case_2.nii.gz" in said
    assert not list((tmp_path / "out").rglob("case_*"))


def test_splits_that_were_changed_are_refused(
    home: Home, copies: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = copies["SharedStreams"]
    folder = model / "fold_0" / "validation"
    folder.mkdir()
    entries = [{"prediction_file": f"/x/{case}.nii.gz"} for case in validation(home, 1)]
    (folder / "summary.json").write_text(json.dumps({"metric_per_case": entries}))
    assert run(tmp_path / "out", "-m", str(model), "-f", "0") == 1
    assert "validated on other cases" in capsys.readouterr().err


def test_a_checkpoint_of_another_fold_is_refused(
    home: Home, copies: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = copies["ModalityDropout"]
    shutil.copy(model / "fold_1" / "checkpoint_final.pth", model / "fold_0")
    assert run(tmp_path / "out", "-m", str(model), "-f", "0") == 1
    assert "was trained as fold 1, so it may have seen the cases of fold 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_predictions_are_named(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = home.preprocessed / home.dataset(3, "regions") / "gt_segmentations"
    given = tmp_path / "given"
    (given / "T1").mkdir(parents=True)
    assert run(tmp_path / "a", "--predictions", f"X={given}", "-l", str(labels)) == 1
    assert f"{given / 'T1'}: name the folder t1" in capsys.readouterr().err
    (given / "T1").rename(given / "t1")
    for case in ("case_0", "case_2"):
        shutil.copy(labels / f"{case}.nii.gz", given / "t1")
    assert run(tmp_path / "a", "--predictions", f"X={given}", "-l", str(labels)) == 1
    assert "X: case case_1 has no prediction with t1" in capsys.readouterr().err
    assert run(tmp_path / "a", "--predictions", f"X={given}") == 1
    assert "-l" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-f", "0"], "-f is for models"),
        (["--names", "a"], "--names is for models"),
    ],
)
def test_what_is_for_models_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "given").mkdir()
    with pytest.raises(SystemExit):
        run(tmp_path / "out", "--predictions", f"X={tmp_path / 'given'}", "-l", str(tmp_path), *arguments)
    assert message in capsys.readouterr().err


def test_output_into_what_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "given").mkdir()
    assert run(tmp_path / "given", "--predictions", f"X={tmp_path / 'given'}", "-l", str(tmp_path)) == 1
    assert "which is read: results would be mixed with input" in capsys.readouterr().err


def test_nothing_to_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "a") == 1
    assert "nothing to evaluate" in capsys.readouterr().err


def test_a_call_from_python_locks_the_folder_as_well(tmp_path: Path) -> None:
    def call(models: dict[str, str], folders: dict[str, str]) -> None:
        evaluate(tmp_path / "a", models, folders, Target(), WindowSettings(), ScoreSettings(), ReportOptions())

    with pytest.raises(InputError, match="nothing to evaluate"):
        call({}, {})
    assert not (tmp_path / "a").exists()
    with pytest.raises(InputError, match="X names a model and a folder of predictions"):
        call({"Y": "y", "X": "x"}, {"X": "x"})
    with locked(tmp_path / "a"), pytest.raises(InputError, match="is in use by process"):
        call({}, {})


def test_a_network_that_diverged_is_named(
    home: Home, copies: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = copies["SharedStreams"] / "fold_0" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=False)
    for value, message in ((torch.nan, "in 'network_weights' is NaN"), (3e38, "the network's output is NaN")):
        for key in [key for key in content["network_weights"] if "seg_layers" in key]:
            content["network_weights"][key].fill_(value)
        torch.save(content, checkpoint)
        assert run(tmp_path / "out", "-m", str(copies["SharedStreams"]), "-f", "0") == 1
        assert message in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("case_*"))
