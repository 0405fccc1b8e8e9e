"""Figures in a low resolution, to be quick; the helper module beside the tests can be imported in any import mode."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nnunetv2_mmkd.evaluation.figures import style

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pixels."""
    monkeypatch.setattr(style, "DPI", 90)
