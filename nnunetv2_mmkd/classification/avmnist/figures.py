"""Pictures of the table: accuracy against the rate, and how the importance weights went. Numbers as CSV beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nnunetv2_mmkd.classification.training import Curves
from nnunetv2_mmkd.evaluation.figures.style import NORMAL, PAGE, SMALL, TITLE, new_figure, save

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_MARKERS = "osv^DPX*"


def draw_accuracy(results: pd.DataFrame, printed: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    """Accuracy by rate, a panel per half of the table: ours with standard deviations, MetaKD's printed line dashed.

    Args:
        results: long table, a row per seed, settings as regions.
        printed: setting -> method -> per cent, may be empty.
        folder: of ``accuracy.png``.
    """
    rows = results[results["metric"] == "accuracy"]
    figure = new_figure(PAGE, 2.9, "Accuracy with one modality missing in testing", "bars: sd over the seeds")
    axes = figure.subplots(1, 2, squeeze=False)[0]
    methods = list(dict.fromkeys(rows["method"]))
    numbers = []
    for ax, letter in zip(axes, "ab", strict=True):
        settings = [name for name in dict.fromkeys(rows["region"]) if name.startswith(f"({letter})")]
        at = np.array([_rate(name) for name in settings])
        for order, method in enumerate(methods):
            values = [rows[(rows["method"] == method) & (rows["region"] == name)]["value"] for name in settings]
            means = np.array([column.mean() for column in values])
            spread = np.array([column.std(ddof=1) if len(column) > 1 else 0.0 for column in values])
            ax.errorbar(
                at + 0.12 * (order - len(methods) / 2), means, spread,
                color=_COLOURS[order % len(_COLOURS)], marker=_MARKERS[order % len(_MARKERS)],
                markersize=3, linewidth=1, elinewidth=0.6, capsize=1.5, label=method,
            )  # fmt: skip
            numbers += [
                {"setting": name, "method": method, "mean": mean, "sd": sd}
                for name, mean, sd in zip(settings, means, spread, strict=True)
            ]
        theirs = [printed.get(name, {}).get("MetaKD", np.nan) for name in settings]
        if np.isfinite(theirs).any():
            ax.plot(at, theirs, color="0.5", linestyle="--", linewidth=0.9, label="MetaKD [printed]")
        ax.set_title(settings[0].rpartition(" ")[0] if settings else "", fontsize=TITLE)
        ax.set_xlabel("rate in training (%)", fontsize=NORMAL)
        ax.set_ylabel("accuracy (%)", fontsize=NORMAL)
        ax.tick_params(labelsize=SMALL)
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=SMALL, frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    save(figure, pd.DataFrame(numbers), folder / "accuracy.png")


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
            ax.plot(epochs, mean, color=_COLOURS[order], linewidth=1, label=name.partition("/")[2])
            ax.fill_between(epochs, mean - sd, mean + sd, color=_COLOURS[order], alpha=0.2, linewidth=0)
            numbers += [
                {"setting": setting, "modality": name.partition("/")[2], "epoch": epoch, "mean": m, "sd": s}
                for epoch, m, s in zip(epochs.tolist(), mean, sd, strict=True)
            ]
        ax.set_title(setting, fontsize=NORMAL)
        ax.tick_params(labelsize=SMALL)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=SMALL, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, pd.DataFrame(numbers), path)


def _rate(setting: str) -> float:
    return float(setting.rpartition(" ")[2].rstrip("%"))
