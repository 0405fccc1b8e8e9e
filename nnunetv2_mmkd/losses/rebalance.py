"""Prototypes of single modalities: how well each tells the classes apart, and by how much each is modulated.

Everything is computed in float32, outside autocast.

Legend: B samples that have a modality, M modalities, C channels, K classes (of regions, voxels of equal membership are
a class), N cells of a feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d, log_softmax

FAR = 1e9
"""Distance to a prototype that does not exist."""


def shares(classes: Tensor, n_classes: int, size: Sequence[int]) -> Tensor:
    """Share of each class in each cell of a coarser grid.

    Example:
        >>> shares(torch.tensor([[0, 0, 1, -1]]), n_classes=2, size=[2])
        tensor([[[1.0000, 0.0000],
                 [0.0000, 0.5000]]])

    Args:
        classes: long ``[B, *spatial]``, -1 where voxels do not count.
        n_classes: K.
        size: of the grid.

    Returns:
        float ``[B, K, *size]``; the sum over K is the share of the cell's voxels that count.
    """
    pool: Any = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}[len(size)]
    with torch.autocast(classes.device.type, enabled=False):
        return torch.cat([pool((classes == k)[:, None].float(), tuple(size)) for k in range(n_classes)], 1)


def class_sums(features: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    r"""Sums of features and numbers of cells by class; their quotient is the prototype.

    .. math:: c_k = \frac{1}{N_k} \sum_{i: y_i = k} z_i

    Example:
        >>> class_sums(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 0.5]]]))
        (tensor([[1.0000],
                [1.5000]]), tensor([1.0000, 0.5000]))

    Args:
        features: z, ``[B, C, *size]``.
        share: ``[B, K, *size]``; a cell counts for each of its classes with that class's share.

    Returns:
        sums ``[K, C]`` and numbers ``[K]``, without gradient.

    References:
        Fan et al., PMR, Eq. (6).
    """
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        weight, values = share.float().flatten(2), features.float().flatten(2)
        return torch.einsum("bkn,bcn->kc", weight, values), weight.sum((0, 2))


class PrototypeScores(NamedTuple):
    """Scores of a modality's own prototypes in each sample, ``[B]`` each; 0 where nothing counts.

    Attributes:
        similarity: probability of the true class, without gradient; what Eq. (8) sums.
        cross_entropy: PCE, Eq. (9).
        entropy: H of Eq. (13).
    """

    similarity: Tensor
    cross_entropy: Tensor
    entropy: Tensor


def prototype_scores(features: Tensor, share: Tensor, centres: Tensor, known: Tensor) -> PrototypeScores:
    r"""Classify each cell by its distances to the modality's own prototypes.

    .. math:: p_k(i) = \frac{\exp(-\lVert z_i - c_k \rVert)}{\sum_{k'} \exp(-\lVert z_i - c_{k'} \rVert)}, \qquad
        L_{PCE} = -\operatorname{mean}_i \log p_{y_i}(i), \qquad
        H = -\operatorname{mean}_i \sum_k p_k(i) \log p_k(i)

    Example:
        >>> features, share = torch.tensor([[[0.0, 0.0]]]), torch.ones(1, 1, 2)  # two cells of the only class
        >>> prototype_scores(features, share, torch.zeros(1, 1), torch.tensor([True])).similarity
        tensor([1.])

    Args:
        features: z, ``[B, C, *size]``.
        share: ``[B, K, *size]``.
        centres: c, ``[K, C]``; they get no gradient.
        known: bool ``[K]``, which prototypes there are. Cells of other classes do not count.

    References:
        Fan et al., PMR, Eqs. (7), (9) and (13).

    Deviations from the paper:
        Each mean is taken over the cells of a class first, then over the classes of the sample: nine voxels of ten are
        background, while the paper's classes are even. Eq. (13) prints the distance to the true prototype inside the
        softmax, which is one number and has no entropy: H is that of p. A cell that several classes share counts for
        each with its share, as if its feature stood at all of its voxels.
    """
    with torch.autocast(features.device.type, enabled=False):
        voxels = features.float().flatten(2).transpose(1, 2)  # [B, N, C]
        distance = torch.cdist(
            voxels, centres.detach().float().expand(len(voxels), -1, -1), compute_mode="donot_use_mm_for_euclid_dist"
        )
        log_p = log_softmax(torch.where(known, -distance, -FAR), 2).transpose(1, 2)  # Eq. (7), [B, K, N]
        p = log_p.exp()
        weight = share.float().flatten(2) * known[:, None]
        number = weight.sum(2)
        counted = number > 0
        weight = weight / torch.where(counted, number, 1)[..., None]  # of a class's cells the sum is 1

        def balanced(values: Tensor) -> Tensor:
            return (weight * values).sum((1, 2)) / counted.sum(1).clamp_min(1)

        entropy = -(p * log_p).sum(1, keepdim=True)
        return PrototypeScores(balanced(p.detach()), -balanced(log_p), balanced(entropy))  # Eqs. (8), (9), (13)


def imbalance_terms(similarity: Tensor, available: Tensor) -> tuple[Tensor, Tensor]:
    r"""Numerator and denominator of each modality's imbalance ratio.

    .. math:: \rho^m = \frac{\sum_n s_n^m}{\sum_n \operatorname{mean}_{j \in A_n \setminus m} s_n^j}

    over the samples n that have m and another modality.

    Example:
        >>> imbalance_terms(torch.tensor([[0.9, 0.3, 0.0]]), torch.tensor([[True, True, False]]))
        (tensor([0.9000, 0.3000, 0.0000]), tensor([0.3000, 0.9000, 0.0000]))

    Args:
        similarity: s, ``[B, M]``; entries of modalities that are not available are not read.
        available: bool ``[B, M]``.

    Returns:
        ``[M]`` each; both 0 where no sample has the modality and another one.

    References:
        Fan et al., PMR, Eq. (8).

    Deviations from the paper:
        It has two modalities, which all samples have; for those this is the same ratio. With more the rival is the mean
        of the others. They are compared in the same samples only: samples are not equally hard.
    """
    scores = torch.where(available, similarity, 0)
    others = available.sum(1, keepdim=True) - 1
    rival = (scores.sum(1, keepdim=True) - scores) / others.clamp_min(1)
    counts = available & (others > 0)
    return torch.where(counts, scores, 0).sum(0), torch.where(counts, rival, 0).sum(0)


def modulation(own: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    r"""By how much each modality is behind the others, and by how much ahead.

    .. math:: \operatorname{clip}(0, 1 / \rho^m - 1, 1), \qquad \operatorname{clip}(0, \rho^m - 1, 1)

    Of two modalities the first is Eq. (11)'s coefficient of the slow one; the second, of the dominant one, is the same
    number, as Eq. (13) has it. A modality is never both.

    Example:
        >>> modulation(torch.tensor([0.9, 0.6]), torch.tensor([0.6, 0.9]))  # the second is behind, the first ahead
        (tensor([0.0000, 0.5000]), tensor([0.5000, 0.0000]))

    Args:
        own: numerator of rho, ``[M]``.
        others: its denominator.

    Returns:
        ``[M]`` each, without gradient; 0 where either is 0.

    References:
        Fan et al., PMR, Eqs. (11) and (13).
    """
    own, others = own.detach(), others.detach()
    defined = (own > 0) & (others > 0)
    ratio = torch.where(defined, own, 1) / torch.where(defined, others, 1)
    return (1 / ratio - 1).clamp(0, 1), (ratio - 1).clamp(0, 1)
