"""The report of the demo: what ``mmkd evaluate`` writes, a table of the Dice, a picture."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from nnunetv2_mmkd.evaluation.report import draw_overlay, median_case, write_report
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.score import Predictions, ScoreSettings, score
from nnunetv2_mmkd.evaluation.summary import subset_means
from nnunetv2_mmkd.evaluation.table_files import write_table
from nnunetv2_mmkd.nnunet_json import read_dataset_json

REFERENCE, CHANNEL = "flair", 3
"""Modality under the overlays."""


def write_demo_report(truth: Path, method: str, folder: Path, names: Mapping[str, str], output: Path) -> list[str]:
    """Score the predictions and write ``dice.csv``, ``demo.png`` and, as ``mmkd evaluate``, ``report/``.

    An empty region that is predicted empty has no Dice and is left out of the means (nnU-Net's convention).

    Args:
        truth: raw data set with ``imagesTr``, ``labelsTr`` and ``dataset.json``.
        method: name of what predicted.
        folder: ``<subset>/<case><file ending>`` are in it.
        names: subset -> its name in the table, e.g. ``{"t1+t2+flair": "T1ce missing"}``.
        output: folder.

    Returns:
        The mean Dice as lines of a table.

    Raises:
        InputError: a file is missing or damaged, or cannot be written.
    """
    dataset = read_dataset_json(truth / "dataset.json").content
    labels, ending = truth / "labelsTr", str(dataset["file_ending"])
    cases = sorted(path.name.removesuffix(ending) for path in labels.glob(f"*{ending}"))
    predictions = Predictions(method, folder, dict.fromkeys(cases, tuple(names)))
    settings = ScoreSettings(("dice",), empty="nan")
    table = score([predictions], labels, dataset, settings, output / "report" / "scores", progress=False)
    write_report(table, output / "report", notes=(f"empty regions: policy {settings.empty}", f"{len(cases)} cases"))
    pictures = {case: output / "report" / "figures" / f"overlay_{case}.png" for case in cases}
    for case in cases:
        image = truth / "imagesTr" / f"{case}_{CHANNEL:04d}{ending}"
        draw_overlay(case, image, REFERENCE, labels, {method: folder}, list(names), dataset, pictures[case])
    shutil.copyfile(pictures[median_case(table)], output / "demo.png")
    rows = table.rows.assign(prediction=table.rows["subset"].map(dict(names)), dice=table.rows["value"])
    rows = rows.sort_values("subset", key=lambda column: column.map(list(names).index), kind="stable")
    write_table(rows[["prediction", "case", "region", "dice"]], output / "dice.csv")
    return _lines(table, names)


def _lines(table: ResultTable, names: Mapping[str, str]) -> list[str]:
    columns = {region: subset_means(table, region=region, metric="dice").iloc[:, 0] for region in table.regions}
    means = pd.DataFrame(columns)
    lines = [" | ".join(["mean Dice".ljust(14), *(region.rjust(16) for region in means)])]
    for subset, name in names.items():
        lines.append(" | ".join([name.ljust(14), *(f"{value:.3f}".rjust(16) for value in means.loc[subset])]))
    return lines
