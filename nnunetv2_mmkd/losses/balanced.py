"""Distillation of predictions that small regions count in.

A mean over all voxels is a mean over the background: what a small region learns from its teacher is lost in it. Here
every class of the truth (of regions, voxels of equal membership are one) counts the same. Everything is computed
in float32, outside autocast, for each sample.

Legend: B batch, K heads, H = 1 for exclusive classes, else K regions, A membership classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from nnunetv2_mmkd.losses.logit import bernoulli_kl

SMALL = 1e-5


def divergence(teacher: Tensor, student: Tensor, *, exclusive: bool, tau: float) -> Tensor:
    r"""Divergence of softened predictions, voxel by voxel, times tau^2.

    .. math:: \tau^2 \, \mathrm{KL}\big(\sigma(l^t / \tau) \,\|\, \sigma(l^s / \tau)\big)

    Example:
        >>> divergence(torch.zeros(1, 1, 2), torch.tensor([[[0.0, 2.0]]]), exclusive=False, tau=1.0)
        tensor([[[0.0000, 0.4338]]])

    Args:
        teacher: logits ``[B, K, *spatial]``.
        student: the same shape.
        exclusive: whether the heads are classes (softmax, summed over classes), not regions (Bernoulli, each alone).
        tau: temperature.

    Returns:
        ``[B, H, *spatial]``.

    References:
        Hinton et al., Distilling the Knowledge in a Neural Network, 2015, §2 and for tau^2 §2.1.
    """
    with torch.autocast(student.device.type, enabled=False):
        target, prediction = teacher.float() / tau, student.float() / tau
        if not exclusive:
            return tau**2 * bernoulli_kl(target, prediction)
        log_target = log_softmax(target, 1)
        return tau**2 * (log_target.exp() * (log_target - log_softmax(prediction, 1))).sum(1, keepdim=True)


def is_right(teacher: Tensor, classes: Tensor, *, exclusive: bool) -> Tensor:
    """Where a prediction decides as the truth does.

    Example:
        >>> teacher = torch.tensor([[[3.0, -3.0], [-2.0, -2.0]]])  # two regions, two voxels
        >>> is_right(teacher, torch.tensor([[1, 3]]), exclusive=False)  # in region 0 only; in both
        tensor([[[ True, False],
                 [ True, False]]])

    Args:
        teacher: logits ``[B, K, *spatial]``.
        classes: long ``[B, *spatial]``: the class of each voxel, or with regions its membership, bit k for region k.
        exclusive: whether the heads are classes, not regions.

    Returns:
        bool ``[B, H, *spatial]``; what it says where ``classes`` is -1 means nothing.
    """
    if exclusive:
        return (teacher.argmax(1) == classes)[:, None]
    return (teacher > 0) == _inside(classes, teacher.shape[1])


def _inside(classes: Tensor, n_regions: int) -> Tensor:
    """Membership of each voxel in each region: bool ``[B, K, *spatial]``."""
    regions = torch.arange(n_regions, device=classes.device).reshape(1, -1, *[1] * (classes.ndim - 1))
    return ((classes[:, None] >> regions) & 1).bool()


def teacher_dice(teacher: Tensor, classes: Tensor, *, exclusive: bool) -> Tensor:
    r"""How well a teacher does in each region of each sample: its soft Dice with the truth, without gradient.

    .. math:: \frac{2 \sum_v x_v y_v}{\sum_v (x_v + y_v)}

    Example:
        >>> teacher_dice(torch.tensor([[[9.0, -9.0]]]), torch.tensor([[1, 0]]), exclusive=False)
        tensor([[0.9999]])

    Args:
        teacher: logits ``[B, K, *spatial]``.
        classes: as in :func:`is_right`; -1 where voxels do not count.
        exclusive: likewise.

    Returns:
        ``[B, K]``, or of the classes but the first ``[B, K - 1]``; about 0 where the sample has nothing of a region.
    """
    with torch.no_grad(), torch.autocast(teacher.device.type, enabled=False):
        if exclusive:
            x = teacher.float().softmax(1)[:, 1:]
            y = torch.stack([classes == each for each in range(1, teacher.shape[1])], 1)
        else:
            x, y = teacher.float().sigmoid(), _inside(classes, teacher.shape[1])
        counted = (classes >= 0)[:, None]
        x, truth = torch.where(counted, x, 0), torch.where(counted, y, False).to(x)
        return 2 * (x * truth).flatten(2).sum(2) / ((x + truth).flatten(2).sum(2) + SMALL)


def voxel_weights(classes: Tensor, n_classes: int, *, balanced: bool) -> Tensor:
    """Weights of a mean over the voxels of each sample.

    Example:
        >>> voxel_weights(torch.tensor([[0, 0, 0, 1, -1]]), n_classes=2, balanced=True)
        tensor([[0.1667, 0.1667, 0.1667, 0.5000, 0.0000]])

    Args:
        classes: long ``[B, *spatial]``, -1 where voxels do not count.
        n_classes: how many classes the target can have.
        balanced: whether each class that a sample has weighs the same; otherwise each voxel does.

    Returns:
        ``[B, *spatial]``; 0 where voxels do not count, each sample sums to 1 (to 0 if none of its voxels counts).
    """
    counts = torch.stack([(classes == each).flatten(1).sum(1) for each in range(n_classes)], 1)
    if balanced:
        share = 1.0 / (counts.clamp_min(1) * (counts > 0).sum(1, keepdim=True).clamp_min(1))
    else:
        share = (1.0 / counts.sum(1, keepdim=True).clamp_min(1)).expand_as(counts)
    weights = torch.gather(share, 1, classes.clamp_min(0).flatten(1)).reshape(classes.shape)
    return torch.where(classes >= 0, weights, 0)


def balanced_kl(
    teacher: Tensor,
    student: Tensor,
    classes: Tensor,
    n_classes: int,
    *,
    exclusive: bool,
    tau: float,
    balanced: bool = True,
    only_right: bool = False,
    region_weights: Tensor | None = None,
) -> Tensor:
    r"""Divergence of the student from the teacher, a mean over the voxels of each class, then over classes.

    .. math:: \frac{1}{|\mathcal A|} \sum_{a \in \mathcal A} \frac{1}{|a|} \sum_{v \in a} \frac{1}{H} \sum_h
        c_{vh} \, w_h \, \tau^2 \, \mathrm{KL}(p^t_{vh} \,\|\, p^s_{vh})

    with the classes of the sample and c = 1, or c = 1 only where the teacher decides as the truth does. The means are
    over all voxels of a class all the same: a region that the teacher has not learned yet teaches little.

    Example:
        >>> teacher, student = torch.zeros(1, 1, 4), torch.tensor([[[0.0, 0.0, 0.0, 2.0]]])
        >>> balanced_kl(teacher, student, torch.tensor([[0, 0, 0, 1]]), 2, exclusive=False, tau=1.0)  # 0.4338 / 2
        tensor([0.2169])

    Args:
        teacher: logits ``[B, K, *spatial]``.
        student: the same shape.
        classes: long ``[B, *spatial]``, -1 where voxels do not count.
        n_classes: how many classes the target can have.
        exclusive: whether the heads are classes, not regions.
        tau: temperature.
        balanced: False is the plain mean over voxels.
        only_right: whether c depends on the teacher.
        region_weights: w, weights of the regions ``[B, K]``, e.g. from :func:`teacher_dice`; of classes ``[B, K - 1]``,
            and the mean over them counts. Default 1.

    Returns:
        ``[B]``.
    """
    with torch.autocast(student.device.type, enabled=False):
        values = divergence(teacher, student, exclusive=exclusive, tau=tau)
        if only_right:
            values = torch.where(is_right(teacher, classes, exclusive=exclusive), values, 0)
        if region_weights is not None:
            factors = region_weights.mean(1, keepdim=True) if exclusive else region_weights
            values = values * factors.reshape(*factors.shape, *[1] * (values.ndim - 2))
        weights = voxel_weights(classes, n_classes, balanced=balanced)
        return torch.where(weights > 0, values.mean(1) * weights, 0).flatten(1).sum(1)


def soft_dice_distance(
    teacher: Tensor,
    student: Tensor,
    classes: Tensor,
    *,
    exclusive: bool,
    only_right: bool = False,
    region_weights: Tensor | None = None,
) -> Tensor:
    r"""One minus the Dice semimetric of probabilities, mean over regions, or over classes but the first.

    .. math:: 1 - \frac{\|x + y\|_1 - \|x - y\|_1}{\|x + y\|_1} = \frac{\sum_v |x_v - y_v|}{\sum_v (x_v + y_v)}

    Unlike the soft Dice loss it is smallest where the student's probabilities are the teacher's, and not where they
    are 0 and 1.

    Example:
        >>> teacher, student = torch.tensor([[[9.0, 9.0]]]), torch.tensor([[[9.0, -9.0]]])
        >>> soft_dice_distance(teacher, student, torch.tensor([[1, 1]]), exclusive=False)  # 1 / 3
        tensor([0.3333])

    Args:
        teacher: logits ``[B, K, *spatial]``.
        student: the same shape.
        classes: long ``[B, *spatial]``, -1 where voxels do not count.
        exclusive: whether the heads are classes, not regions.
        only_right: count the difference only where the teacher decides as the truth does.
        region_weights: weights of the regions, ``[B, K]`` or ``[B, K - 1]``, e.g. from :func:`teacher_dice`; default 1.

    Returns:
        ``[B]``.

    References:
        Wang et al., Dice Semimetric Losses: Optimizing the Dice Score with Soft Labels, MICCAI 2023 (the first of the
        two).
    """
    with torch.autocast(student.device.type, enabled=False):
        if exclusive:
            x, y = (logits.float().softmax(1)[:, 1:] for logits in (teacher, student))
        else:
            x, y = (logits.float().sigmoid() for logits in (teacher, student))
        counted = (classes >= 0)[:, None]
        differs = counted & is_right(teacher, classes, exclusive=exclusive) if only_right else counted
        difference = torch.where(differs, (x - y).abs(), 0).flatten(2).sum(2)
        size = torch.where(counted, x + y, 0).flatten(2).sum(2)
        distance = difference / (size + SMALL)
        return (distance if region_weights is None else region_weights * distance).mean(1)
