"""nnU-Net's own commands, from training to a prediction by an installed model."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.model_sharing.model_import import install_model_from_zip_file
from nnunetv2.run.run_training import run_training
from tiny_nnunet import Home, differences, set_variables

from nnunetv2_mmkd.evaluation.card import read_card, write_card
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerMetaKD

CPU = torch.device("cpu")
TRAINER = "nnUNetTrainerMetaKD_2epochs_2iters"

STOPS = """
import os

from nnunetv2_mmkd.methods.metakd_config import MetaKDConfig
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerMetaKD
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class nnUNetTrainerStops(nnUNetTrainerMetaKD):
    config = MetaKDConfig(meta_interval=1, meta_steps=1)

    def on_epoch_start(self):
        if str(self.current_epoch) == os.environ.get("TEST_STOPS_BEFORE"):
            raise KeyboardInterrupt
        super().on_epoch_start()


__getattr__ = suffix_resolver(globals())
"""


@pytest.fixture(scope="module")
def trained(session_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``nnUNet_results`` after ``nnUNetv2_train`` with real worker processes."""
    results = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        set_variables(patch, session_home, results)
        patch.setenv("nnUNet_n_proc_DA", "1")
        run_training(session_home.dataset(), "3d_fullres", 0, TRAINER, device=CPU)
    yield results


@pytest.fixture
def model(home: Home, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the trained model."""
    monkeypatch.setenv("nnUNet_results", str(trained))
    return trained / home.dataset() / f"{TRAINER}__nnUNetPlans__3d_fullres"


def predictor_of(model: Path) -> nnUNetPredictor:
    predictor = nnUNetPredictor(tile_step_size=0.5, use_mirroring=True, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    return predictor


def probabilities(predictor: nnUNetPredictor, images: Path, out: Path, channels: tuple[int, ...] = (0, 1, 2)) -> Any:
    """Predict case_3 from files with the stock predictor."""
    out.mkdir()
    files = [str(images / f"case_3_{channel:04d}.nii.gz") for channel in channels]
    predictor.predict_from_files_sequential([files], [str(out / "case_3")], save_probabilities=True)
    assert (out / "case_3.nii.gz").is_file()
    return np.load(out / "case_3.npz")["probabilities"]


def limit_to(predictor: nnUNetPredictor, mask: list[bool]) -> None:
    """Hand the network an explicit mask at every call."""
    predictor.network.register_forward_pre_hook(
        lambda _, args, kwargs: (args, {**kwargs, "available": torch.tensor(mask)}), with_kwargs=True, prepend=True
    )


@pytest.mark.slow
def test_training_leaves_what_nnunet_expects(model: Path) -> None:
    fold = model / "fold_0"
    assert {file.name for file in fold.iterdir()} >= {
        "checkpoint_final.pth", "checkpoint_best.pth", "progress.png", "mmkd_progress.png", "mmkd_config.json",
        "mmkd_meta_split.json", "validation", "debug.json",
    }  # fmt: skip
    assert (
        not [file for file in fold.rglob("*") if "tmp" in file.name] and not (fold / "checkpoint_latest.pth").exists()
    )
    assert json.loads((model / "plans.json").read_text())["mmkd"]["modalities"] == ["t1", "t1ce", "t2"]
    assert json.loads((model / "plans.json").read_text())["mmkd"]["orientation"] == "LPS"
    assert json.loads((model / "dataset.json").read_text())["missing_modalities"] == {"case_1": ["T2"]}
    assert "foreground_mean" in json.loads((fold / "validation" / "summary.json").read_text())
    saved = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert saved["mmkd"]["iteration"] == 4 and saved["trainer_name"] == TRAINER


@pytest.mark.slow
def test_export_install_predict_gives_the_same_bits(
    home: Home, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = home.raw / home.dataset() / "imagesTr"
    before = probabilities(predictor_of(model), images, tmp_path / "before")
    write_card(model, {"0": {"metric": "dice", "subsets": {}}})
    archive = tmp_path / "model.zip"
    export_pretrained_model(home.dataset(), str(archive), ("3d_fullres",), TRAINER, folds=(0,))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("nnUNet_results", str(elsewhere))
    install_model_from_zip_file(str(archive))
    installed = elsewhere / model.parent.name / model.name
    assert installed.is_dir() and installed != model
    after = probabilities(predictor_of(installed), images, tmp_path / "after")
    assert np.array_equal(before, after)
    assert read_card(json.loads((installed / "dataset.json").read_text()), "dataset.json") == {
        "0": {"metric": "dice", "subsets": {}}
    }


@pytest.mark.slow
@pytest.mark.parametrize(("names", "mask"), [("t1ce", [True, False, True]), ("T1Gd, t2w", [True, False, False])])
def test_variable_zero_files_and_mask_agree(
    home: Home, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: str, mask: list[bool]
) -> None:
    import SimpleITK as sitk

    images = home.raw / home.dataset() / "imagesTr"
    zero = Path(shutil.copytree(images, tmp_path / "zero"))
    for channel in np.flatnonzero(~np.array(mask)):
        file = str(zero / f"case_3_{channel:04d}.nii.gz")
        sitk.WriteImage(sitk.ReadImage(file) * 0, file)
    full = probabilities(predictor_of(model), images, tmp_path / "full")
    detected = probabilities(predictor_of(model), zero, tmp_path / "detected")
    explicit = predictor_of(model)
    limit_to(explicit, mask)
    masked = probabilities(explicit, images, tmp_path / "masked")
    monkeypatch.setenv("nnUNet_missing_modalities", names)
    told = probabilities(predictor_of(model), images, tmp_path / "told")
    assert np.array_equal(masked, told) and np.array_equal(masked, detected)
    assert not np.array_equal(full, masked)
    explicit = predictor_of(model)  # an explicit mask goes before the variable
    limit_to(explicit, [True] * 3)
    assert np.array_equal(full, probabilities(explicit, images, tmp_path / "all"))


@pytest.mark.slow
def test_wrong_names_and_an_empty_subset_at_prediction(
    home: Home, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictor_of(model)
    for names, message in (("dwi", "unknown modality 'dwi'"), ("t1 t1ce t2", "no modality would be left")):
        monkeypatch.setenv("nnUNet_missing_modalities", names)
        with pytest.raises(ValueError, match=message):
            predictor.predict_sliding_window_return_logits(torch.rand(3, 16, 16, 16))


@pytest.mark.slow
def test_fewer_channel_files_than_modalities_are_refused(
    home: Home, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="has 2 channels, this model has 3 modalities"):
        probabilities(predictor_of(model), home.raw / home.dataset() / "imagesTr", tmp_path / "out", (0, 2))
    assert "Prediction on device was unsuccessful" not in capsys.readouterr().out  # the host's retry on RuntimeError
    assert not list((tmp_path / "out").glob("case_3*"))


def test_an_interrupted_training_is_continued(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "stops.py").write_text(STOPS)
    monkeypatch.setenv("nnUNet_extTrainer", f"{os.environ['nnUNet_extTrainer']}{os.pathsep}{tmp_path / 'mine'}")
    name = "nnUNetTrainerStops_3epochs_2iters"
    fold = tmp_path / "results" / home.dataset() / f"{name}__nnUNetPlans__3d_fullres" / "fold_0"
    monkeypatch.setenv("TEST_STOPS_BEFORE", "2")
    with pytest.raises(KeyboardInterrupt):
        run_training(home.dataset(), "3d_fullres", 0, name, device=CPU)
    latest = torch.load(fold / "checkpoint_latest.pth", weights_only=False)
    assert latest["current_epoch"] == 2 and latest["mmkd"]["iteration"] == 4
    split = (fold / "mmkd_meta_split.json").read_text()
    monkeypatch.delenv("TEST_STOPS_BEFORE")
    run_training(home.dataset(), "3d_fullres", 0, name, continue_training=True, device=CPU)
    final = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert final["mmkd"]["iteration"] == 6 and final["mmkd"]["method"]["meta_updates"] == 6
    for key, values in latest["logging"].items():
        assert differences(values, final["logging"][key][:2], key) == [] and len(final["logging"][key]) == 3
    assert (fold / "mmkd_meta_split.json").read_text() == split
    assert (fold / "validation" / "summary.json").is_file()
    assert not [file for file in fold.rglob("*") if "tmp" in file.name]
    run_training(home.dataset(), "3d_fullres", 0, name, continue_training=True, device=CPU)  # nothing is left to do
    again = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    for part in ("network_weights", "mmkd", "logging", "current_epoch"):
        assert differences(final[part], again[part], part) == []


def test_validation_only(home: Home, tmp_path: Path) -> None:
    """``nnUNetv2_train --val`` works on a finished model."""
    name = "nnUNetTrainerModalityDropout_1epochs_1iters"
    run_training(home.dataset(), "2d", 0, name, device=CPU)
    summary = next((tmp_path / "results").rglob("summary.json"))
    first = json.loads(summary.read_text())["foreground_mean"]
    summary.unlink()
    run_training(home.dataset(), "2d", 0, name, only_run_validation=True, device=CPU)
    assert differences(first, json.loads(summary.read_text())["foreground_mean"]) == []


def test_the_class_imported_and_the_class_found_are_equivalent(home: Home) -> None:
    """nnU-Net imports the file anew at each look-up."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    found = recursive_find_trainer_class_by_name("nnUNetTrainerMetaKD")
    assert found is not nnUNetTrainerMetaKD and found.__mro__[1:] == nnUNetTrainerMetaKD.__mro__[1:]
