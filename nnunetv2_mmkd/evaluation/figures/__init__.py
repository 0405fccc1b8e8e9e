"""Figures of the result table and of segmentations, each with the numbers behind it as a CSV next to it.

Each function takes the table or segmentation files and the path of a PNG, and writes ``<stem>.csv`` next to it. A value
that is NaN or infinite is left out and the figure says so; it is never drawn as 0. Needs neither torch nor a display.

A new figure of the table: a file with its function, an entry in :data:`FIGURES`, a test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd

from nnunetv2_mmkd.evaluation.figures.boxes import boxplots, has_counts
from nnunetv2_mmkd.evaluation.figures.change import change_against_full, has_change
from nnunetv2_mmkd.evaluation.figures.contributions import has_contributions, modality_contributions
from nnunetv2_mmkd.evaluation.figures.heat import heat_map
from nnunetv2_mmkd.evaluation.result_table import ResultTable


@dataclass(frozen=True)
class FigureSpec:
    """A figure that a report draws of each metric.

    Attributes:
        name: end of the file's name.
        draw: table, path and metric -> the numbers behind the figure.
        applies: whether a table of one metric has what the figure shows.
    """

    name: str
    draw: Callable[..., pd.DataFrame]
    applies: Callable[[ResultTable], bool] = lambda table: True


FIGURES = (
    FigureSpec("heat_map", heat_map),
    FigureSpec("change", change_against_full, has_change),
    FigureSpec("contributions", modality_contributions, has_contributions),
    FigureSpec("boxplots", boxplots),
    FigureSpec("boxplots_by_count", partial(boxplots, by="count"), has_counts),
)
"""All of them, in the order of the page."""
