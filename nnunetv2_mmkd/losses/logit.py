"""Distillation between logits.

Everything is computed in float32, outside autocast. Voxels that do not count are left out of means and statistics.

Legend: B batch, K heads (classes or regions).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid, softmax

SMALL = 1e-7


def logit_distance(teacher: Tensor, student: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean squared difference of logits (or whatever else has their shape).

    Example:
        >>> logit_distance(torch.zeros(1, 2, 3), torch.full((1, 2, 3), 2.0))
        tensor(4.)

    Args:
        teacher: ``[B, K, *spatial]``.
        student: the same shape.
        valid: bool ``[B, 1, *spatial]``, or None.

    References:
        Zhu et al., MST-KDNet, Eq. (5).
    """
    with torch.autocast(student.device.type, enabled=False):
        return _voxel_mean((teacher.float() - student.float()).square().mean(1), valid)


def standardised_kl(
    teacher: Tensor, student: Tensor, *, exclusive: bool, tau: float, valid: Tensor | None = None
) -> Tensor:
    r"""Kullback-Leibler divergence of the student from the teacher, both standardised before.

    .. math:: z = \frac{l - \mu}{(\sigma + 10^{-7}) \tau}, \qquad \mathrm{KL}(q(z^f) \,\|\, q(z^m))

    Three or more exclusive classes: mean and deviation over the classes of a voxel, q by softmax, summed over classes.
    Regions: mean and deviation over the sample's voxels for each region, q by sigmoid, Bernoulli divergence, mean over
    regions; a softmax over overlapping regions is no distribution. Two classes: as one region, with the difference of
    their logits, for two standardised values are always -1 and 1.

    Example:
        >>> teacher = torch.tensor([[[2.0], [0.0], [1.0]]])  # one voxel, three classes
        >>> standardised_kl(teacher, 5 * teacher + 3, exclusive=True, tau=1.0).abs() < 1e-6  # scale and shift go
        tensor(True)
        >>> standardised_kl(teacher, -teacher, exclusive=True, tau=1.0)
        tensor(1.6215)

    Args:
        teacher: logits ``[B, K, *spatial]``.
        student: the same shape.
        exclusive: whether the K heads are classes, not regions.
        tau: temperature.
        valid: bool ``[B, 1, *spatial]``, or None.

    Returns:
        the mean over the voxels that count, without the factor tau^2 of Eq. (8).

    References:
        Zhu et al., MST-KDNet, Eqs. (6) and (7); Sun et al., Logit standardization in knowledge distillation.

    Deviations from the paper:
        Eq. (6) prints 1 - mu for l - mu. The treatment of regions and of two classes is ours.
    """
    with torch.autocast(student.device.type, enabled=False):
        pair = [teacher.float(), student.float()]
        if exclusive and teacher.shape[1] > 2:
            target, prediction = (_over_classes(logits) / tau for logits in pair)
            log_target = log_softmax(target, 1)
            return _voxel_mean((log_target.exp() * (log_target - log_softmax(prediction, 1))).sum(1), valid)  # Eq. (7)
        if exclusive and teacher.shape[1] == 2:
            pair = [logits[:, 1:] - logits[:, :1] for logits in pair]
        target, prediction = (_over_voxels(logits, valid) / tau for logits in pair)
        return _voxel_mean(bernoulli_kl(target, prediction).mean(1), valid)


def softened_kl(
    teacher: Tensor,
    student: Tensor,
    *,
    exclusive: bool,
    tau: float,
    valid: Tensor | None = None,
    of_student: bool = True,
) -> Tensor:
    r"""Divergence between softened predictions, times tau^2, for each sample.

    .. math:: \tau^2 \operatorname{mean}_{i,k} \sigma(l^s_i / \tau)_k \log
        \frac{\sigma(l^s_i / \tau)_k}{\sigma(l^t_i / \tau)_k}

    with the softmax over classes; for regions each is a distribution over two outcomes, the softmax of (l, 0) / tau.

    Example:
        >>> teacher, student = torch.zeros(2, 2, 5), torch.zeros(2, 2, 5)
        >>> student[1, 0] = 4.0
        >>> softened_kl(teacher, student, exclusive=True, tau=4.0)
        tensor([0.0000, 0.8876])

    Args:
        teacher: logits ``[B, K, *spatial]``.
        student: the same shape.
        exclusive: whether the K heads are classes, not regions.
        tau: temperature.
        valid: bool ``[B, 1, *spatial]``, or None.
        of_student: KL(student || teacher); otherwise KL(teacher || student).

    Returns:
        ``[B]``, the mean over the voxels that count and over the outcomes.

    References:
        Shi et al., PASSION, Eq. (3).

    Deviations from the paper:
        The factor tau^2 and the mean are the released code's (the paper prints neither); without the factor
        lambda_1 = 0.5 would be 16 times too weak at tau = 4.
    """
    with torch.autocast(student.device.type, enabled=False):
        first, second = (each.float() / tau for each in ((student, teacher) if of_student else (teacher, student)))
        if exclusive:
            log_first = log_softmax(first, 1)
            values = (log_first.exp() * (log_first - log_softmax(second, 1))).mean(1)
        else:
            values = bernoulli_kl(first, second).mean(1) / 2
        return tau**2 * torch.stack(
            [
                _voxel_mean(row[None], None if valid is None else valid[number, None])
                for number, row in enumerate(values)
            ]
        )


def released_kl(teacher: Tensor, student: Tensor, *, tau: float, valid: Tensor | None = None) -> Tensor:
    """The divergence as MST-KDNet's released code has it.

    Standardised along the last axis of the image, softmax over all heads, the divergence of the teacher from the
    student, and divided by the number of heads.
    """
    with torch.autocast(student.device.type, enabled=False):
        target, prediction = (
            (each.float() - each.float().mean(-1, True)) / (each.float().std(-1, keepdim=True) + SMALL) / tau
            for each in (teacher, student)
        )
        difference = log_softmax(prediction, 1) - log_softmax(target, 1)
        return _voxel_mean((softmax(prediction, 1) * difference).mean(1), valid)


def bernoulli_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of independent Bernoulli variables given by logits, element by element.

    Example:
        >>> bernoulli_kl(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 2.0]))
        tensor([0.0000, 0.4338])
    """
    p = teacher.sigmoid()
    return p * (logsigmoid(teacher) - logsigmoid(student)) + (1 - p) * (logsigmoid(-teacher) - logsigmoid(-student))


def _over_classes(logits: Tensor) -> Tensor:
    """Eq. (6) over the heads of each voxel."""
    deviation = logits.std(1, keepdim=True, correction=0)
    return (logits - logits.mean(1, keepdim=True)) / (deviation + SMALL)


def _over_voxels(logits: Tensor, valid: Tensor | None) -> Tensor:
    """Eq. (6) over the voxels of each sample and head."""
    flat = logits.flatten(2)
    weight = torch.ones_like(flat[:, :1]) if valid is None else valid.flatten(2).to(flat)
    count = weight.sum(2, keepdim=True).clamp_min(1)
    centred = flat - (flat * weight).sum(2, keepdim=True) / count
    deviation = ((centred.square() * weight).sum(2, keepdim=True) / count + SMALL**2).sqrt()
    return (centred / (deviation + SMALL)).reshape(logits.shape)


def _voxel_mean(values: Tensor, valid: Tensor | None) -> Tensor:
    """Mean of ``[B, *spatial]`` over the voxels that count; 0 if none does."""
    if valid is None:
        return values.mean()
    counts = valid[:, 0]
    return torch.where(counts, values, 0).sum() / counts.sum().clamp_min(1)
