"""Metrics of overlap. A new one: a function of a :class:`MaskPair` here, an entry in :data:`OVERLAP_METRICS`, a test.

Notation: P prediction, G target, TP = |P∩G|, FP = |P∖G|, FN = |G∖P|, TN the rest of the image.
"""

from __future__ import annotations

from nnunetv2_mmkd.evaluation.metrics.mask_pair import MaskPair
from nnunetv2_mmkd.evaluation.metrics.spec import MetricSpec


def dice(pair: MaskPair) -> float:
    """Dice: 2TP / (2TP + FP + FN).

    Empty regions: both empty NaN (``nan``) or 1 (``legacy``); one empty 0.

    >>> dice(MaskPair([[1, 1, 0]], [[0, 1, 1]], (1.0, 1.0)))
    0.5
    """
    return pair.ratio(2 * pair.true_positives, pair.n_prediction + pair.n_target)


def sensitivity(pair: MaskPair) -> float:
    """Sensitivity (recall): TP / (TP + FN).

    Empty regions: both empty NaN or 1; only the target empty NaN (``nan``: 0/0) or 0 (``legacy``, the challenges'
    TP / (TP + FN + tiny)); only the prediction empty 0.

    >>> sensitivity(MaskPair([[1, 0, 0, 0]], [[1, 1, 1, 1]], (1.0, 1.0)))
    0.25
    """
    return pair.ratio(pair.true_positives, pair.n_target)


def specificity(pair: MaskPair) -> float:
    """Specificity: TN / (TN + FP) over the whole image.

    Empty regions: the target empty: the formula (1 if the prediction is empty too). A target that fills the image:
    NaN or 0.

    >>> specificity(MaskPair([[1, 1, 0, 0]], [[1, 0, 0, 0]], (1.0, 1.0)))  # doctest: +ELLIPSIS
    0.666...
    """
    negatives = pair.voxels - pair.n_target
    return pair.ratio(negatives - (pair.n_prediction - pair.true_positives), negatives)


def precision(pair: MaskPair) -> float:
    """Precision (positive predictive value): TP / (TP + FP).

    Empty regions: both empty NaN or 1; only the prediction empty NaN (``nan``: 0/0) or 0 (``legacy``); only the
    target empty 0.

    >>> precision(MaskPair([[1, 1, 1, 1]], [[1, 0, 0, 0]], (1.0, 1.0)))
    0.25
    """
    return pair.ratio(pair.true_positives, pair.n_prediction)


OVERLAP_METRICS = (
    MetricSpec.ratio("dice", "Dice", dice),
    MetricSpec.ratio("sensitivity", "Sensitivity", sensitivity),
    MetricSpec.ratio("specificity", "Specificity", specificity),
    MetricSpec.ratio("precision", "Precision", precision),
)
"""All of them."""
