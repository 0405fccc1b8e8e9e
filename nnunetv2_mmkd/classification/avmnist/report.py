"""The table of Audiovision-MNIST beside the printed one, the comparisons, the pictures.

Legend: S seeds, N test subjects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunetv2_mmkd.classification.avmnist.figures import draw_accuracy, draw_importance
from nnunetv2_mmkd.classification.avmnist.protocol import (
    DROPOUT,
    EQUAL,
    LOWER,
    METAKD,
    UPPER,
    Cell,
    Protocol,
    job_of,
)
from nnunetv2_mmkd.classification.avmnist.run import Outcome, read_outcome
from nnunetv2_mmkd.classification.bootstrap import Interval, paired_bootstrap
from nnunetv2_mmkd.classification.training import Curves
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.published import load_published
from nnunetv2_mmkd.evaluation.table_files import write_table
from nnunetv2_mmkd.evaluation.tables import PRINTED
from nnunetv2_mmkd.files import write_text

PUBLISHED = "metakd_table3"
"""The printed table (MCKD's Table 2 has the same numbers)."""

AVERAGE = "average"

COMPARED = ((METAKD, LOWER), (METAKD, DROPOUT), (METAKD, "LCKD"), (METAKD, EQUAL), (EQUAL, DROPOUT), (DROPOUT, LOWER))
"""Pairs of methods, first minus second."""


class Table:
    """All outcomes.

    Args:
        protocol: what was run.
        output: folder of the results.

    Raises:
        InputError: a training has not been run.
    """

    def __init__(self, protocol: Protocol, output: Path) -> None:
        self.protocol = protocol
        self._outcomes: dict[tuple[int, str, Cell], Outcome] = {}
        for seed in range(protocol.seeds):
            for arm in protocol.arms:
                for cell in protocol.cells:
                    job = job_of(protocol, seed, arm, cell)
                    outcome = read_outcome(job, protocol, output)
                    if outcome is None:
                        raise InputError(f"{output}: {job.name} has not been run with these settings; run it first")
                    self._outcomes[seed, arm, cell] = outcome

    def right(self, arm: str, cell: Cell, part: str = "test") -> NDArray[np.float64]:
        """Whether each subject of each seed was classified rightly, ``[S, N]``."""
        rows = [getattr(self._outcomes[seed, arm, cell], part) for seed in range(self.protocol.seeds)]
        return np.array(rows, dtype=np.float64)

    def accuracy(self, arm: str, cells: Sequence[Cell], part: str = "test") -> NDArray[np.float64]:
        """Accuracy of each seed in per cent, averaged over cells, ``[S]``."""
        return 100 * np.mean([self.right(arm, cell, part).mean(1) for cell in cells], axis=0)

    def curves(self, arm: str, cell: Cell) -> list[Curves]:
        """What the method learned, by seed."""
        return [self._outcomes[seed, arm, cell].curves for seed in range(self.protocol.seeds)]

    def compare(self, first: str, second: str, cells: Sequence[Cell], resamples: int) -> Interval:
        """Mean difference in points over these cells, with its interval."""
        difference = np.mean([self.right(first, cell) - self.right(second, cell) for cell in cells], axis=0)
        return paired_bootstrap(100 * difference, resamples=resamples)

    def halves(self) -> dict[str, list[Cell]]:
        """The two halves of the table."""
        named = {"audio": "(a) missing audio, tested on images", "image": "(b) missing images, tested on audio"}
        return {
            title: [cell for cell in self.protocol.cells if cell.scarce == scarce] for scarce, title in named.items()
        }


def printed(cell: Cell) -> dict[str, float]:
    """The paper's numbers of a cell, method -> per cent; empty for a rate that it does not have."""
    frame = load_published(PUBLISHED)
    frame = frame[(frame["setting"] == cell.setting) & (frame["metric"] == "accuracy")]
    return dict(zip(frame["method"], frame["value"].astype(float), strict=True))


def write_report(protocol: Protocol, output: Path, resamples: int = 4000) -> str:
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
    table = Table(protocol, output)
    write_table(_long(table), output / "results.csv")
    compared = _comparisons(table, resamples)
    blocks = [_half(table, title, cells) for title, cells in table.halves().items()]
    if compared:
        write_table(pd.DataFrame(compared), output / "comparisons.csv")
        blocks.append(_lines(compared))
    text = "\n\n".join(blocks)
    text += "\n\n" + "  \n".join(_notes(table)) + "\n"
    write_text(output / "table.md", text)
    draw_accuracy(_long(table), {cell.setting: printed(cell) for cell in protocol.cells}, output / "figures")
    if METAKD in protocol.arms:
        learned = {cell.setting: table.curves(METAKD, cell) for cell in protocol.cells}
        draw_importance(learned, output / "figures" / "importance.png")
    return text


def _long(table: Table) -> pd.DataFrame:
    """A row per seed: the long result table, the setting in the place of the region."""
    rows = [
        {
            "method": arm,
            "case": f"seed{seed:02d}",
            "subset": "image+audio" if arm == UPPER else cell.known,
            "region": cell.setting,
            "metric": metric,
            "value": value,
        }
        for arm in table.protocol.arms
        for cell in table.protocol.cells
        for metric, part in (("accuracy", "test"), ("validation_accuracy", "validation"))
        for seed, value in enumerate(table.accuracy(arm, [cell], part))
    ]
    return pd.DataFrame(rows)


def _comparisons(table: Table, resamples: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    groups = {**table.halves(), "both halves": list(table.protocol.cells)}
    for first, second in COMPARED:
        if {first, second} <= set(table.protocol.arms):
            for title, cells in groups.items():
                interval = table.compare(first, second, cells, resamples)
                rows.append({"first": first, "second": second, "cells": title, **asdict(interval)})
    return rows


def _half(table: Table, title: str, cells: Sequence[Cell]) -> str:
    """One half of the table in Markdown."""
    beside = {cell: printed(cell) for cell in cells}
    names = [name for name in next(iter(beside.values()), {}) if all(name in found for found in beside.values())]
    heads = ["rate", *table.protocol.arms, *(f"{name} {PRINTED}" for name in names)]
    lines = [f"### {title}", "", "| " + " | ".join(heads) + " |", "|" + " --: |" * len(heads)]
    for label, group in [*((f"{100 * cell.rate:g} %", [cell]) for cell in cells), (AVERAGE, list(cells))]:
        ours = [_mean_sd(table.accuracy(arm, group)) for arm in table.protocol.arms]
        theirs = [f"{np.mean([beside[cell][name] for cell in group]):.2f}" for name in names]
        lines.append("| " + " | ".join([label, *ours, *theirs]) + " |")
    return "\n".join(lines)


def _mean_sd(values: NDArray[np.float64]) -> str:
    if len(values) < 2:
        return f"{values.mean():.2f}"
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"


def _lines(compared: Sequence[Mapping[str, object]]) -> str:
    lines = ["### Differences in points, averaged over the rates", ""]
    lines += [
        "| first − second | cells | difference | 95 % interval | seeds above 0 |",
        "| --- | --- | --: | --: | --: |",
    ]
    lines += [
        f"| {row['first']} − {row['second']} | {row['cells']} | {row['difference']:+.2f} | "
        f"[{row['low']:+.2f}, {row['high']:+.2f}] | {row['better']} of {row['repetitions']} |"
        for row in compared
    ]
    return "\n".join(lines)


def _notes(table: Table) -> list[str]:
    protocol = table.protocol
    split = "the published test part" if protocol.published_split else "a split of its own each"
    tests = table.right(protocol.arms[0], protocol.cells[0]).shape[1]
    return [
        f"Accuracy on {tests} test pairs in %, mean ± standard deviation over {protocol.seeds} seeds, {split}.",
        f"{PRINTED}: numbers of the paper, of its own data and split.",
        f"Subset law of all methods: {protocol.train.law.name}, per {protocol.train.law.per}; alpha "
        f"{protocol.alpha:g}, p {protocol.p}; {protocol.train.epochs} epochs, batches of {protocol.train.batch_size}.",
        "Intervals: paired bootstrap over seeds and, within them, test pairs.",
        "Meta-updates and elections look at the validation part, masked at the same rate; no method trains on it.",
    ]
