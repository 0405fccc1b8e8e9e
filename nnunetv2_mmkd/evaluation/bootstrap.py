"""The bootstrap: percentile intervals of a mean, whatever is drawn.

What is drawn is a :data:`Draw`: patients (:func:`patients_drawn`), seeds and patients
(:func:`seeds_and_patients_drawn`), or repetitions of an experiment and their subjects (:func:`repetitions_drawn`).

Legend: R resamples, S seeds or repetitions, P patients, N subjects.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
"""Generator and a number of resamples -> the mean in each of them."""


def percentile_interval(
    draw: Draw, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0, chunk: int = 500
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean.

    >>> percentile_interval(patients_drawn(np.array([1.0, 1.0]), np.array([1, 1])), resamples=10)
    (1.0, 1.0)

    Args:
        draw: what is drawn.
        confidence: level, e.g. 0.95.
        resamples: R.
        seed: of the draws.
        chunk: resamples at a time; another number gives other draws.

    Source: Efron, Bootstrap methods: another look at the jackknife, Ann. Stat. 1979.
    """
    generator = np.random.default_rng(seed)
    means = [draw(generator, min(chunk, resamples - start)) for start in range(0, resamples, chunk)]
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def patients_drawn(sums: NDArray[np.float64], sizes: NDArray[np.integer]) -> Draw:
    """Mean over cases, whole patients drawn with replacement.

    Args:
        sums: of the values of each patient's cases, ``[P]``.
        sizes: cases of each patient, ``[P]``.
    """
    count = len(sums)

    def draw(generator: np.random.Generator, size: int) -> NDArray[np.float64]:
        drawn = generator.integers(0, count, size=(size, count))
        return np.asarray(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))

    return draw


def seeds_and_patients_drawn(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> Draw:
    """Mean over seeds and cases, seeds and patients drawn with replacement, independently of one another.

    Args:
        sums: of the values of a patient's cases with a seed, ``[S, P]``.
        sizes: how many they are, ``[S, P]``; resamples without any are left out.

    Source: Owen, The pigeonhole bootstrap, Ann. Appl. Stat. 2007.
    """
    seeds, patients = sums.shape

    def draw(generator: np.random.Generator, size: int) -> NDArray[np.float64]:
        rows = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size)  # [R, S]
        columns = generator.multinomial(patients, np.full(patients, 1 / patients), size)  # [R, P]
        total = ((rows @ sums) * columns).sum(1)
        number = ((rows @ sizes) * columns).sum(1)
        return np.asarray(total[number > 0] / number[number > 0])

    return draw


def repetitions_drawn(values: NDArray[np.float64]) -> Draw:
    """Mean over repetitions and their subjects: repetitions are drawn, and in each of them its subjects.

    Args:
        values: ``[S, N]``.
    """
    repetitions, subjects = values.shape

    def draw(generator: np.random.Generator, size: int) -> NDArray[np.float64]:
        drawn = generator.integers(repetitions, size=(size, repetitions, 1))
        within = generator.integers(subjects, size=(size, repetitions, subjects))
        return np.asarray(values[drawn, within].mean(axis=(1, 2)))

    return draw
