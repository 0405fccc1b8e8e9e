"""The table of Audiovision-MNIST alongside the published one, the comparisons, the figures.

Legend: S seeds, N test subjects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunetv2_mmkd.classification.avmnist.figures import draw_accuracy
from nnunetv2_mmkd.classification.avmnist.protocol import (
    DROPOUT,
    EQUAL,
    LOWER,
    METAKD,
    UPPER,
    AudiovisionProtocol,
    TableCell,
)
from nnunetv2_mmkd.classification.avmnist.run import TrainingResult, read_result
from nnunetv2_mmkd.classification.bootstrap import paired_bootstrap
from nnunetv2_mmkd.classification.rivals import RIVALS
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.figures.learned import draw_learned
from nnunetv2_mmkd.evaluation.published import PUBLISHED_MARK, load_published
from nnunetv2_mmkd.evaluation.subsets import AVERAGE
from nnunetv2_mmkd.evaluation.table_files import write_table
from nnunetv2_mmkd.files import write_text

PUBLISHED = "metakd_table3"
"""The published table (MCKD's Table 2 has the same numbers)."""

HALVES: Mapping[str, str] = {
    "audio": "(a) missing audio, tested on images",
    "image": "(b) missing images, tested on audio",
}
"""Titles of the table's halves, by the scarce modality."""

COMPARED = (
    *((METAKD, LOWER), (METAKD, DROPOUT), (METAKD, "LCKD"), (METAKD, EQUAL), (EQUAL, DROPOUT), (DROPOUT, LOWER)),
    *((rival, DROPOUT) for rival in RIVALS),
    *((METAKD, rival) for rival in RIVALS),
)
"""Pairs of methods, first minus second."""

Results = Mapping[tuple[str, TableCell], Sequence[TrainingResult]]
"""Arm and cell -> a result per seed."""


def read_results(protocol: AudiovisionProtocol, output: Path) -> Results:
    """All results of a protocol.

    Raises:
        InputError: a training has not been run.
    """
    results: dict[tuple[str, TableCell], list[TrainingResult]] = {}
    for arm in protocol.arms:
        for cell in protocol.cells:
            for seed in range(protocol.seeds):
                job = protocol.job(seed, arm, cell)
                result = read_result(job, protocol, output)
                if result is None:
                    raise InputError(f"{output}: {job.name} has not been run with these settings; run it first")
                results.setdefault((arm, cell), []).append(result)
    return results


def published(cells: Sequence[TableCell]) -> pd.DataFrame:
    """The paper's accuracy in per cent: a row per cell (its setting), a column per method, NaN for an unknown rate."""
    frame = load_published(PUBLISHED)
    frame = frame[(frame["metric"] == "accuracy") & frame["setting"].isin([cell.setting for cell in cells])]
    table = frame.pivot(index="setting", columns="method", values="value")
    return table.reindex(index=[cell.setting for cell in cells], columns=frame["method"].unique())


def write_accuracy_report(protocol: AudiovisionProtocol, output: Path, resamples: int = 4000) -> str:
    """Write ``results.csv``, ``comparisons.csv``, ``table.md``, ``figures/``.

    Args:
        protocol: what was run.
        output: folder of the results.
        resamples: of the bootstrap.

    Returns:
        The table and the comparisons as Markdown.

    Raises:
        InputError: a training has not been run, or a file cannot be written.
    """
    results = read_results(protocol, output)
    table = _long(results)
    write_table(table, output / "results.csv")
    blocks = [_half(table, scarce, protocol) for scarce in HALVES]
    compared = _comparisons(results, protocol, resamples)
    if len(compared):
        write_table(compared, output / "comparisons.csv")
        blocks.append(_differences(compared))
    tests = len(next(iter(results.values()))[0].test)
    text = "\n\n".join([*blocks, "  \n".join(_notes(protocol, tests))]) + "\n"
    write_text(output / "table.md", text)
    draw_accuracy(table, published(protocol.cells), output / "figures")
    if METAKD in protocol.arms:
        learned = [(cell.setting, result.curves) for cell in protocol.cells for result in results[METAKD, cell]]
        draw_learned("importance", learned, output / "figures" / "importance.png")
    return text


def _correct(results: Sequence[TrainingResult], part: str = "test") -> NDArray[np.float64]:
    """Whether each subject of each seed was classified correctly, ``[S, N]``."""
    return np.array([getattr(result, part) for result in results], dtype=np.float64)


def _long(results: Results) -> pd.DataFrame:
    """A row per seed: the long result table, with the setting as region."""
    rows = [
        {
            "method": arm,
            "case": f"seed{seed:02d}",
            "subset": "image+audio" if arm == UPPER else cell.known,
            "region": cell.setting,
            "metric": metric,
            "value": value,
        }
        for (arm, cell), trainings in results.items()
        for metric, part in (("accuracy", "test"), ("validation_accuracy", "validation"))
        for seed, value in enumerate(100 * _correct(trainings, part).mean(1))
    ]
    return pd.DataFrame(rows)


def _comparisons(results: Results, protocol: AudiovisionProtocol, resamples: int) -> pd.DataFrame:
    """Mean differences in points with their intervals, for each half and for both."""
    groups = {title: [cell for cell in protocol.cells if cell.scarce == scarce] for scarce, title in HALVES.items()}
    groups["both halves"] = list(protocol.cells)
    rows = []
    for first, second in COMPARED:
        if {first, second} <= set(protocol.arms):
            for title, cells in groups.items():
                differences = [_correct(results[first, cell]) - _correct(results[second, cell]) for cell in cells]
                interval = paired_bootstrap(100 * np.mean(differences, axis=0), resamples=resamples)
                rows.append({"first": first, "second": second, "cells": title, **asdict(interval)})
    return pd.DataFrame(rows)


def _half(table: pd.DataFrame, scarce: str, protocol: AudiovisionProtocol) -> str:
    """One half of the table in Markdown: a row per rate and their average, ours and the published columns."""
    cells = [cell for cell in protocol.cells if cell.scarce == scarce]
    theirs = published(cells).dropna(axis=1)
    ours = table[table["metric"] == "accuracy"].pivot(index=["region", "case"], columns="method", values="value")
    groups = {f"{100 * cell.rate:g} %": [cell.setting] for cell in cells} | {AVERAGE: [cell.setting for cell in cells]}
    rows = []
    for label, settings in groups.items():
        by_seed = ours.loc[settings, list(protocol.arms)].groupby("case").mean()
        rows.append([label, *map(_mean_sd, by_seed.to_numpy().T), *(f"{x:.2f}" for x in theirs.loc[settings].mean())])
    heads = ["rate", *protocol.arms, *(f"{name} {PUBLISHED_MARK}" for name in theirs)]
    return f"### {HALVES[scarce]}\n\n" + _markdown(heads, rows, ["--:"] * len(heads))


def _mean_sd(values: NDArray[np.float64]) -> str:
    spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{spread}"


def _differences(compared: pd.DataFrame) -> str:
    rows = [
        [
            f"{row.first} − {row.second}",
            row.cells,
            f"{row.difference:+.2f}",
            f"[{row.low:+.2f}, {row.high:+.2f}]",
            f"{row.better} of {row.repetitions}",
        ]
        for row in compared.itertuples()
    ]
    heads = ["first − second", "cells", "difference", "95 % interval", "seeds above 0"]
    table = _markdown(heads, rows, ["---", "---", "--:", "--:", "--:"])
    return f"### Differences in points, averaged over the rates\n\n{table}"


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], alignments: Sequence[str]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, alignments, *rows))


def _notes(protocol: AudiovisionProtocol, tests: int) -> list[str]:
    split = "the published test part" if protocol.published_split else "a split of its own each"
    train = protocol.train
    return [
        f"Accuracy on {tests} test pairs in %, mean ± standard deviation over {protocol.seeds} seeds, {split}.",
        f"{PUBLISHED_MARK}: numbers of the paper, of its own data and split.",
        f"Modality dropout (upper bound: none): {train.modality_dropout.name}, per {train.modality_dropout.per}; "
        f"alpha {protocol.alpha:g}, p {protocol.p}; {train.epochs} epochs, batches of {train.batch_size}.",
        "Intervals: paired bootstrap over seeds and, within them, test pairs.",
        "Meta-updates and elections use the validation part, masked at the same rate; no method trains on it.",
    ]
