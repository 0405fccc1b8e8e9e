"""The front of the metrics: a table of names, and one call that measures what is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType

from numpy.typing import ArrayLike

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.empty import EmptyPolicy
from nnunetv2_mmkd.evaluation.metrics.lesion_tasks import LesionTask
from nnunetv2_mmkd.evaluation.metrics.lesions import lesion_wise
from nnunetv2_mmkd.evaluation.metrics.mask_pair import Comparison
from nnunetv2_mmkd.evaluation.metrics.postprocessing import ET_THRESHOLD, POSTPROCESSED, remove_small


@dataclass(frozen=True)
class Metric:
    """What tables and figures need to know about a metric.

    Attributes:
        name: key in results.
        title: what the reader sees.
        unit: ``"mm"`` or ``""``.
        higher_is_better: direction.
        percent: whether it is a ratio that may be shown in per cent.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    percent: bool


def _ratio(name: str, title: str) -> Metric:
    return Metric(name, title, unit="", higher_is_better=True, percent=True)


def _millimetres(name: str, title: str) -> Metric:
    return Metric(name, title, unit="mm", higher_is_better=False, percent=False)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            _ratio("dice", "Dice"),
            _millimetres("hausdorff", "Hausdorff distance"),
            _millimetres("hd95", "HD95"),
            _millimetres("hd95_area", "HD95 (area-weighted)"),
            _ratio("sensitivity", "Sensitivity"),
            _ratio("specificity", "Specificity"),
            _ratio("precision", "Precision"),
            _ratio("nsd", "NSD"),
        )
    }
)
"""Metrics of a pair of masks, see :func:`measure`."""

LESION_METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (_ratio("lesion_dice", "Lesion-wise Dice"), _millimetres("lesion_hd95", "Lesion-wise HD95"))
    }
)
"""Metrics of a whole case under the rules of a task, see :func:`measure_lesions`."""


def measure(
    prediction: ArrayLike,
    truth: ArrayLike,
    spacing: Sequence[float],
    names: Sequence[str] = tuple(METRICS),
    empty: str | EmptyPolicy = "legacy",
    tolerance: float = 1.0,
) -> dict[str, float]:
    """Metrics of one region; what several of them need is computed once.

    Empty regions: by ``empty``, see the metrics of :class:`.comparison.Comparison`.

    Args:
        prediction: mask, 2d or 3d, booleans or 0 and 1.
        truth: mask of the same shape.
        spacing: mm per axis, in the order of the array's axes.
        names: keys of :data:`METRICS`, all by default.
        empty: ``"legacy"``, ``"nan"`` or a policy of one's own.
        tolerance: of the NSD, in mm.

    Returns:
        Name -> value, in the order of ``names``; ratios in 0..1, distances in mm.

    Raises:
        InputError: an unknown metric or policy, or masks or spacing that are not what is expected.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        hint = "; lesion-wise scores need a task: measure_lesions" if set(unknown) <= set(LESION_METRICS) else ""
        raise InputError(f"unknown metric {unknown[0]!r}: choose from {', '.join(METRICS)}{hint}")
    pair = Comparison(prediction, truth, spacing, empty)
    return {name: pair.nsd(tolerance) if name == "nsd" else float(getattr(pair, name)()) for name in names}


def measure_postprocessed(
    prediction: ArrayLike,
    truth: ArrayLike,
    spacing: Sequence[float],
    names: Sequence[str] = tuple(METRICS),
    empty: str | EmptyPolicy = "legacy",
    tolerance: float = 1.0,
    threshold: int = ET_THRESHOLD,
) -> dict[str, float]:
    """:func:`measure` after a prediction of fewer than ``threshold`` voxels was removed, names ending accordingly.

    Empty regions: by ``empty``; a removed prediction is an empty one.

    Returns:
        ``name + "_postprocessed"`` -> value: to be put beside the results of :func:`measure`.
    """
    values = measure(remove_small(prediction, threshold), truth, spacing, names, empty, tolerance)
    return {name + POSTPROCESSED: value for name, value in values.items()}


def measure_lesions(
    prediction: Mapping[str, ArrayLike],
    truth: Mapping[str, ArrayLike],
    spacing: Sequence[float],
    task: str | LesionTask,
) -> dict[str, dict[str, float]]:
    """Lesion-wise scores of a case as plain numbers.

    Empty regions: the task's own rules, see :func:`.lesions.lesion_wise`.

    Returns:
        Region -> name -> value: ``lesion_dice``, ``lesion_hd95``, the whole region's ``legacy_dice``,
        ``legacy_hd95``, ``sensitivity``, ``specificity``, and the counts ``n_...`` of :class:`.lesions.LesionScores`.

    Raises:
        InputError: see :func:`.lesions.lesion_wise`.
    """
    table: dict[str, dict[str, float]] = {}
    for region, scores in lesion_wise(prediction, truth, spacing, task).items():
        values = asdict(scores)
        del values["lesions"]
        table[region] = {"lesion_" + name if name in ("dice", "hd95") else name: v for name, v in values.items()}
    return table
