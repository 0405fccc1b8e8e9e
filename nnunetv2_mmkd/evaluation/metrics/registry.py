"""The metric registry: all metrics by name, and the calls that measure what is named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType

from numpy.typing import ArrayLike

from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.evaluation.metrics.distance import DISTANCE_METRICS
from nnunetv2_mmkd.evaluation.metrics.empty import EmptyPolicy
from nnunetv2_mmkd.evaluation.metrics.lesion_tasks import LESION_TASKS, LesionTask, lesion_task
from nnunetv2_mmkd.evaluation.metrics.lesions import lesion_wise
from nnunetv2_mmkd.evaluation.metrics.mask_pair import MaskPair
from nnunetv2_mmkd.evaluation.metrics.overlap import OVERLAP_METRICS
from nnunetv2_mmkd.evaluation.metrics.postprocessing import POSTPROCESSED
from nnunetv2_mmkd.evaluation.metrics.spec import MetricParameter, MetricSpec

METRICS: Mapping[str, MetricSpec] = MappingProxyType(
    {spec.name: spec for spec in (*OVERLAP_METRICS, *DISTANCE_METRICS)}
)
"""Metrics of a pair of masks, see :func:`measure`."""

LESION_METRICS: Mapping[str, MetricSpec] = MappingProxyType(
    {
        "lesion_dice": MetricSpec.ratio("lesion_dice", "Lesion-wise Dice"),
        "lesion_hd95": MetricSpec.distance("lesion_hd95", "Lesion-wise HD95"),
        "lesion_nsd": MetricSpec.ratio("lesion_nsd", "Lesion-wise NSD"),
    }
)
"""Metrics of a whole case under the rules of a task, see :func:`measure_lesions`."""

WHOLE_REGION = "legacy_"
"""Beginning of the whole region's metrics among the lesion-wise ones."""


def metric_parameters() -> dict[str, MetricParameter]:
    """All parameters of metrics, by name; metrics that share a name share the value.

    Raises:
        ValueError: two metrics mean different things by one name.
    """
    known: dict[str, MetricParameter] = {}
    for spec in METRICS.values():
        for each in spec.parameters:
            if known.setdefault(each.name, each) != each:
                raise ValueError(f"metric {spec.name}: its parameter {each.name!r} differs from another metric's")
    return known


def check_metrics(names: Sequence[str], parameters: Mapping[str, float]) -> None:
    """Refuse what cannot be measured.

    Raises:
        InputError: an unknown metric or parameter, or a parameter out of its range.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        hint = "; lesion-wise scores are asked for by naming their task" if unknown[0] in LESION_METRICS else ""
        raise InputError(f"unknown metric {unknown[0]!r}: choose from {choices(unknown[0], METRICS)}{hint}")
    known = metric_parameters()
    for name, value in parameters.items():
        if name not in known:
            raise InputError(f"no metric has a parameter {name!r}; there are {', '.join(known)}")
        if not (math.isfinite(value) and value >= known[name].least):
            raise InputError(f"{name} {value}: expected {known[name].unit}, {known[name].least:g} or more")


def metric_spec(name: str) -> MetricSpec:
    """What is known of a metric of the result table.

    Knows the names of :data:`METRICS` and :data:`LESION_METRICS`, the ending of post-processed ones, and ``@task``.
    Any other name is its own title, without unit, taken for a score of which more is better.

    >>> metric_spec("lesion_hd95@brats2023-gli").label()
    'Lesion-wise HD95, BraTS 2023 GLI (mm)'

    Args:
        name: e.g. ``"dice"``, ``"dice_postprocessed"``, ``"lesion_hd95@brats2023-gli"``.
    """
    plain, _, task = name.partition("@")
    notes = []
    if plain.endswith(POSTPROCESSED):
        plain = plain.removesuffix(POSTPROCESSED)
        notes.append("post-processed")
    if task and plain.startswith(WHOLE_REGION):
        plain = plain.removeprefix(WHOLE_REGION)
        notes.append("whole region")
    if task:
        notes.append(LESION_TASKS[task].title if task in LESION_TASKS else task)
    known = METRICS.get(plain) or LESION_METRICS.get(plain)
    if known is None:
        return MetricSpec(name, name, unit="", higher_is_better=True, percent=False)
    return replace(known, name=name, title=known.title + "".join(f", {note}" for note in notes))


def measure(
    prediction: ArrayLike,
    target: ArrayLike,
    spacing: Sequence[float],
    names: Sequence[str] = tuple(METRICS),
    empty: str | EmptyPolicy = "legacy",
    parameters: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, float]:
    """Metrics of one region; what several of them need is computed once.

    Empty regions: by ``empty``, see the metrics.

    >>> measure([[1, 1, 0]], [[0, 1, 1]], (1.0, 1.0), ["dice", "hd95"])
    {'dice': 0.5, 'hd95': 1.0}

    Args:
        prediction: mask, 2d or 3d, booleans or 0 and 1.
        target: mask of the same shape.
        spacing: mm per axis, in the order of the array's axes.
        names: keys of :data:`METRICS`, all by default.
        empty: ``"legacy"``, ``"nan"`` or a policy of one's own.
        parameters: of the metrics, e.g. ``{"tolerance": 2.0}`` (mm, of the NSD); default: their own.

    Returns:
        Name -> value, in the order of ``names``; ratios in 0..1, distances in mm.

    Raises:
        InputError: an unknown metric, parameter or policy, or masks or spacing that are not what is expected.
    """
    check_metrics(names, parameters)
    pair = MaskPair(prediction, target, spacing, empty)
    return {name: METRICS[name].measure(pair, parameters) for name in names}


def measure_lesions(
    prediction: Mapping[str, ArrayLike],
    target: Mapping[str, ArrayLike],
    spacing: Sequence[float],
    task: str | LesionTask,
) -> dict[str, dict[str, float]]:
    """Lesion-wise scores of a case as plain numbers.

    Empty regions: the task's own rules, see :func:`.lesions.lesion_wise`.

    Returns:
        Region -> name -> value: ``lesion_dice``, ``lesion_hd95``, ``lesion_nsd`` where the task has it, the whole
        region's ``legacy_dice``, ``legacy_hd95``, ``sensitivity``, ``specificity``, and the counts ``n_...`` of
        :class:`.lesions.LesionScores`.

    Raises:
        InputError: see :func:`.lesions.lesion_wise`.
    """
    table: dict[str, dict[str, float]] = {}
    for region, scores in lesion_wise(prediction, target, spacing, task).items():
        values = asdict(scores)
        del values["lesions"]
        if lesion_task(task).nsd_tolerance is None:
            del values["nsd"]
        table[region] = {"lesion_" + name if name in ("dice", "hd95", "nsd") else name: v for name, v in values.items()}
    return table
