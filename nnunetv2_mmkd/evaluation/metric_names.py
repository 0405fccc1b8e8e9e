"""What a figure writes for a metric of the result table: title, unit, numbers."""

from __future__ import annotations

from dataclasses import replace

from nnunetv2_mmkd.evaluation.metrics.lesion_tasks import lesion_task
from nnunetv2_mmkd.evaluation.metrics.measure import LESION_METRICS, METRICS, Metric
from nnunetv2_mmkd.evaluation.metrics.postprocessing import POSTPROCESSED

LEGACY = "legacy_"
"""Beginning of the whole region's metrics among the lesion-wise ones."""

MINUS = "\N{MINUS SIGN}"


def metric_of(name: str) -> Metric:
    """Facts about a metric of the result table.

    Knows the names of :data:`METRICS` and :data:`LESION_METRICS`, the ending of post-processed ones, and ``@task``.
    Any other name is its own title, without unit, taken for a score of which more is better.

    Args:
        name: e.g. ``"dice"``, ``"dice_postprocessed"``, ``"lesion_hd95@brats2023-gli"``.
    """
    plain, _, task = name.partition("@")
    notes = []
    if plain.endswith(POSTPROCESSED):
        plain = plain.removesuffix(POSTPROCESSED)
        notes.append("post-processed")
    if task and plain.startswith(LEGACY):
        plain = plain.removeprefix(LEGACY)
        notes.append("whole region")
    if task:
        notes.append(_task_title(task))
    known = METRICS.get(plain) or LESION_METRICS.get(plain)
    if known is None:
        return Metric(name, name, unit="", higher_is_better=True, percent=False)
    return replace(known, name=name, title=known.title + "".join(f", {note}" for note in notes))


def scale(metric: Metric) -> float:
    """By what values are multiplied in a figure: ratios are shown in per cent."""
    return 100.0 if metric.percent else 1.0


def axis_label(metric: Metric, prefix: str = "") -> str:
    """Title and unit (``"Dice (%)"``)."""
    unit = "%" if metric.percent else metric.unit
    title = prefix + metric.title
    return f"{title} ({unit})" if unit else title


def number(value: float, metric: Metric, signed: bool = False) -> str:
    """A value as a figure shows it, one decimal in per cent and mm, with a true minus.

    Args:
        value: in the unit of the metric.
        metric: its facts.
        signed: also a plus.
    """
    shown = value * scale(metric)
    text = f"{shown:.1f}" if metric.percent or metric.unit else f"{shown:.3g}"
    if float(text) == 0.0:
        return text.removeprefix("-")
    return ("+" if signed and shown > 0 else "") + text.replace("-", MINUS)


def _task_title(name: str) -> str:
    try:
        return lesion_task(name).title
    except ValueError:
        return name
