"""Copies of the models that a test module trains."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_nnunet import Home


@pytest.fixture
def copies(home: Home, models: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """The models' folders, to be written to."""
    return {name: Path(shutil.copytree(folder, tmp_path / "results" / folder.name)) for name, folder in models.items()}
