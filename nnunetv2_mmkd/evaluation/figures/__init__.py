"""Figures of the long result table and of segmentations, each with the numbers behind it as a CSV beside it.

Each function takes the table (``method, case, subset, region, metric, value``) or segmentation files and the path of a
PNG, and writes ``<stem>.csv`` next to it. A value that is NaN or infinite is left out and the figure says so; it is
never drawn as 0. Needs neither torch nor a display.
"""

from __future__ import annotations

from nnunetv2_mmkd.evaluation.figures.boxes import boxplots
from nnunetv2_mmkd.evaluation.figures.change import change_against_full
from nnunetv2_mmkd.evaluation.figures.contributions import modality_contributions
from nnunetv2_mmkd.evaluation.figures.heat import heat_map
from nnunetv2_mmkd.evaluation.figures.overlay import overlays

__all__ = ["boxplots", "change_against_full", "heat_map", "modality_contributions", "overlays"]
