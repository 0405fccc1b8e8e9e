"""A tiny model folder and predictors of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny_model import TRAINER, TRAINER_FILE, plans

from nnunetv2_mmkd.inference.predictor import MMKDPredictor


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``nnUNet_results`` with one model of two folds."""
    root = tmp_path_factory.mktemp("results")
    (root / "trainers").mkdir()
    (root / "trainers" / f"{TRAINER}.py").write_text(TRAINER_FILE)
    folder = root / "Dataset999_Tiny" / f"{TRAINER}__nnUNetPlans__3d_fullres"
    folder.mkdir(parents=True)
    dataset = {
        "channel_names": {"0": "T1", "1": "T1ce", "2": "T2"},
        "labels": {"background": 0, "a": 1, "b": 2},
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "missing_modalities": {"declared": ["T2"]},
    }
    (folder / "plans.json").write_text(json.dumps(plans()))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    namespace: dict = {}
    exec(TRAINER_FILE, namespace)
    for fold in (0, 1):
        torch.manual_seed(fold)
        checkpoint = {
            "network_weights": namespace["TinyNet"](3, 3).state_dict(),
            "trainer_name": TRAINER,
            "init_args": {"configuration": "3d_fullres"},
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        (folder / f"fold_{fold}").mkdir()
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return root


@pytest.fixture(autouse=True)
def environment(results: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """nnU-Net's variables for the tiny model."""
    monkeypatch.setenv("nnUNet_results", str(results))
    monkeypatch.setenv("nnUNet_extTrainer", str(results / "trainers"))
    monkeypatch.delenv("nnUNet_missing_modalities", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def model(results: Path) -> Path:
    """The model's folder."""
    return results / "Dataset999_Tiny" / f"{TRAINER}__nnUNetPlans__3d_fullres"


@pytest.fixture
def make_predictor(model: Path) -> Callable[..., MMKDPredictor]:
    """Makes predictors of fold 0 (or others) on the CPU."""

    def make(folds: tuple[int, ...] = (0,), **kwargs: object) -> MMKDPredictor:
        predictor = MMKDPredictor(device=torch.device("cpu"), allow_tqdm=False, **kwargs)
        predictor.initialize_from_trained_model_folder(str(model), folds)
        return predictor

    return make
