"""Copies of the models that a test module trains; coarse figures, to be quick."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_nnunet import Home

from nnunetv2_mmkd.evaluation import report
from nnunetv2_mmkd.evaluation.figures import style


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pixels."""
    monkeypatch.setattr(style, "DPI", 60)


@pytest.fixture
def copies(home: Home, models: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """The models' folders, to be written to."""
    return {name: Path(shutil.copytree(folder, tmp_path / "results" / folder.name)) for name, folder in models.items()}


@pytest.fixture
def no_figures_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables and overlays only: what a report draws is tested elsewhere."""
    monkeypatch.setattr(report, "FIGURES", ())
