"""Result tables whose means are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.image import imread

from nnunetv2_mmkd.evaluation.subsets import all_subset_names

MODALITIES = {2: ("bssfp", "lge"), 3: ("t2", "adc", "dwi"), 4: ("t1", "t1ce", "t2", "flair"), 5: tuple("abcde")}


def additive(
    modalities: Sequence[str],
    methods: Sequence[str] = ("A",),
    regions: Sequence[str] = ("WT", "ET"),
    cases: int = 4,
    metric: str = "dice",
    worth: Callable[[int, int, int], float] = lambda modality, method, region: (
        0.1 + 0.02 * modality + 0.01 * method - 0.005 * region
    ),
) -> pd.DataFrame:
    """Value of a subset = sum of its modalities' worths, plus 0.01 (case - mean case)."""
    rows = [
        (name, f"case{case}", subset, region, metric, _sum(subset, modalities, m, r, worth) + 0.01 * _off(case, cases))
        for m, name in enumerate(methods)
        for subset in all_subset_names(modalities)
        for r, region in enumerate(regions)
        for case in range(cases)
    ]
    return pd.DataFrame(rows, columns=["method", "case", "subset", "region", "metric", "value"])


def one(numbers: pd.DataFrame, column: str, **keys: object) -> float:
    """The one number in a row chosen by its keys."""
    for key, value in keys.items():
        numbers = numbers[numbers[key] == value]
    assert len(numbers) == 1
    return float(numbers[column].iloc[0])


def drawn(path: Path) -> np.ndarray:
    """A picture, which is no blank sheet."""
    pixels = imread(path)
    assert min(pixels.shape[:2]) > 100
    colours = np.rint(255 * pixels[..., :3]).astype(np.int64) @ (1 << 16, 1 << 8, 1)
    assert np.unique(colours).size > 20
    assert not list(path.parent.glob(".*"))
    return pixels


def _sum(
    subset: str, modalities: Sequence[str], method: int, region: int, worth: Callable[[int, int, int], float]
) -> float:
    return sum(worth(modalities.index(name), method, region) for name in subset.split("+"))


def _off(case: int, cases: int) -> float:
    return case - (cases - 1) / 2
