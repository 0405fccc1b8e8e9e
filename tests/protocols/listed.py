"""A data set of names only, for the tests of splits and missing-rate tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

CHANNELS = ("T1", "T1ce", "T2", "FLAIR")


def write_names(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cases: Iterable[str],
    *,
    missing: Mapping[str, Sequence[str]] | None = None,
    sources: Mapping[str, str] | None = None,
    patients: Mapping[str, str] | None = None,
    channels: Sequence[str] = CHANNELS,
) -> Path:
    """Set nnU-Net's variables, write Dataset501_Names with empty labels; returns its preprocessed folder to be."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(name, str(tmp_path / name))
    raw = tmp_path / "nnUNet_raw" / "Dataset501_Names"
    (raw / "labelsTr").mkdir(parents=True)
    for case in cases:
        (raw / "labelsTr" / f"{case}.nii.gz").touch()
    content = {
        "channel_names": {str(index): name for index, name in enumerate(channels)},
        "labels": {"background": 0, "tumour": 1},
        "file_ending": ".nii.gz",
        "missing_modalities": dict(missing or {}),
    }
    (raw / "dataset.json").write_text(json.dumps(content))
    entries = {case: {"source": text} for case, text in (sources or {}).items()}
    entries |= {case: {"source": ".", "patient": text} for case, text in (patients or {}).items()}
    if entries:
        (raw / "case_map.json").write_text(json.dumps(entries))
    return tmp_path / "nnUNet_preprocessed" / "Dataset501_Names"


def write_lines(path: Path, *lines: str) -> Path:
    """Write a text file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path
