"""The table's figure: accuracy against the rate, its numbers as CSV alongside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from nnunetv2_mmkd.evaluation.figures.style import LINE_COLOURS, MARKERS, NORMAL, PAGE, SMALL, TITLE, new_figure, save
from nnunetv2_mmkd.evaluation.published import PUBLISHED_MARK


def draw_accuracy(results: pd.DataFrame, published: pd.DataFrame, folder: Path) -> None:
    """Accuracy by rate, a panel per half of the table: ours with standard deviations, MetaKD's published line dashed.

    Args:
        results: long table, a row per seed, settings as regions.
        published: per cent, a row per setting and a column per method, may lack columns.
        folder: of ``accuracy.png``.
    """
    rows = results[results["metric"] == "accuracy"]
    figure = new_figure(PAGE, 2.9, "Accuracy with one modality missing in testing", "bars: sd over the seeds")
    axes = figure.subplots(1, 2, squeeze=False)[0]
    methods = list(dict.fromkeys(rows["method"]))
    values = rows.groupby(["region", "method"], sort=False)["value"]
    scores = pd.DataFrame({"mean": values.mean(), "sd": values.apply(pd.Series.std).fillna(0.0)})
    numbers = []
    for ax, letter in zip(axes, "ab", strict=True):
        settings = [name for name in dict.fromkeys(rows["region"]) if name.startswith(f"({letter})")]
        at = np.array([_rate(name) for name in settings])
        for order, method in enumerate(methods):
            shown = scores.loc[[(name, method) for name in settings]]
            numbers.append(shown)
            ax.errorbar(
                at + 0.12 * (order - len(methods) / 2), shown["mean"], shown["sd"],
                color=LINE_COLOURS[order % len(LINE_COLOURS)], marker=MARKERS[order % len(MARKERS)],
                markersize=3, linewidth=1, elinewidth=0.6, capsize=1.5, label=method,
            )  # fmt: skip
        theirs = published.reindex(index=settings, columns=["MetaKD"]).to_numpy(float)
        if np.isfinite(theirs).any():
            ax.plot(at, theirs, color="0.5", linestyle="--", linewidth=0.9, label=f"MetaKD {PUBLISHED_MARK}")
        ax.set_title(settings[0].rpartition(" ")[0] if settings else "", fontsize=TITLE)
        ax.set_xlabel("rate in training (%)", fontsize=NORMAL)
        ax.set_ylabel("accuracy (%)", fontsize=NORMAL)
        ax.tick_params(labelsize=SMALL)
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=SMALL, frameon=False)
    table = pd.concat(numbers).rename_axis(["setting", "method"]).reset_index()
    save(figure, table, folder / "accuracy.png")


def _rate(setting: str) -> float:
    return float(setting.rpartition(" ")[2].rstrip("%"))
