"""Specialists at prediction, alone and chosen per case, on real (untrained) models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
from tiny_nnunet import Home, environment, set_variables, untrained

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.disk import TEMPORARY_FOLDER
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.predictor import MMKDPredictor

SUBSETS = {"a": (0,), "b": (0, 2), "c": (0, 1, 2), "d": (2,)}
"""Case -> channels (t1, t1ce, t2) that it has."""
MODELS = {
    "t1": ("nnUNetTrainerSpecialist_t1", "2d"),
    "t1+t2": ("nnUNetTrainerSpecialist_t2_t1_7epochs", "3d_fullres"),
    "any": ("nnUNetTrainerModalityDropout", "3d_fullres"),
}
HOW = ["-device", "cpu", "--disable_progress_bar", "--disable_tta", "-f", "0", "-step_size", "1"]
ALONE = ["-npp", "0", "-nps", "0"]


@pytest.fixture(scope="module")
def models(session_home: Home, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders: two specialists and a model for any subset, in two configurations."""
    with environment(session_home, tmp_path_factory.mktemp("specialists")):
        return {
            name: untrained(session_home.trainer(find(trainer), session_home.dataset(), configuration), number)
            for number, (name, (trainer, configuration)) in enumerate(MODELS.items())
        }


@pytest.fixture
def images(session_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    """Four cases, which differ in what they have."""
    home = session_home
    set_variables(monkeypatch, home, tmp_path / "results")
    folder = tmp_path / "in"
    folder.mkdir()
    for number, (case, channels) in enumerate(SUBSETS.items()):
        for channel in channels:
            source = home.raw / home.dataset() / "imagesTr" / f"case_{number + 2}_{channel:04d}.nii.gz"
            shutil.copy(source, folder / f"{case}_{channel:04d}.nii.gz")
    return folder


def predict(source: Path, out: Path, *arguments: str | Path, how: tuple[str, ...] = tuple(ALONE)) -> int:
    return main(["predict", "-i", str(source), "-o", str(out), *HOW, *how, *map(str, arguments)])


def only(source: Path, case: str, folder: Path) -> Path:
    folder.mkdir()
    for file in source.glob(f"{case}_*"):
        shutil.copy(file, folder)
    return folder


def report(out: Path) -> dict[str, Any]:
    return json.loads((out / "mmkd_report.json").read_text())


def probabilities(out: Path, case: str) -> np.ndarray:
    return np.load(out / f"{case}.npz")["probabilities"]


# -- one specialist ------------------------------------------------------------------------------------------------


def test_a_specialist_reads_its_modalities_and_no_other(models: dict[str, Path], images: Path, tmp_path: Path) -> None:
    model = ("-m", models["t1+t2"], "--save_probabilities")
    full = only(images, "c", tmp_path / "full")
    assert predict(full, tmp_path / "out_full", *model) == 0
    absent = Path(shutil.copytree(full, tmp_path / "absent"))
    (absent / "c_0001.nii.gz").unlink()
    broken = Path(shutil.copytree(full, tmp_path / "broken"))
    (broken / "c_0001.nii.gz").write_bytes(b"not an image")
    for name in ("absent", "broken"):
        assert predict(tmp_path / name, tmp_path / f"out_{name}", *model) == 0
        assert np.array_equal(probabilities(tmp_path / "out_full", "c"), probabilities(tmp_path / f"out_{name}", "c"))
    entry = report(tmp_path / "out_broken")["cases"]["c"]
    assert (entry["used"], entry["missing"]) == (["t1", "t2"], {"t1ce": "not a modality of this specialist"})
    assert report(tmp_path / "out_absent")["cases"]["c"]["missing"] == {"t1ce": "no file"}


@pytest.mark.parametrize(
    ("case", "arguments", "message"),
    [
        (
            "a",
            (),
            "case a has no t2 (no file), and this model is a specialist for t1 + t2. Predict the case with a mod",
        ),
        ("d", (), "case d has no t1 (no file)"),
        ("c", ("--missing", "t2w"), "t2 is excluded by the user, and this model is a specialist for t1 + t2"),
        ("c", ("--available", "t1", "t1ce"), "t2 is excluded by the user"),
        ("zero", (), "case c has no t2 (all zero)"),
    ],
)
def test_a_case_that_lacks_a_modality_is_refused(
    models: dict[str, Path],
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    case: str,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    source = only(images, "c" if case == "zero" else case, tmp_path / "one")
    if case == "zero":
        file = str(source / "c_0002.nii.gz")
        sitk.WriteImage(sitk.ReadImage(file) * 0, file)
    assert predict(source, tmp_path / "out", "-m", models["t1+t2"], *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_specialist_in_python(models: dict[str, Path], images: Path) -> None:
    predictor = MMKDPredictor(device=torch.device("cpu"), allow_tqdm=False, use_mirroring=False)
    predictor.initialize_from_trained_model_folder(str(models["t1+t2"]), (0,))
    assert (predictor.subset, predictor.modalities) == (("t1", "t2"), ("t1", "t1ce", "t2"))
    files = {name: images / f"c_{channel:04d}.nii.gz" for channel, name in enumerate(("t1", "t1ce", "t2"))}
    expected = predictor.predict_case(files)
    arrays = {name: sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for name, file in files.items()}
    spacing = {"spacing": [1.0, 1.0, 1.0]}
    assert (predictor.predict_case(arrays, properties=spacing) == expected).all()
    arrays["t1ce"][:] = np.nan
    assert (predictor.predict_case(arrays, properties=spacing) == expected).all()
    with pytest.raises(InputError, match=r"case c_0000.nii.gz has no t2 \(no file\)"):
        predictor.predict_case({**files, "t2": None})
    with pytest.raises(InputError, match=r"image of t2 is missing, and this model is a specialist for t1 \+ t2"):
        predictor.predict_case({**arrays, "t2": None}, properties=spacing)
    with pytest.raises(InputError, match="t1 is excluded by the user"):
        predictor.select(missing="t1")


# -- several models --------------------------------------------------------------------------------------------------


def test_each_case_as_its_model_alone(models: dict[str, Path], images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    folders = [models[name] for name in ("any", "t1", "t1+t2")]
    assert predict(images, out, "--models", *folders, "--save_probabilities") == 0
    chosen = {"a": "t1", "b": "t1+t2", "c": "any", "d": "any"}
    for case, name in chosen.items():
        single = only(images, case, tmp_path / case)
        assert predict(single, tmp_path / f"out_{case}", "-m", models[name], "--save_probabilities") == 0
        assert np.array_equal(probabilities(out, case), probabilities(tmp_path / f"out_{case}", case))
        assert (read(out, case) == read(tmp_path / f"out_{case}", case)).all()
    found = report(out)
    assert "model" not in found and found["finished"] and all(entry["done"] for entry in found["cases"].values())
    assert {case: entry["model"]["folder"] for case, entry in found["cases"].items()} == {
        case: str(models[name]) for case, name in chosen.items()
    }
    assert found["cases"]["a"]["model"]["trainer"] == MODELS["t1"][0]
    assert found["cases"]["b"]["used"] == ["t1", "t2"] and found["cases"]["b"]["missing"] == {"t1ce": "no file"}
    assert [model["configuration"] for model in found["models"]] == ["2d", "3d_fullres", "3d_fullres"]
    assert not list(out.glob(f"{TEMPORARY_FOLDER}*"))


@pytest.mark.slow
def test_worker_processes(models: dict[str, Path], images: Path, tmp_path: Path) -> None:
    source, arguments = only(images, "b", tmp_path / "source"), ("--models", models["t1"], models["t1+t2"])
    assert predict(source, tmp_path / "one", *arguments) == 0
    assert predict(source, tmp_path / "two", *arguments, how=("-npp", "1", "-nps", "1")) == 0
    assert (read(tmp_path / "one", "b") == read(tmp_path / "two", "b")).all()
    assert report(tmp_path / "one") == report(tmp_path / "two")


def read(out: Path, case: str) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(out / f"{case}.nii.gz")))


def test_what_is_excluded_or_blank_decides_the_model(models: dict[str, Path], images: Path, tmp_path: Path) -> None:
    file = str(images / "b_0002.nii.gz")
    sitk.WriteImage(sitk.ReadImage(file) * 0, file)  # b has t1 alone now
    out = tmp_path / "out"
    specialists = (models["t1"], models["t1+t2"])
    assert predict(images, out, "--models", *specialists, "-m", models["any"], "--missing", "t1c") == 0
    cases = report(out)["cases"]
    assert {case: entry["model"]["folder"] for case, entry in cases.items()} == {
        "a": str(models["t1"]),
        "b": str(models["t1"]),
        "c": str(models["t1+t2"]),
        "d": str(models["any"]),
    }
    assert cases["b"]["missing"] == {"t1ce": "no file", "t2": "all zero"}


def test_continue_keeps_what_each_model_did(models: dict[str, Path], images: Path, tmp_path: Path) -> None:
    out, everything = tmp_path / "out", ("--models", *models.values())
    assert predict(only(images, "a", tmp_path / "one"), out, *everything) == 0
    before = (out / "a.nii.gz").stat().st_mtime_ns
    assert predict(images, out, *everything, "--continue_prediction") == 0
    assert (out / "a.nii.gz").stat().st_mtime_ns == before
    complete = report(out)
    assert [entry["model"]["trainer"] for entry in complete["cases"].values()] == [
        MODELS[name][0] for name in ("t1", "t1+t2", "any", "any")
    ]
    assert predict(images, out, *everything, "--continue_prediction") == 0  # nothing is left to do
    assert report(out) == complete
    assert predict(only(images, "b", tmp_path / "again"), out, "-m", models["any"]) == 0  # one model, over it
    assert report(out)["cases"]["a"]["model"] == complete["cases"]["a"]["model"]
    assert "model" not in report(out)["cases"]["b"] and report(out)["model"]["folder"] == str(models["any"])


def test_parts(models: dict[str, Path], images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for part in ("0", "1"):
        assert predict(images, out, "--models", *models.values(), "-num_parts", "2", "-part_id", part) == 0
        cases = json.loads((out / f"mmkd_report_part{part}of2.json").read_text())["cases"]
        assert list(cases) == (["a", "c"] if part == "0" else ["b", "d"])
    assert len(list(out.glob("*.nii.gz"))) == 4


def test_a_failure_in_the_second_model_leaves_whole_cases(
    models: dict[str, Path], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, out = MMKDPredictor.predict_sliding_window_return_logits, tmp_path / "out"

    def stop_at_t1_t2(self: Any, data: torch.Tensor) -> torch.Tensor:
        if self.subset == ("t1", "t2"):
            raise KeyboardInterrupt
        return real(self, data)

    monkeypatch.setattr(MMKDPredictor, "predict_sliding_window_return_logits", stop_at_t1_t2)
    assert predict(images, out, "--models", *models.values()) == 130
    assert sorted(file.name for file in out.glob("*.nii.gz")) == ["a.nii.gz"]
    assert not list(out.glob(f"{TEMPORARY_FOLDER}*"))
    found = report(out)
    assert found["finished"] is False
    assert [entry["done"] for entry in found["cases"].values()] == [True, False, False, False]


def other_labels(folder: Path) -> None:
    dataset = json.loads((folder / "dataset.json").read_text())
    dataset["labels"]["edema"] = 3
    (folder / "dataset.json").write_text(json.dumps(dataset))


def other_channels(folder: Path) -> None:
    for name in ("dataset.json", "plans.json"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace('"T2"', '"PD"').replace('"t2"', '"pd"'))


def no_checkpoint(folder: Path) -> None:
    (folder / "fold_0" / "checkpoint_final.pth").unlink()


def broken_checkpoint(folder: Path) -> None:
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"no checkpoint")


def unknown_trainer(folder: Path) -> None:
    file = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    torch.save({**content, "trainer_name": "nnUNetTrainerNobodyKnows"}, file)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_labels, "cannot predict side by side: the labels of the one"),
        (other_channels, "cannot predict side by side: the channels of the one"),
        (no_checkpoint, "has no checkpoint_final.pth for fold 0"),
        (broken_checkpoint, "checkpoint_final.pth cannot be read"),
        (unknown_trainer, "the class of its trainer nnUNetTrainerNobodyKnows was not found"),
        (lambda folder: (folder / "plans.json").unlink(), "is not the folder of a trained model"),
    ],
)
def test_models_that_are_refused(
    models: dict[str, Path], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Any, message: str
) -> None:
    odd = Path(shutil.copytree(models["t1+t2"], tmp_path / models["t1+t2"].name))
    spoil(odd)
    assert predict(images, tmp_path / "out", "--models", models["t1"], odd, "-m", models["any"]) == 1
    error = capsys.readouterr().err
    assert message in error and str(odd) in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["t1", "t1+t2"], "case c has t1 + t1ce + t2 (1 more have no model, too): none of the models is for exactly"),
        (["t1", "any", "t1"], "are both for t1: give one of them"),
        (["any", "t1", "any"], "are both for any subset: give one of them"),
    ],
)
def test_choices_that_are_refused(
    models: dict[str, Path],
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    names: list[str],
    message: str,
) -> None:
    assert predict(images, tmp_path / "out", "--models", *[models[name] for name in names]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_broken_image_is_refused_before_the_first_model(
    models: dict[str, Path], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "d_0002.nii.gz").write_bytes(b"not an image")
    assert predict(images, tmp_path / "out", "--models", *models.values()) == 1
    assert "case d, t2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
