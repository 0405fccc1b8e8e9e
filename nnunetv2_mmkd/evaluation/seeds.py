"""Several trainings of a method: values averaged over seeds, and intervals that count chance in training.

Tables here have the columns of a result table and ``seed``. All seeds are evaluated on the same cases, so cases and
seeds are crossed.

Legend: S seeds, P patients, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.result_table import COLUMNS

_CHUNK = 500


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


def average_over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """A result table in which each value is the mean over the seeds; undefined ones (NaN) are left out.

    With it, ``mmkd compare`` speaks of the trained models as they are: its interval is over patients only.
    """
    keys = list(COLUMNS[:-1])
    return table.groupby(keys, sort=False, as_index=False)["value"].mean()[list(COLUMNS)]


def summarise_seeds(table: pd.DataFrame) -> tuple[SeedSummary, ...]:
    """Mean and standard deviation between seeds, per method, metric and region."""
    found = []
    for (method, metric, region), rows in table.groupby(["method", "metric", "region"], sort=False):
        cases = rows.groupby(["seed", "case"], sort=False)["value"].mean()
        values = tuple(map(float, cases.groupby("seed", sort=False).mean()))
        spread = float(np.std(values, ddof=1)) if len(values) > 1 and np.isfinite(values).all() else float("nan")
        found.append(
            SeedSummary(str(method), str(region), str(metric), float(np.mean(values)), spread, len(values), values)
        )
    return tuple(found)


def compare_seeds(
    table: pd.DataFrame,
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

    Seeds are drawn with replacement, and patients are, independently of one another (the bootstrap of crossed factors,
    Owen, "The pigeonhole bootstrap", Ann. Appl. Stat. 2007), because all seeds are evaluated on the same patients;
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
        resamples: R.
        seed: of the draws.

    Raises:
        InputError: the methods have no seed, or no defined pair, in common; an infinite value.
    """
    rows = table[(table["region"] == region) & (table["metric"] == metric)]
    one, two = (rows[rows["method"] == name].drop(columns="method") for name in (first, second))
    pairs = one.merge(two, on=["seed", "case", "subset"], suffixes=("_1", "_2"))
    if np.isinf(pairs[["value_1", "value_2"]].to_numpy(float)).any():
        raise InputError(f"{first} - {second}, {region}: {metric} is infinite somewhere, so would be all means")
    pairs = pairs.dropna(subset=["value_1", "value_2"])
    if pairs.empty:
        raise InputError(f"{first} and {second} have no values of {metric}, {region} with the same seed in common")
    pairs = pairs.assign(difference=pairs["value_1"] - pairs["value_2"])
    each = pairs.groupby(["seed", "case"], sort=False)["difference"].mean().reset_index()
    who = each["case"] if patients is None else each["case"].map(patients)
    seeds, names = pd.factorize(each["seed"])
    person, people = pd.factorize(who)
    sums, counts = np.zeros((len(names), len(people))), np.zeros((len(names), len(people)))
    np.add.at(sums, (seeds, person), each["difference"].to_numpy(float))
    np.add.at(counts, (seeds, person), 1.0)
    per_seed = sums.sum(1) / counts.sum(1)
    difference = float(sums.sum() / counts.sum())
    low = high = float("nan")
    if len(names) > 1:
        low, high = _crossed(sums, counts, confidence, resamples, np.random.default_rng(seed))
    return SeedInterval(difference, low, high, tuple(map(str, names)), int((per_seed > 0).sum()))


def _crossed(
    sums: np.ndarray, counts: np.ndarray, confidence: float, resamples: int, generator: np.random.Generator
) -> tuple[float, float]:
    """Percentile interval of ``sums.sum() / counts.sum()``, both ``[S, P]``, rows and columns drawn."""
    seeds, people = sums.shape
    means = []
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        rows = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size)  # [R, S]
        columns = generator.multinomial(people, np.full(people, 1 / people), size)  # [R, P]
        total = ((rows @ sums) * columns).sum(1)
        number = ((rows @ counts) * columns).sum(1)
        means.append(total[number > 0] / number[number > 0])
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
