"""Distillation between features of modalities, and how well the mean of some stands for another.

Everything is computed in float32, outside autocast.

Legend: A available modalities of a sample, C channels, N positions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d


def pairwise_distances(features: Tensor, p: int = 1, weight: Tensor | None = None) -> Tensor:
    r"""Distances :math:`\ell_{kd}(f_i, f_j)` of all ordered pairs, teacher i detached.

    .. math:: \ell_{ij} = \operatorname{mean}_{c, n} |\operatorname{sg}(f_i) - f_j|^p

    The teacher is detached (sg) because otherwise the two directions of a pair add up and importance would change how
    strongly two modalities attract each other, not who moves.

    Example:
        >>> features = torch.tensor([[[0.0, 0.0]], [[1.0, 3.0]]])  # two modalities, one channel, two positions
        >>> pairwise_distances(features)
        tensor([[0., 2.],
                [2., 0.]])
        >>> pairwise_distances(features, p=2, weight=torch.tensor([1.0, 0.0]))  # the second position is left out
        tensor([[0., 1.],
                [1., 0.]])

    Args:
        features: of one sample, ``[A, C, *spatial]``.
        p: 1 for L1, 2 for the mean squared error (MetaKD §4.4.1: not the Euclidean norm).
        weight: ``[*spatial]``, weight of each position (0 leaves it out), or None for equal weights.

    Returns:
        ``[A, A]``, row = teacher, column = student; the diagonal is 0. All 0 if every position weighs nothing.

    Raises:
        ValueError: p is neither 1 nor 2.

    References:
        Wang et al., MetaKD, Eq. (5).

    Deviations from the paper:
        It prints a p-norm; the mean is the released code's, and holds for any number of channels and positions.
    """
    if p not in (1, 2):
        raise ValueError(f"p must be 1 (L1) or 2 (MSE), not {p}")
    with torch.autocast(features.device.type, enabled=False):
        student = features.float().flatten(2)
        difference = student.detach()[:, None] - student[None]  # [A, A, C, N]
        values = difference.abs() if p == 1 else difference.square()
        return position_mean(values.mean(2), weight)


def position_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over the last axis, ``[..., N]``, with weights ``[*spatial]`` or None; 0 where no position counts."""
    if weight is None:
        return values.mean(-1)
    weight = weight.to(values).flatten()
    return (values * weight).sum(-1) / weight.sum().clamp_min(1e-8)


def pooled_weight(valid: Tensor, spatial: torch.Size) -> Tensor:
    """Share of valid voxels in each cell of a feature map: ``[1, *voxels]`` bool -> ``[*spatial]``.

    Example:
        >>> pooled_weight(torch.tensor([[True, True, True, False]]), torch.Size([2]))
        tensor([1.0000, 0.5000])
    """
    pool: Any = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}[len(spatial)]
    result: Tensor = pool(valid[None].float(), tuple(spatial))[0, 0]
    return result


class FillAgreement(NamedTuple):
    """How the feature that Eq. (2) would generate for each modality compares with the real one; ``[A]`` each.

    Attributes:
        l1: mean absolute difference.
        relative_l1: the same over the mean absolute value of the real feature.
        cosine: cosine similarity of the two as vectors.
    """

    l1: Tensor
    relative_l1: Tensor
    cosine: Tensor


@torch.no_grad()
def fill_agreement(features: Tensor) -> FillAgreement:
    """Compare each modality's feature with the mean of the others', MetaKD's Fig. 5 for every modality.

    Example:
        >>> fill_agreement(torch.tensor([[[1.0, 1.0]], [[1.0, 1.0]], [[4.0, 4.0]]])).l1
        tensor([1.5000, 1.5000, 3.0000])

    Args:
        features: of one sample with at least two modalities, ``[A, C, *spatial]``.
    """
    with torch.autocast(features.device.type, enabled=False):
        real = features.float().flatten(1)
        generated = (real.sum(0) - real) / (len(real) - 1)  # Eq. (2), as if the modality were missing
        l1 = (real - generated).abs().mean(1)
        return FillAgreement(
            l1, l1 / real.abs().mean(1).clamp_min(1e-12), torch.cosine_similarity(real, generated, dim=1)
        )
