"""Two methods compared on a long result table, with cases or with subsets as the unit.

A value that is NaN (the metric is undefined for the case) is left out pairwise and counted; it is never turned into 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.evaluation.bootstrap import patients_drawn, percentile_interval
from nnunetv2_mmkd.evaluation.result_table import ResultTable

Alternative = Literal["two-sided", "greater", "less"]
"""Alternative of a test: the first method's values are different, greater or less."""


@dataclass(frozen=True)
class MissingPair:
    """A case and subset that one of two methods lacks.

    Attributes:
        method: the method without it.
        case, subset: what it lacks.
    """

    method: str
    case: str
    subset: str


@dataclass(frozen=True)
class CaseComparison:
    """Two methods compared with the case as the unit.

    Attributes:
        first, second: methods; all differences are first - second.
        region, metric: of the result table.
        mean_first, mean_second: mean over cases of each case's mean over subsets.
        difference: mean over cases of the paired differences.
        ci_low, ci_high: percentile bootstrap interval of ``difference``, patients drawn.
        confidence: level of the interval, e.g. 0.95.
        p_value: Wilcoxon signed-rank test of the patients' mean differences; 1 if all of them are 0.
        alternative: of the test.
        cases, patients: how many went into it.
        subsets: subsets averaged over.
        undefined: pairs (case, subset) left out because a value is NaN.
        dropped: cases left out because none of their pairs has two values.
        incomplete: cases that went in with fewer than all subsets.
        missing: pairs that one method lacks (only if ``common_only``).
        resamples, seed: of the bootstrap.
    """

    first: str
    second: str
    region: str
    metric: str
    mean_first: float
    mean_second: float
    difference: float
    ci_low: float
    ci_high: float
    confidence: float
    p_value: float
    alternative: Alternative
    cases: int
    patients: int
    subsets: tuple[str, ...]
    undefined: int
    dropped: tuple[str, ...]
    incomplete: tuple[str, ...]
    missing: tuple[MissingPair, ...]
    resamples: int
    seed: int


@dataclass(frozen=True)
class SubsetComparison:
    """Two methods compared with the subset as the unit, as the papers do.

    Attributes:
        first, second: methods; the difference is first - second.
        difference: mean over the subsets.
        t: paired t statistic, NaN if all differences are 0.
        p_value: of the test, NaN if ``t`` is.
        alternative: of the test.
        pairs: n of the test, the average row included if it is a pair.
        average_row: whether the average over the subsets is one more pair.
        undefined: subsets left out because a mean is NaN.
        missing: pairs that one method lacks (only from :func:`compare` with ``common_only``).
    """

    first: str
    second: str
    difference: float
    t: float
    p_value: float
    alternative: Alternative
    pairs: int
    average_row: bool
    undefined: tuple[str, ...]
    missing: tuple[MissingPair, ...] = ()


def compare(
    table: ResultTable,
    first: str,
    second: str,
    *,
    region: str,
    metric: str = "dice",
    unit: Literal["cases", "subsets"] = "cases",
    patients: Mapping[str, str] | None = None,
    alternative: Alternative | None = None,
    average_row: bool = False,
    common_only: bool = False,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> CaseComparison | SubsetComparison:
    """Compare two methods on the cases and subsets that both have.

    ``unit="cases"``, for inference: each case's mean over subsets, d_c = mean_s (first - second), paired between the
    methods. The interval is a percentile bootstrap of mean_c d_c in which whole patients are drawn with replacement;
    the test is Wilcoxon's signed-rank test of the patients' means of d_c. ``unit="subsets"``, to compare a run with
    the papers: :func:`subset_t_test` over the subsets' means (over the paired cases), which takes correlated means
    for independent ones and says nothing about other patients.

    Args:
        table: result table.
        first, second: methods; differences are first - second.
        region, metric: rows to compare.
        unit: see above.
        patients: case -> patient; ``None``: each case is a patient. Only ``unit="cases"``.
        alternative: of the test; ``None``: two-sided for cases, ``"greater"`` for subsets (for a distance, where lower
            is better, say ``"less"``).
        average_row: one more pair, see :func:`subset_t_test`. Only ``unit="subsets"``.
        common_only: leave out pairs (case, subset) that one method lacks and name them in the result, instead of
            raising.
        confidence: level of the interval.
        resamples, seed: of the bootstrap.

    Raises:
        InputError: an unknown method, region or metric; pairs that one method lacks without ``common_only``; nothing
            left to compare; a case without a patient; a confidence, number of resamples or unit out of range.
    """
    if unit not in ("cases", "subsets"):
        raise InputError(f"unit {unit!r}: expected 'cases' or 'subsets'")
    pairs, missing = _pair(table, first, second, region, metric, common_only)
    if unit == "subsets":
        means = pairs.dropna(subset=["first", "second"]).groupby("subset", sort=False)[["first", "second"]].mean()
        means = means.reindex(pairs["subset"].unique())
        result = subset_t_test(
            dict(zip(means.index, means["first"], strict=True)),
            dict(zip(means.index, means["second"], strict=True)),
            average_row=average_row,
            alternative=alternative or "greater",
            names=(first, second),
        )
        return replace(result, missing=missing)
    if not 0 < confidence < 1:
        raise InputError(f"confidence {confidence}: expected a level between 0 and 1, e.g. 0.95")
    if resamples < 1:
        raise InputError(f"resamples {resamples}: expected at least 1")
    defined = pairs.dropna(subset=["first", "second"])
    cases = defined.groupby("case", sort=False)[["first", "second"]].mean()
    if cases.empty:
        raise InputError(f"{first!r} and {second!r}, region {region!r}, {metric}: no case has a value of both")
    difference = (cases["first"] - cases["second"]).to_numpy(float)
    patient = _patients(list(cases.index), patients)
    low, high = percentile_interval(
        patients_drawn(np.bincount(patient, weights=difference).astype(float), np.bincount(patient)),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )
    subsets = tuple(map(str, pairs["subset"].unique()))
    counts = defined.groupby("case", sort=False).size()
    chosen: Alternative = alternative or "two-sided"
    return CaseComparison(
        first=first,
        second=second,
        region=region,
        metric=metric,
        mean_first=float(cases["first"].mean()),
        mean_second=float(cases["second"].mean()),
        difference=float(difference.mean()),
        ci_low=low,
        ci_high=high,
        confidence=confidence,
        p_value=_wilcoxon(difference, patient, chosen),
        alternative=chosen,
        cases=len(cases),
        patients=int(patient.max()) + 1,
        subsets=subsets,
        undefined=len(pairs) - len(defined),
        dropped=tuple(str(case) for case in pairs["case"].unique() if case not in cases.index),
        incomplete=tuple(str(case) for case, count in counts.items() if count < len(subsets)),
        missing=missing,
        resamples=resamples,
        seed=seed,
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    r"""p-values of several comparisons, corrected so that the chance of any false one stays at the level (Holm 1979).

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1)\, p_{(j)})

    Args:
        p_values: of m comparisons, in any order; NaN (no test was possible) stays NaN and does not count.

    Returns:
        in the same order.
    """
    given = np.asarray(p_values, dtype=float)
    order = [int(index) for index in np.argsort(given) if not np.isnan(given[index])]
    corrected, largest = np.full(len(given), np.nan), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * given[index]))
        corrected[index] = largest
    return tuple(map(float, corrected))


def subset_t_test(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    average_row: bool = False,
    alternative: Alternative = "greater",
    names: tuple[str, str] = ("first", "second"),
) -> SubsetComparison:
    """The papers' paired t-test over subset means.

    t = mean(d) / (sd(d) / sqrt(n)) with n - 1 degrees of freedom, d the differences of the subsets' means.

    LCKD's Table 1 and MetaKD's Tables 4 and 5 are this test over the subsets. In MetaKD's and MCKD's Table 1 the
    *Average* row is one pair more (``average_row=True``), which makes the p-value too small. Either way the subsets'
    means come from the same cases and are strongly correlated, so the p-value is no evidence about new patients;
    for that use :func:`compare` with cases as the unit.

    >>> result = subset_t_test({"t1": 0.5, "t2": 0.75}, {"t1": 0.25, "t2": 0.25})
    >>> result.difference, result.t, result.pairs
    (0.375, 3.0, 2)

    Args:
        first, second: subset -> mean, without an average row; NaN (not reported) is left out pairwise.
        average_row: add the average over the subsets as one more pair.
        alternative: ``"greater"`` is the papers' one-tailed test of first > second.
        names: methods, for the result.

    Raises:
        InputError: a subset that one of them lacks, or fewer than two pairs.
    """
    for one, other, name in ((first, second, names[1]), (second, first, names[0])):
        missing = [subset for subset in one if subset not in other]
        if missing:
            raise InputError(
                f"method {name!r} has no value for the subsets {first_few(missing, 5)}; both need the same subsets"
            )
    pairs = {name: (float(first[name]), float(second[name])) for name in first}
    used = {name: pair for name, pair in pairs.items() if not np.isnan(pair).any()}
    if len(used) < 2:
        raise InputError(f"{names[0]!r} and {names[1]!r}: {len(used)} subsets with both means; a paired test needs 2")
    difference = np.array([a - b for a, b in used.values()])
    if average_row:
        difference = np.append(difference, difference.mean())
    t, p_value = _paired_t(difference, alternative)
    return SubsetComparison(
        first=names[0],
        second=names[1],
        difference=float(difference.mean()),
        t=t,
        p_value=p_value,
        alternative=alternative,
        pairs=len(difference),
        average_row=average_row,
        undefined=tuple(name for name in pairs if name not in used),
    )


def _pair(
    table: ResultTable, first: str, second: str, region: str, metric: str, common_only: bool
) -> tuple[pd.DataFrame, tuple[MissingPair, ...]]:
    if first == second:
        raise InputError(f"both methods are {first!r}; give two")
    table = table.select(metric=metric, regions=[region])
    chosen = table.select(methods=[first, second])
    chosen.require_finite()
    one, two = (
        chosen.select(methods=[name]).rows[["case", "subset", "value"]].rename(columns={"value": side})
        for name, side in ((first, "first"), (second, "second"))
    )
    pairs = one.merge(two, on=["case", "subset"], how="outer", indicator=True)
    order = {subset: position for position, subset in enumerate(table.subsets)}
    pairs = pairs.assign(order=pairs["subset"].map(order)).sort_values(["case", "order"]).drop(columns="order")
    lonely = pairs[pairs["_merge"] != "both"]
    missing = tuple(
        MissingPair(second if side == "left_only" else first, str(case), str(subset))
        for case, subset, side in zip(lonely["case"], lonely["subset"], lonely["_merge"], strict=True)
    )
    if missing and not common_only:
        listed = first_few([f"{pair.method} lacks case {pair.case}, subset {pair.subset}" for pair in missing], 5)
        raise InputError(
            f"{first!r} and {second!r} have not the same cases and subsets: {listed}; evaluate the missing ones or ask "
            "for the common ones only"
        )
    common = pairs[pairs["_merge"] == "both"].drop(columns="_merge")
    if common.empty:
        raise InputError(f"{first!r} and {second!r} have no case and subset in common")
    return common, missing


def _patients(cases: Sequence[str], patients: Mapping[str, str] | None) -> np.ndarray:
    """Position of each case's patient, 0, 1, ..."""
    if patients is None:
        return np.arange(len(cases))
    unknown = [case for case in cases if case not in patients]
    if unknown:
        raise InputError(f"no patient is given for the cases {first_few(unknown, 5)}; add them to the mapping")
    return np.asarray(pd.factorize(np.array([patients[case] for case in cases], dtype=object))[0])


def _wilcoxon(difference: np.ndarray, patient: np.ndarray, alternative: Alternative) -> float:
    means = np.bincount(patient, weights=difference) / np.bincount(patient)
    if not means.any():
        return 1.0
    return float(stats.wilcoxon(means, alternative=alternative).pvalue)


def _paired_t(difference: np.ndarray, alternative: Alternative) -> tuple[float, float]:
    count = len(difference)
    mean, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(count))
    if error == 0.0 and mean == 0.0:
        return float("nan"), float("nan")
    t = mean / error if error > 0 else float(np.copysign(np.inf, mean))
    upper = float(stats.t.sf(t, count - 1))
    if alternative == "greater":
        return t, upper
    if alternative == "less":
        return t, float(stats.t.cdf(t, count - 1))
    return t, 2 * min(upper, float(stats.t.cdf(t, count - 1)))
