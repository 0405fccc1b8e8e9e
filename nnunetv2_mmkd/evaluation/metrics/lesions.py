"""Lesion-wise Dice, HD95 and NSD of BraTS 2023 to 2025.

Re-implemented from the definition; nothing here writes files or needs pandas.

Deviations:
    * The official 2024 scripts compute the whole-region ("legacy") HD95, sensitivity and specificity on lesion numbers
      instead of masks: with two lesions or more they are not what their names say. Here they are those of the masks.
    * panoptica 2.1.7 takes the sides of voxels of a NIfTI file in the reverse order, and so gives other distances
      where voxels are no cubes (BraTS 2025 MET; at 1 mm the scores agree to 1e-14).
    * Which lesion comes first, where a lesion touches several of another region (2024 joins), depends on the order of
      the axes. The scripts work in NIfTI order (x, y, z); give masks in that order for the same ties.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import find_objects
from scipy.optimize import linear_sum_assignment

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.components import Lesions, joined, merged, separate, without_small
from nnunetv2_mmkd.evaluation.metrics.distance import hd95, hd95_area, nsd_border
from nnunetv2_mmkd.evaluation.metrics.empty import EmptyPolicy
from nnunetv2_mmkd.evaluation.metrics.lesion_tasks import LesionRule, LesionTask, lesion_task
from nnunetv2_mmkd.evaluation.metrics.mask_pair import MaskPair
from nnunetv2_mmkd.evaluation.metrics.masks import Box, Mask, bounding_box, checked_pair, checked_spacing
from nnunetv2_mmkd.evaluation.metrics.overlap import dice, sensitivity, specificity


@dataclass(frozen=True)
class Lesion:
    """One true lesion that counts.

    Attributes:
        volume: in mm³.
        predicted: number of predicted lesions that meet it, 0 if it was missed.
        dice: Dice of the lesion with the union of those.
        hd95: HD95 of the same in mm (area-weighted; pooled if lesions are paired one to one); the task's penalty if it
            was missed.
        nsd: NSD of the same (border voxels); NaN where the task has none.
    """

    volume: float
    predicted: int
    dice: float
    hd95: float
    nsd: float


@dataclass(frozen=True)
class LesionScores:
    """Scores of one region.

    Attributes:
        dice: lesion-wise Dice, 0..1.
        hd95: lesion-wise HD95 in mm.
        nsd: lesion-wise NSD, 0..1; NaN where the task has none.
        legacy_dice: Dice of the whole region (2024: after small predictions were removed).
        legacy_hd95: HD95 of the whole region in mm, of the same kind as the lesions'.
        sensitivity: of the whole region, over voxels.
        specificity: of the whole region, over voxels.
        n_lesions: true lesions that count.
        n_found: those of them that a predicted lesion meets.
        n_missed: the others.
        n_false_positives: predicted lesions that meet no true lesion (not even one that is too small to count).
        n_ignored: true lesions that are too small to count.
        lesions: the true lesions that count.
    """

    dice: float
    hd95: float
    nsd: float
    legacy_dice: float
    legacy_hd95: float
    sensitivity: float
    specificity: float
    n_lesions: int
    n_found: int
    n_missed: int
    n_false_positives: int
    n_ignored: int
    lesions: tuple[Lesion, ...]


def lesion_wise(
    prediction: Mapping[str, ArrayLike],
    target: Mapping[str, ArrayLike],
    spacing: Sequence[float],
    task: str | LesionTask,
) -> dict[str, LesionScores]:
    r"""Lesion-wise scores of all regions of a task.

    .. math::
        \mathrm{Dice} = \frac{\sum_{g \in K} \mathrm{Dice}(g, P_g)}{|K| + |F|}, \qquad
        \mathrm{HD95} = \frac{\sum_{g \in K} \mathrm{HD95}(g, P_g) + c\,|F|}{|K| + |F|}

    K: true lesions above the task's volume; :math:`P_g`: union of the predicted lesions that meet the dilated g; F:
    predicted lesions that meet no dilated true lesion; c: the penalty, which is also the HD95 of an empty
    :math:`P_g`. NSD is as Dice. Where a task pairs lesions one to one, :math:`P_g` is the one paired with g, and F are
    those without a partner.

    Empty regions: nothing to count (0/0) gives Dice 1 and HD95 0, only false positives 0 and the penalty, only missed
    lesions the same. A truth of small lesions only counts as nothing. MEN-RT leaves F out, so an empty truth gives 1
    and 0 whatever is predicted. The whole region's scores: both empty 1 and 0, one empty 0 and the penalty.

    Args:
        prediction: region name (WT, TC, ET, NETC, SNFH, RC, CC, ED, GTV) -> 3d mask; more regions than the task's do
            no harm. A NETC that only joins lesions of ET (2024 MET and SSA) may be missing: it is TC without ET.
        target: the same for the truth.
        spacing: mm per axis.
        task: name in :data:`.lesion_tasks.LESION_TASKS`, or a task of one's own.

    Raises:
        InputError: a region is missing, or masks or spacing are not what is expected.
    """
    task = lesion_task(task)
    pairs = {name: checked_pair(_region(prediction, name, task), _region(target, name, task)) for name in task.regions}
    shapes = {pair[0].shape for pair in pairs.values()}
    if len(shapes) > 1:
        raise InputError(f"regions have different shapes {sorted(shapes)}: bring them to one grid before comparing")
    shape = shapes.pop()
    if len(shape) != 3:
        raise InputError(f"lesion-wise scores are defined for volumes, not for masks of shape {shape}")
    millimetres = checked_spacing(spacing, 3)

    anything = np.logical_or.reduce([mask for pair in pairs.values() for mask in pair])
    # the margin holds all dilations: which lesion comes first is asked of them
    box = bounding_box(anything, margin=1 + max(rule.dilation for rule in task.regions.values()))
    predicted, true = {}, {}
    for name, rule in task.regions.items():
        predicted_mask, true_mask = (mask[box] for mask in pairs[name])
        predicted[name] = _predicted_lesions(predicted_mask, rule, task, math.prod(millimetres))
        true[name] = merged(true_mask, rule.dilation)
    return {
        name: _scores(
            _all_joined(predicted, name, task),
            _all_joined(true, name, task),
            millimetres,
            task,
            task.regions[name],
            shape,
        )
        for name in task.reported
    }


def _region(masks: Mapping[str, ArrayLike], name: str, task: LesionTask) -> ArrayLike:
    if name in masks:
        return masks[name]
    if name == "NETC" and not task.regions[name].reported and {"TC", "ET"} <= set(masks):
        core, enhancing = checked_pair(masks["TC"], masks["ET"])
        return core & ~enhancing
    raise InputError(f"{task.title} needs a mask of region {name}: got {', '.join(masks) or 'none'}")


def _predicted_lesions(mask: Mask, rule: LesionRule, task: LesionTask, voxel_volume: float) -> Lesions:
    lesions = merged(mask, rule.dilation) if task.merge_predictions else separate(mask)
    return without_small(lesions, rule.min_volume / voxel_volume) if task.remove_small_predictions else lesions


def _all_joined(lesions: Mapping[str, Lesions], name: str, task: LesionTask) -> Lesions:
    """Joined by one region after the other; the others are taken as they were before any join."""
    result = lesions[name]
    for other in task.regions[name].joined_by:
        result = joined(result, lesions[other])
    return result


def _scores(
    predicted: Lesions,
    true: Lesions,
    spacing: tuple[float, ...],
    task: LesionTask,
    rule: LesionRule,
    shape: tuple[int, ...],
) -> LesionScores:
    penalty = math.hypot(*shape) if task.penalty is None else task.penalty
    policy = EmptyPolicy(task.name, both_ratio=1.0, one_ratio=0.0, both_distance=0.0, one_distance=penalty)
    volumes = np.bincount(true.labels.ravel(), minlength=true.count + 1) * math.prod(spacing)
    meetings = _paired(predicted, true) if task.one_to_one else _overlaps(predicted, true)
    distance = hd95 if task.one_to_one else hd95_area
    tolerance = min(spacing) if task.nsd_tolerance == "voxel" else task.nsd_tolerance
    predicted_boxes, true_boxes = find_objects(predicted.labels), find_objects(true.labels)

    lesions = []
    for number in range(1, true.count + 1):
        if volumes[number] <= rule.min_volume:
            continue
        meeting = meetings[meetings[:, 0] == number, 1]
        box = _around([true_boxes[number - 1], *(predicted_boxes[other - 1] for other in meeting)])
        pair = MaskPair(np.isin(predicted.labels[box], meeting), true.labels[box] == number, spacing, policy)
        near = math.nan if tolerance is None else nsd_border(pair, tolerance)
        lesions.append(Lesion(float(volumes[number]), len(meeting), dice(pair), distance(pair), near))

    false_positives = predicted.count - len(np.unique(meetings[:, 1]))
    counted = false_positives if task.count_false_positives else 0
    whole = MaskPair(predicted.labels > 0, true.labels > 0, spacing, policy, voxels=math.prod(shape))
    n_found = sum(lesion.predicted > 0 for lesion in lesions)
    total = len(lesions) + counted
    nothing = 1.0 if tolerance is not None else math.nan
    return LesionScores(
        dice=sum(lesion.dice for lesion in lesions) / total if total else 1.0,
        hd95=(sum(lesion.hd95 for lesion in lesions) + penalty * counted) / total if total else 0.0,
        nsd=sum(lesion.nsd for lesion in lesions) / total if total and tolerance is not None else nothing,
        legacy_dice=dice(whole),
        legacy_hd95=distance(whole),
        sensitivity=sensitivity(whole),
        specificity=specificity(whole),
        n_lesions=len(lesions),
        n_found=n_found,
        n_missed=len(lesions) - n_found,
        n_false_positives=false_positives,
        n_ignored=true.count - len(lesions),
        lesions=tuple(lesions),
    )


def _overlaps(predicted: Lesions, true: Lesions) -> NDArray[np.integer]:
    """Pairs (true lesion, predicted lesion) where the dilated true one meets the predicted one, ``[N, 2]``."""
    meet = np.zeros((true.count + 1, predicted.count + 1), dtype=bool)
    meet[true.reach, predicted.labels] = True
    return np.argwhere(meet[1:, 1:]) + 1


def _paired(predicted: Lesions, true: Lesions) -> NDArray[np.integer]:
    """Pairs (true lesion, predicted lesion), one to one, that overlap and whose Dice sum to most, ``[N, 2]``."""
    overlap = np.zeros((true.count + 1, predicted.count + 1))
    np.add.at(overlap, (true.labels, predicted.labels), 1)
    sizes = overlap.sum(axis=1)[1:, None] + overlap.sum(axis=0)[None, 1:]
    scores = 2 * overlap[1:, 1:] / sizes
    pairs = np.stack(linear_sum_assignment(scores, maximize=True), axis=1)
    found: NDArray[np.integer] = pairs[scores[pairs[:, 0], pairs[:, 1]] > 0] + 1
    return found


def _around(boxes: Sequence[Box]) -> Box:
    """Smallest box around boxes."""
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides)) for sides in zip(*boxes, strict=True)
    )
