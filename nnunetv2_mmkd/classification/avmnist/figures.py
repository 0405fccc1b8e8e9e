"""Figures of the table: accuracy against the rate, importance weights by epoch; their numbers as CSV alongside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nnunetv2_mmkd.classification.training import Curves
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


def draw_importance(learned: Mapping[str, Sequence[Curves]], path: Path) -> None:
    """Normalised importance weights by epoch, a panel per setting: mean over the seeds and standard deviation.

    Args:
        learned: setting -> the method's curves, one entry per seed.
        path: PNG.
    """
    columns = -(-len(learned) // 2) if len(learned) > 3 else len(learned)
    lines = -(-len(learned) // columns)
    figure = new_figure(PAGE, 1.6 * lines, "Importance weights", "mean over the seeds, band: sd")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flat
    numbers = []
    for ax, (setting, runs) in zip(panels, learned.items(), strict=False):
        names = [name for name in runs[0] if name.startswith("importance/")]
        for order, name in enumerate(names):
            values = np.array([run[name] for run in runs])
            epochs = np.arange(1, values.shape[1] + 1)
            mean, sd = values.mean(0), values.std(0)
            ax.plot(epochs, mean, color=LINE_COLOURS[order], linewidth=1, label=name.partition("/")[2])
            ax.fill_between(epochs, mean - sd, mean + sd, color=LINE_COLOURS[order], alpha=0.2, linewidth=0)
            numbers += [
                {"setting": setting, "modality": name.partition("/")[2], "epoch": epoch, "mean": m, "sd": s}
                for epoch, m, s in zip(epochs.tolist(), mean, sd, strict=True)
            ]
        ax.set_title(setting, fontsize=NORMAL)
        ax.tick_params(labelsize=SMALL)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=SMALL, frameon=False)
    save(figure, pd.DataFrame(numbers), path)


def _rate(setting: str) -> float:
    return float(setting.rpartition(" ")[2].rstrip("%"))
