"""The last words of the demo: its numbers, what they mean, where everything is, and what comes next."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from nnunetv2_mmkd.evaluation.report import median_case
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.summary import subset_means
from nnunetv2_mmkd.evaluation.table_files import write_table
from nnunetv2_mmkd.workflows.next_steps import predict_command, training_commands

LOST, NEARLY, FOUND = 5.0, 3.0, 40.0
"""Points of Dice: loss from which a region counts as lost, up to which as kept; Dice from which it was found at all."""

NEXT = "\n".join(
    [
        "Next, with your own data (BraTS, FeTS or MyoPS as downloaded; images may be missing):",
        "  export nnUNet_raw=... nnUNet_preprocessed=... nnUNet_results=...      # three folders of yours",
        "  mmkd convert auto /path/to/the/challenge/folder -d 501",
        *(f"  {command}" for command in [*training_commands(501), predict_command(501, "IMAGES")]),
        "A raw data set of nnU-Net's needs no conversion. README.md says how long a training takes, and on what.",
    ]
)
"""The last lines."""


def write_dice(table: ResultTable, names: Mapping[str, str], file: Path) -> None:
    """Write the Dice of each case as a CSV.

    Args:
        table: of the evaluation.
        names: subset -> its name for the reader.
        file: CSV.
    """
    rows = table.rows.assign(prediction=table.rows["subset"].map(dict(names)), dice=table.rows["value"])
    rows = rows.sort_values("subset", key=lambda column: column.map(list(names).index), kind="stable")
    write_table(rows[["prediction", "case", "region", "dice"]], file)


def copy_picture(table: ResultTable, report: Path, file: Path) -> None:
    """Copy the overlay that the evaluation drew."""
    shutil.copyfile(report / "figures" / f"overlay_{median_case(table)}.png", file)


def last_words(table: ResultTable, names: Mapping[str, str], full: str, without: str, trained: int) -> list[str]:
    """The Dice as lines of a table, and what was shown in plain words.

    Args:
        table: of the evaluation; an empty region that is predicted empty has no Dice and is not in the means.
        names: subset -> its name for the reader.
        full: the subset of all modalities.
        without: the subset that lacks T1ce.
        trained: cases of the data set that the model was trained and validated on.
    """
    means = pd.DataFrame(
        {region: subset_means(table, region=region, metric="dice").iloc[:, 0] * 100 for region in table.regions}
    )
    cases = table.rows["case"].nunique()
    lines = [
        f"One model, trained once on {trained} phantoms, segmented {cases} phantoms that it had never seen,",
        "with all images and with some of them missing. Mean Dice in per cent:",
        "",
        "".join(["  ", "".ljust(16), *(region.rjust(8) for region in means)]),
    ]
    for subset, name in names.items():
        lines.append("".join(["  ", name.ljust(16), *(f"{value:.1f}".rjust(8) for value in means.loc[subset])]))
    return [*lines, "", *_meaning(means.loc[full].dropna(), means.loc[without])]


def _meaning(full: pd.Series, without: pd.Series) -> list[str]:
    """What the model loses without T1ce, region by region."""
    losses = (full - without)[full >= FOUND].dropna()
    kept = [f"{region} ({_change(loss)})" for region, loss in losses.items() if abs(loss) < NEARLY]
    lost = [f"{region} ({_change(loss)})" for region, loss in losses.items() if loss >= LOST]
    parts = []
    if kept:
        parts.append(f"still finds {' and '.join(kept)}")
    if lost:
        parts.append(f"loses {' and '.join(lost)}, which only T1ce shows well")
    said = f"Without T1ce the same model {', and '.join(parts)}."
    if len(losses) < len(full):
        said = f"It did not learn to find {' and '.join(full.index.difference(losses.index))}: train it longer."
    return [
        *([said] if parts or len(losses) < len(full) else []),
        "WT is the whole tumour, TC its core, ET the part that takes up contrast agent. Phantoms are not patients, and",
        "the training was a short one: this shows that every step works here, not how good the method is.",
    ]


def _change(loss: float) -> str:
    return f"{-loss:+.1f}" if abs(loss) >= 0.05 else "as before"
