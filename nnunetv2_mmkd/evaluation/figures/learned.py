"""Figures of what methods learned about modalities: a line for each, trainings that differ by chance as its band."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunetv2_mmkd.evaluation.figures.lines import curve_panels
from nnunetv2_mmkd.evaluation.figures.style import plain_style, shown

Curves = Mapping[str, Sequence[float] | NDArray[np.float64]]
"""``"group/modality"`` -> a value per epoch of a training, NaN where there was none."""


@dataclass(frozen=True)
class CurveFigure:
    """A figure of curves.

    Attributes:
        paper: whose figure it is.
        groups: of curves -> label of the y axis.
        panels: one per ``"run"``, lines are modalities; or per ``"modality"``, lines are runs.
        trainers: that log these curves, for the message of what to do.
        balanced: what the curves would be if all modalities were alike, with M of them; None: nothing is drawn.
    """

    paper: str
    groups: Mapping[str, str]
    panels: Literal["run", "modality"]
    trainers: str
    balanced: Literal["1/M", "0"] | None = None


CURVE_FIGURES: Mapping[str, CurveFigure] = {
    "importance": CurveFigure(
        "MetaKD, Figs. 4a and 8", {"importance": "importance weight"}, "run", "MetaKD or MCKD", "1/M"
    ),
    "fill": CurveFigure(
        "MetaKD, Fig. 5",
        {"fill l1": "L1 distance of filled features", "fill cosine": "cosine similarity of filled features"},
        "run",
        "MetaKD or MCKD",
    ),
    "preference": CurveFigure(
        "PASSION, Fig. 6", {"relative preference": "relative preference"}, "modality", "PASSION or PASSION_baseline",
        "0",
    ),
}  # fmt: skip
"""Kind -> figure."""


def of_group(curves: Curves, group: str) -> dict[str, NDArray[np.float64]]:
    """Modality -> values of a group of curves; empty: the training does not log it."""
    return {
        name.partition("/")[2]: np.asarray(values, float)
        for name, values in curves.items()
        if name.partition("/")[0] == group
    }


def draw_learned(
    kind: str, runs: Iterable[tuple[str, Curves]], path: str | Path, *, smooth: int = 1, title: str = ""
) -> pd.DataFrame:
    """Draw curves of trainings; those of one run are one line, with a band of one standard deviation.

    Args:
        kind: of :data:`CURVE_FIGURES`.
        runs: what each training is called, and its curves: all groups of the figure, of the same modalities.
        path: PNG to write.
        smooth: epochs of a moving average.
        title: of the figure.

    Returns:
        As :func:`~nnunetv2_mmkd.evaluation.figures.lines.curve_panels`.

    Raises:
        InputError: a path that is no PNG or cannot be written.
    """
    figure, modalities = CURVE_FIGURES[kind], set[str]()
    panels: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
    labels: dict[str, str] = {}
    for run, curves in runs:
        for group, label in figure.groups.items():
            for modality, values in of_group(curves, group).items():
                modalities.add(modality)
                panel, line = (run, shown(modality)) if figure.panels == "run" else (shown(modality), run)
                panel += f": {label}" * (len(figure.groups) > 1)
                labels[panel] = label
                panels.setdefault(panel, {}).setdefault(line, []).append(_smoothed(values, smooth))
    balanced = {"0": 0.0, "1/M": 1 / len(modalities), None: None}[figure.balanced]
    counts = sorted({len(each) for lines in panels.values() for each in lines.values()})
    note = trainings_note(counts) + f" Moving average over {smooth} epochs." * (smooth > 1)
    note += " Dotted: all modalities alike." * (balanced is not None)
    stacked = {panel: {line: _stacked(values) for line, values in lines.items()} for panel, lines in panels.items()}
    with plain_style():
        return curve_panels(stacked, path, labels=labels, reference=balanced, note=note, title=title)


def trainings_note(counts: Sequence[int], what: str = "bands", *, band: bool = True) -> str:
    """How many trainings a line is of, and what that shows.

    Args:
        counts: in ascending order.
        what: shows the standard deviation.
        band: whether it is shown where there are several.
    """
    if counts[-1] == 1:
        return f"One training each: no {what}." if band else "One training each."
    number = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    return f"{number} trainings each (seeds, folds)" + (f": mean, {what} of one standard deviation." if band else ".")


def _smoothed(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Mean of the known values among the last ``width``."""
    mean: NDArray[np.float64] = pd.Series(values).rolling(width, min_periods=1).mean().to_numpy()
    return mean


def _stacked(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """``[trainings, epochs]``, NaN after the end of the shorter ones."""
    table = np.full((len(values), max(map(len, values))), np.nan)
    for row, each in zip(table, values, strict=True):
        row[: len(each)] = each
    return table
