"""Untrained models, their copies, and coarse figures, to be quick."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_nnunet import Home, environment, untrained

from nnunetv2_mmkd.evaluation import report
from nnunetv2_mmkd.evaluation.figures import style
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerSharedStreams
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pixels."""
    monkeypatch.setattr(style, "DPI", 60)


@pytest.fixture(scope="session")
def models(session_home: Home, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders of folds 0 and 1, early fusion and multi-stream."""
    found = {}
    with environment(session_home, tmp_path_factory.mktemp("models")):
        dataset = session_home.dataset(3, "regions")
        for trainer_class in (nnUNetTrainerModalityDropout, nnUNetTrainerSharedStreams):
            for fold in (0, 1):
                folder = untrained(session_home.trainer(trainer_class, dataset, fold=fold), fold)
                found[trainer_class.__name__.removeprefix("nnUNetTrainer")] = folder
    return found


@pytest.fixture
def copies(home: Home, models: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """The models' folders, to be written to."""
    return {name: Path(shutil.copytree(folder, tmp_path / "results" / folder.name)) for name, folder in models.items()}


@pytest.fixture
def no_figures_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables and overlays only: what a report draws is tested elsewhere."""
    monkeypatch.setattr(report, "FIGURES", ())
