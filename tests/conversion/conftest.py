"""Fixtures: an empty nnU-Net home, and the folder of real data where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ``nnUNet_raw``; the other folders are unset."""
    folder = tmp_path / "nnUNet_raw"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(folder))
    for variable in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.fixture
def brats2018_data() -> Path:
    """The real BraTS 2018 cases, from ``MMKD_TEST_DATA`` or ``../shared/data``."""
    home = os.environ.get("MMKD_TEST_DATA") or Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(home) / "MICCAI_BraTS_2018_Data_Training"
    if not folder.is_dir():
        pytest.skip("no real BraTS 2018 cases here (set MMKD_TEST_DATA to the folder that has them)")
    return folder
