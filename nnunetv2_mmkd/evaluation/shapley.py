"""Exact Shapley values of the modalities from a score for each subset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.subsets import all_subset_names, subset_name
from nnunetv2_mmkd.evaluation.summary import subset_means
from nnunetv2_mmkd.names import canonical


@dataclass(frozen=True)
class ShapleyResult:
    """Shapley values of one method, region and metric.

    Attributes:
        method, region, metric: of the result table.
        values: modality -> Shapley value, in the unit of the metric, channel order.
        total: score of the full set; the values sum to it.
    """

    method: str
    region: str
    metric: str
    values: Mapping[str, float]
    total: float


def shapley_values(scores: Mapping[str, float], modalities: Sequence[str]) -> dict[str, float]:
    """Shapley value of each modality: its marginal gain, averaged over all orders of adding the modalities.

    phi_i = sum over S without i of |S|! (M - |S| - 1)! / M! * (v(S + i) - v(S)), with v(empty) = 0.
    The values sum to v(all modalities). Exact, 2^M scores.

    Without any modality nothing is segmented, hence v(empty) = 0. That fits scores for which 0 is the worst and more is
    better (Dice, sensitivity, accuracy); for a distance such as HD95 the values have no such meaning.

    >>> shapley_values({"t1": 0.5, "t2": 0.25, "t1+t2": 0.75}, ("t1", "t2"))
    {'t1': 0.5, 't2': 0.25}

    Args:
        scores: subset -> v(subset), all 2^M - 1 non-empty subsets; aliases and any order in the names accepted.
        modalities: modalities of the data set in channel order.

    Returns:
        Canonical modality -> value, in channel order.

    Raises:
        InputError: a subset is missing, given twice, unknown, or its score is not finite.

    Source: L. S. Shapley, A value for n-person games, 1953.
    """
    known: dict[str, float] = {}
    for text, score in scores.items():
        name = subset_name(text.split("+"), modalities)
        if name in known:
            raise InputError(f"subset {name!r} has two scores; give each subset once")
        if not np.isfinite(score):
            raise InputError(
                f"subset {name!r} has the score {score}; Shapley values need a finite score of every subset"
            )
        known[name] = float(score)
    missing = [name for name in all_subset_names(modalities) if name not in known]
    if missing:
        raise InputError(
            f"Shapley values need a score of every subset; missing: {', '.join(missing)} "
            f"({len(known)} of {2 ** len(modalities) - 1} given)"
        )
    count = len(modalities)
    game = np.zeros(2**count)
    for mask in range(1, 2**count):
        game[mask] = known[subset_name([modalities[i] for i in range(count) if mask >> i & 1], modalities)]
    return {canonical(name): _value(game, position, count) for position, name in enumerate(modalities)}


def shapley_by_region(table: ResultTable, *, metric: str = "dice") -> tuple[ShapleyResult, ...]:
    """Shapley values per method and region from a result table, v = mean over cases.

    Args:
        table: results, with their modalities; NaN values are left out of the means.
        metric: a score for which more is better and 0 is the worst.

    Raises:
        InputError: no such metric, or as :func:`shapley_values`.
    """
    results = []
    for region in table.select(metric=metric).regions:
        means = subset_means(table, region=region, metric=metric)
        for method in means.columns:
            scores = {str(subset): float(value) for subset, value in means[method].dropna().items()}
            try:
                values = shapley_values(scores, table.modalities)
            except InputError as error:
                raise InputError(f"method {method!r}, region {region!r}, {metric}: {error}") from error
            results.append(ShapleyResult(str(method), str(region), metric, values, sum(values.values())))
    return tuple(results)


def _value(game: np.ndarray, position: int, count: int) -> float:
    total = 0.0
    for mask in range(2**count):
        if not mask >> position & 1:
            size = mask.bit_count()
            weight = factorial(size) * factorial(count - size - 1) / factorial(count)
            total += weight * float(game[mask | 1 << position] - game[mask])
    return total
