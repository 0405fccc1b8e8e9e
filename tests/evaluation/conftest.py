"""Folders to be scored, and what is measured of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from score_folders import Folders

import nnunetv2_mmkd.evaluation.score as module


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the predictions that are measured, not taken from the cached rows."""
    found: list[str] = []
    real = module._measure

    def spy(prediction: Any, *args: Any) -> Any:
        found.append(prediction.path.parent.name)
        return real(prediction, *args)

    monkeypatch.setattr(module, "_measure", spy)
    return found
