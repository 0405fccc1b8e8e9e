"""Style matching: products of feature maps compared, and an adversarial term.

Everything is computed in float32, outside autocast.

Legend: B batch, C and D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import softplus


def gram(first: Tensor, second: Tensor) -> Tensor:
    """Products of two maps' channels, mean over positions: ``[B, C, *s]``, ``[B, D, *s]`` -> ``[B, C, D]``.

    Example:
        >>> gram(torch.ones(1, 2, 4), torch.full((1, 1, 4), 3.0))
        tensor([[[3.],
                 [3.]]])

    References:
        Zhu et al., MST-KDNet, Eq. (10).

    Deviations from the paper:
        It does not divide by the number of positions, so that a weight would hold for one image size only.
    """
    with torch.autocast(first.device.type, enabled=False):
        a, b = first.float().flatten(2), second.float().flatten(2)
        return a @ b.transpose(1, 2) / a.shape[2]  # Eq. (10)


def style_distance(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    r"""A quarter of the mean squared difference of the maps' products, summed over all pairs of maps.

    .. math:: \sum_i \frac{1}{4 n_i} \sum_j (M^f_{i,j} - M^m_{i,j})^2

    Example:
        >>> ones = torch.ones(1, 1, 4)
        >>> style_distance([ones, ones], [ones, 3 * ones])  # (1 - 3)^2 / 4
        tensor(1.)

    Args:
        teacher: maps ``[B, C_i, *spatial]`` on one grid (encoder, transformer, decoder).
        student: of the same shapes.

    References:
        Zhu et al., MST-KDNet, Eqs. (10) and (11), second term; n^2 there is the number of entries, n_i, of M_i here.
    """
    total = student[0].new_zeros((), dtype=torch.float32)
    for i, j in combinations(range(len(student)), 2):
        total = total + (gram(teacher[i], teacher[j]) - gram(student[i], student[j])).square().mean() / 4  # Eq. (11)
    return total


def discriminator_loss(complete: Tensor, incomplete: Tensor) -> Tensor:
    """What the discriminator minimises: Eq. (9) with the opposite sign, mean over positions.

    Example:
        >>> undecided = torch.zeros(1, 8)
        >>> discriminator_loss(undecided, undecided)  # 2 log 2
        tensor(1.3863)

    Args:
        complete: logits of the teacher's features, to become "complete" (0).
        incomplete: logits of the student's, to become "incomplete" (1).

    References:
        Zhu et al., MST-KDNet, Eq. (9).
    """
    with torch.autocast(complete.device.type, enabled=False):
        return softplus(complete.float()).mean() + softplus(-incomplete.float()).mean()  # Eq. (9)


def adversarial_loss(incomplete: Tensor) -> Tensor:
    """What the student minimises: -log(1 - D), so that its features pass for complete.

    Example:
        >>> adversarial_loss(torch.tensor([[-9.0]])) < adversarial_loss(torch.tensor([[9.0]]))
        tensor(True)

    References:
        Zhu et al., MST-KDNet, Eqs. (9) and (11).

    Deviations from the paper:
        The networks would minimise log D, which has no gradient left where the discriminator is sure; and the
        teacher's term of Eq. (9), which would teach it to look incomplete.
    """
    with torch.autocast(incomplete.device.type, enabled=False):
        return softplus(incomplete.float()).mean()
