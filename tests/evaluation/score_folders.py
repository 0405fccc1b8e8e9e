"""Folders of hand-made segmentations to be scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from nnunetv2_mmkd.evaluation.score import Predictions, ScoreSettings, score

NAN, INF = math.nan, math.inf
BRATS = {
    "channel_names": {"0": "T1", "1": "T2"},
    "file_ending": ".nii.gz",
    "labels": {"background": 0, "whole_tumor": [1, 2, 3], "tumor_core": [2, 3], "enhancing_tumor": [3]},
}
CLASSES = {
    "channel_names": {"0": "T1", "1": "T2"},
    "file_ending": ".nii.gz",
    "labels": {"background": 0, "LV": 1, "MYO": 2},
}
DICE = ScoreSettings(metrics=("dice",))


def line(*labels: int) -> np.ndarray:
    """A label map of 12 voxels in a row, in a small volume."""
    volume = np.zeros((12, 3, 3), np.uint8)
    volume[: len(labels), 1, 1] = labels
    return volume


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


class Folders:
    """Truth, predictions and cached rows below one folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.labels, self.cache = root, root / "labels", root / "cache"

    def truth(self, **cases: np.ndarray) -> None:
        for case, values in cases.items():
            save(self.labels / f"{case}.nii.gz", values)

    def prediction(self, subset: str, case: str, values: np.ndarray, method: str = "a", **options: Any) -> Path:
        return save(self.root / method / subset / f"{case}.nii.gz", values, **options)

    def predictions(self, expected: Mapping[str, Sequence[str]], method: str = "a") -> Predictions:
        return Predictions(method, self.root / method, expected)

    def score(
        self,
        expected: Mapping[str, Sequence[str]],
        dataset: Mapping[str, Any] = BRATS,
        settings: ScoreSettings = DICE,
        processes: int = 1,
    ) -> pd.DataFrame:
        return score(
            [self.predictions(expected)],
            self.labels,
            dataset,
            settings,
            self.cache,
            processes=processes,
            progress=False,
        ).rows


def rows(table: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(table.itertuples(index=False, name=None))
