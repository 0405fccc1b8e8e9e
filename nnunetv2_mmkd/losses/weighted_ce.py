"""Cross entropy with weights by the share of each class: what mmFormer, RFNet, M2FTrans and PASSION add to Dice.

Legend: B batch, K heads.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

NO_LABEL = -100
"""The label that torch's cross entropy leaves out by default."""


def weighted_cross_entropy(logits: Tensor, labels: Tensor, ignore: int = NO_LABEL) -> Tensor:
    r"""Cross entropy in which a class weighs the less the more of the batch it fills.

    .. math:: \frac{1}{V} \sum_v w_{y_v} \big( -\log \operatorname{softmax}(z_v)_{y_v} \big), \qquad w_k = 1 - V_k / V

    Args:
        logits: z, ``[B, K, *spatial]``.
        labels: y, ``[B, *spatial]``.
        ignore: label of voxels that do not count.

    Returns:
        scalar, float32; 0 where no voxel counts.

    References:
        The papers name a weighted cross entropy and Dice (Shi et al., PASSION, ACM MM 2024, Eq. 1); the weights are
        those of the released codes.
    """
    labels = labels.long()
    counts = labels != ignore
    number = counts.sum().clamp_min(1)
    shares = torch.stack([(labels == k).sum() for k in range(logits.shape[1])]) / number
    values = cross_entropy(logits.float(), labels, weight=1 - shares, ignore_index=ignore, reduction="none")
    return values.sum() / number


def weighted_binary_cross_entropy(logits: Tensor, regions: Tensor) -> Tensor:
    """The same for regions, each a class and its complement: weights 1 - share inside, share outside.

    Args:
        logits: ``[B, K, *spatial]``.
        regions: 0 or 1, ``[B, K, *spatial]``.

    Returns:
        by voxel, ``[B, K, *spatial]``, float32; the mean over all is the loss.

    Deviations from the papers:
        Theirs have classes. Voxels with the ignore label count as outside in the shares.
    """
    regions = regions.float()
    share = regions.flatten(2).mean((0, 2)).reshape(1, -1, *[1] * (regions.ndim - 2))
    weight = torch.where(regions > 0, 1 - share, share)
    return binary_cross_entropy_with_logits(logits.float(), regions, weight=weight, reduction="none")
