"""Distillation of predictions that small regions have a say in.

A mean over all voxels is a mean over the background: what a small region learns from its teacher is lost in it. Here
every atom of the truth (a class, or a set of voxels of equal region membership) counts the same. Everything is computed
in float32, outside autocast, for each sample.

Legend: B batch, K heads, H = 1 for exclusive classes, else K regions, A atoms.
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
        wanted, found = teacher.float() / tau, student.float() / tau
        if not exclusive:
            return tau**2 * bernoulli_kl(wanted, found)
        log_wanted = log_softmax(wanted, 1)
        return tau**2 * (log_wanted.exp() * (log_wanted - log_softmax(found, 1))).sum(1, keepdim=True)


def is_right(teacher: Tensor, atoms: Tensor, *, exclusive: bool) -> Tensor:
    """Where a prediction decides as the truth does.

    Args:
        teacher: logits ``[B, K, *spatial]``.
        atoms: long ``[B, *spatial]``: the class of each voxel, or with regions its membership, bit k for region k.
        exclusive: whether the heads are classes, not regions.

    Returns:
        bool ``[B, H, *spatial]``; what it says where ``atoms`` is -1 means nothing.
    """
    if exclusive:
        return (teacher.argmax(1) == atoms)[:, None]
    return (teacher > 0) == _inside(atoms, teacher.shape[1])


def _inside(atoms: Tensor, n_regions: int) -> Tensor:
    """Membership of each voxel in each region: bool ``[B, K, *spatial]``."""
    regions = torch.arange(n_regions, device=atoms.device).reshape(1, -1, *[1] * (atoms.ndim - 1))
    return ((atoms[:, None] >> regions) & 1).bool()


def teacher_dice(teacher: Tensor, atoms: Tensor, *, exclusive: bool) -> Tensor:
    r"""How well a teacher does in each region of each sample: its soft Dice with the truth, without gradient.

    .. math:: \frac{2 \sum_v x_v y_v}{\sum_v (x_v + y_v)}

    Args:
        teacher: logits ``[B, K, *spatial]``.
        atoms: as in :func:`is_right`; -1 where voxels do not count.
        exclusive: likewise.

    Returns:
        ``[B, K]``, or of the classes but the first ``[B, K - 1]``; about 0 where the sample has nothing of a region.
    """
    with torch.no_grad(), torch.autocast(teacher.device.type, enabled=False):
        if exclusive:
            x = teacher.float().softmax(1)[:, 1:]
            y = torch.stack([atoms == each for each in range(1, teacher.shape[1])], 1)
        else:
            x, y = teacher.float().sigmoid(), _inside(atoms, teacher.shape[1])
        counted = (atoms >= 0)[:, None]
        x, truth = torch.where(counted, x, 0), torch.where(counted, y, False).to(x)
        return 2 * (x * truth).flatten(2).sum(2) / ((x + truth).flatten(2).sum(2) + SMALL)


def voxel_weights(atoms: Tensor, n_atoms: int, *, balanced: bool) -> Tensor:
    """Weights of a mean over the voxels of each sample.

    Args:
        atoms: long ``[B, *spatial]``, -1 where voxels do not count.
        n_atoms: how many there can be.
        balanced: whether each atom that a sample has weighs the same; otherwise each voxel does.

    Returns:
        ``[B, *spatial]``; 0 where voxels do not count, each sample sums to 1 (to 0 if none of its voxels counts).
    """
    counts = torch.stack([(atoms == each).flatten(1).sum(1) for each in range(n_atoms)], 1)
    if balanced:
        share = 1.0 / (counts.clamp_min(1) * (counts > 0).sum(1, keepdim=True).clamp_min(1))
    else:
        share = (1.0 / counts.sum(1, keepdim=True).clamp_min(1)).expand_as(counts)
    weights = torch.gather(share, 1, atoms.clamp_min(0).flatten(1)).reshape(atoms.shape)
    return torch.where(atoms >= 0, weights, 0)


def balanced_kl(
    teacher: Tensor,
    student: Tensor,
    atoms: Tensor,
    n_atoms: int,
    *,
    exclusive: bool,
    tau: float,
    balanced: bool = True,
    only_right: bool = False,
    say: Tensor | None = None,
) -> Tensor:
    r"""Divergence of the student from the teacher, a mean over the voxels of each atom, then over atoms.

    .. math:: \frac{1}{|\mathcal A|} \sum_{a \in \mathcal A} \frac{1}{|a|} \sum_{v \in a} \frac{1}{H} \sum_h
        c_{vh} \, w_h \, \tau^2 \, \mathrm{KL}(p^t_{vh} \,\|\, p^s_{vh})

    with the atoms of the sample and c = 1, or c = 1 only where the teacher decides as the truth does. The means are
    over all voxels of an atom all the same: a region that the teacher has not learned yet teaches little.

    Args:
        teacher: logits ``[B, K, *spatial]``.
        student: the same shape.
        atoms: long ``[B, *spatial]``, -1 where voxels do not count.
        n_atoms: how many there can be.
        exclusive: whether the heads are classes, not regions.
        tau: temperature.
        balanced: False is the plain mean over voxels.
        only_right: whether c depends on the teacher.
        say: w, weights of the regions ``[B, K]``, e.g. from :func:`teacher_dice`; of classes ``[B, K - 1]``, and the
            mean over them counts. Default 1.

    Returns:
        ``[B]``.
    """
    with torch.autocast(student.device.type, enabled=False):
        values = divergence(teacher, student, exclusive=exclusive, tau=tau)
        if only_right:
            values = torch.where(is_right(teacher, atoms, exclusive=exclusive), values, 0)
        if say is not None:
            heard = say.mean(1, keepdim=True) if exclusive else say
            values = values * heard.reshape(*heard.shape, *[1] * (values.ndim - 2))
        weights = voxel_weights(atoms, n_atoms, balanced=balanced)
        return torch.where(weights > 0, values.mean(1) * weights, 0).flatten(1).sum(1)


def soft_dice_distance(
    teacher: Tensor,
    student: Tensor,
    atoms: Tensor,
    *,
    exclusive: bool,
    only_right: bool = False,
    say: Tensor | None = None,
) -> Tensor:
    r"""One minus the Dice semimetric of probabilities, mean over regions, or over classes but the first.

    .. math:: 1 - \frac{\|x + y\|_1 - \|x - y\|_1}{\|x + y\|_1} = \frac{\sum_v |x_v - y_v|}{\sum_v (x_v + y_v)}

    Unlike the soft Dice loss it is smallest where the student's probabilities are the teacher's, and not where they
    are 0 and 1.

    Args:
        teacher: logits ``[B, K, *spatial]``.
        student: the same shape.
        atoms: long ``[B, *spatial]``, -1 where voxels do not count.
        exclusive: whether the heads are classes, not regions.
        only_right: count the difference only where the teacher decides as the truth does.
        say: weights of the regions, ``[B, K]`` or ``[B, K - 1]``, e.g. from :func:`teacher_dice`; default 1.

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
        counted = (atoms >= 0)[:, None]
        differs = counted & is_right(teacher, atoms, exclusive=exclusive) if only_right else counted
        difference = torch.where(differs, (x - y).abs(), 0).flatten(2).sum(2)
        size = torch.where(counted, x + y, 0).flatten(2).sum(2)
        distance = difference / (size + SMALL)
        return (distance if say is None else say * distance).mean(1)
