"""Several trainings of a method: values averaged over seeds, and intervals that count chance in training.

Tables here have the column ``seed``. All seeds are evaluated on the same cases, so cases and
seeds are crossed.

Legend: S seeds, P patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.bootstrap import percentile_interval, seeds_and_patients_drawn
from nnunetv2_mmkd.evaluation.result_table import COLUMNS, ResultTable


@dataclass(frozen=True)
class SeedSummary:
    """A method's mean over its seeds.

    Attributes:
        method, region, metric: of the table.
        mean: of the seeds' values; a seed's value is the mean over cases of each case's mean over subsets.
        sd: between seeds (n - 1), NaN with one.
        seeds: how many.
        values: of the seeds, in order.
    """

    method: str
    region: str
    metric: str
    mean: float
    sd: float
    seeds: int
    values: tuple[float, ...]


@dataclass(frozen=True)
class SeedInterval:
    """A difference between two methods, with chance in training counted.

    Attributes:
        difference: mean over seeds and cases.
        ci_low, ci_high: percentile interval, seeds and patients drawn; NaN with one seed.
        seeds: that both methods have.
        better: in how many of them the difference is above 0.
    """

    difference: float
    ci_low: float
    ci_high: float
    seeds: tuple[str, ...]
    better: int


def average_over_seeds(table: ResultTable) -> ResultTable:
    """A table without seeds in which each value is the mean over them; undefined ones (NaN) are left out.

    With it, ``mmkd compare`` speaks of the trained models as they are: its interval is over patients only.
    """
    pooled = table.rows.groupby(list(COLUMNS[:-1]), sort=False, as_index=False)["value"].mean()
    return ResultTable.from_frame(pooled, table.modalities, table.source)


def summarise_seeds(table: ResultTable) -> tuple[SeedSummary, ...]:
    """Mean and standard deviation between seeds, per method, metric and region."""
    found = []
    for (method, metric, region), rows in table.rows.groupby(["method", "metric", "region"], sort=False):
        cases = rows.groupby(["seed", "case"], sort=False)["value"].mean()
        values = tuple(map(float, cases.groupby("seed", sort=False).mean()))
        spread = float(np.std(values, ddof=1)) if len(values) > 1 and np.isfinite(values).all() else float("nan")
        found.append(
            SeedSummary(str(method), str(region), str(metric), float(np.mean(values)), spread, len(values), values)
        )
    return tuple(found)


def compare_seeds(
    table: ResultTable,
    first: str,
    second: str,
    *,
    region: str,
    metric: str,
    patients: Mapping[str, str] | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> SeedInterval:
    """Interval of a difference for new patients and new trainings.

    Seeds are drawn with replacement, and patients are, independently of one another
    (:func:`~.bootstrap.seeds_and_patients_drawn`), because all seeds are evaluated on the same patients;
    drawing patients anew within each seed would take their difficulty for several independent ones. A seed is drawn
    with all its folds and for both methods at once: where equal seeds make them alike, that is counted, and where
    not, it does no harm. With few seeds the interval is rough: S trainings have a variance of their own that the
    bootstrap sees (S - 1) / S of.

    Args:
        table: with ``seed``.
        first, second: methods; the difference is first - second.
        region, metric: of the table.
        patients: case -> patient; default: each case is one.
        confidence: level.
        resamples: of the bootstrap.
        seed: of the draws.

    Raises:
        InputError: the methods have no seed, or no defined pair, in common; an infinite value.
    """
    chosen = table.select(metric=metric, regions=[region], methods=[first, second])
    chosen.require_finite()
    one, two = (chosen.select(methods=[name]).rows.drop(columns="method") for name in (first, second))
    pairs = one.merge(two, on=["seed", "case", "subset"], suffixes=("_1", "_2"))
    pairs = pairs.dropna(subset=["value_1", "value_2"])
    if pairs.empty:
        raise InputError(f"{first} and {second} have no values of {metric}, {region} with the same seed in common")
    pairs = pairs.assign(difference=pairs["value_1"] - pairs["value_2"])
    each = pairs.groupby(["seed", "case"], sort=False)["difference"].mean().reset_index()
    of = each["case"] if patients is None else each["case"].map(patients)
    seeds, names = pd.factorize(each["seed"])
    patient, patients_named = pd.factorize(of)
    sums, counts = np.zeros((len(names), len(patients_named))), np.zeros((len(names), len(patients_named)))
    np.add.at(sums, (seeds, patient), each["difference"].to_numpy(float))
    np.add.at(counts, (seeds, patient), 1.0)
    per_seed = sums.sum(1) / counts.sum(1)
    difference = float(sums.sum() / counts.sum())
    low = high = float("nan")
    if len(names) > 1:
        low, high = percentile_interval(
            seeds_and_patients_drawn(sums, counts), confidence=confidence, resamples=resamples, seed=seed
        )
    return SeedInterval(difference, low, high, tuple(map(str, names)), int((per_seed > 0).sum()))
