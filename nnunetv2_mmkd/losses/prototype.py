"""Semantic prototypes: how similar every voxel is to the mean feature of each class, in two networks.

Everything is computed in float32, outside autocast, and for some voxels at a time: what full-size maps of prototypes'
members, directions and similarities would hold is computed again in backward.

Legend: B batch, C channels, K classes (of regions, voxels of equal membership are one).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot
from torch.utils.checkpoint import checkpoint

SMALL = 1e-5

VOXELS = 2**18
"""Of a sample, that are worked on at once: an eighth of a patch of 128 cubed."""


def prototypes(features: Sequence[Tensor], classes: Sequence[Tensor], n_classes: int) -> tuple[Tensor, Tensor]:
    r"""Mean feature of each class in each sample.

    .. math:: c_k = \frac{\sum_i z_i [y_i = k]}{\sum_i [y_i = k]}

    Example:
        >>> features, classes = torch.tensor([[[1.0, 3.0, 8.0]]]), torch.tensor([[0, 0, -1]])
        >>> prototypes([features], [classes], n_classes=2)
        (tensor([[[2.],
                 [0.]]]), tensor([[ True, False]]))

    Args:
        features: z, portions of the voxels ``[B, C, n]``.
        classes: y, long ``[B, n]`` for each portion, -1 where voxels do not count.
        n_classes: K.

    Returns:
        c ``[B, K, C]`` (0 where a sample does not have the class), and whether it has it, ``[B, K]``.

    References:
        Shi et al., PASSION, Eq. (4).
    """

    def portion(features: Tensor, classes: Tensor) -> Tensor:
        members = one_hot(classes + 1, n_classes + 1)[..., 1:].to(torch.float32).transpose(1, 2)  # [B, K, n]
        return torch.cat([members @ features.float().transpose(1, 2), members.sum(2, keepdim=True)], 2)

    with torch.autocast(features[0].device.type, enabled=False):
        sums = _total(portion, features, classes)  # [B, K, C + 1]
        sums, counts = sums[..., :-1], sums[..., -1].detach()
        return sums / counts.clamp_min(1)[..., None], counts > 0


def similarities(features: Tensor, centres: Tensor) -> Tensor:
    """Cosine of every voxel's feature with every prototype.

    Example:
        >>> similarities(torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]), torch.tensor([[[5.0, 0.0]]]))
        tensor([[[1., 0.]]])

    Args:
        features: ``[B, C, *spatial]``.
        centres: ``[B, K, C]``.

    Returns:
        S, ``[B, K, N]`` for N voxels.

    References:
        Shi et al., PASSION, Eqs. (5) and (6).

    Deviations from the paper:
        It prints a sum over voxels in (5) and (6) but subtracts voxel by voxel in (7) and (8): S is a map.
    """
    with torch.autocast(features.device.type, enabled=False):
        voxels = normalize(features.float().flatten(2), dim=1, eps=SMALL)
        return normalize(centres.float(), dim=2, eps=SMALL) @ voxels


def semantic_gap(teacher: Tensor, student: Tensor, classes: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    r"""How far the student's similarities are from the teacher's.

    .. math:: D = \operatorname{mean}_{i,k} |S^s_k(i) - S^t_k(i)|, \qquad
        L_{proto} = \operatorname{mean}_{i,k} (S^s_k(i) - S^t_k(i))^2

    each with prototypes of its own features under the same truth. The teacher gets no gradient, D has none.

    Example:
        >>> features, classes = torch.randn(1, 3, 6), torch.tensor([[0, 0, 1, 1, 1, -1]])
        >>> semantic_gap(features, features, classes, n_classes=2)
        (tensor([0.]), tensor([0.]))

    Args:
        teacher: features on all available modalities, ``[B, C, *spatial]``.
        student: features on one modality.
        classes: long ``[B, *spatial]``, -1 where voxels do not count.
        n_classes: K.

    Returns:
        D and L_proto, ``[B]`` each; 0 where nothing counts.

    References:
        Shi et al., PASSION, Eqs. (7) and (8).

    Deviations from the paper:
        Means over voxels and over the classes of the sample, as in the released code, for the printed sums.
    """
    voxels = classes.flatten(1).split(VOXELS, 1)
    target, prediction = (each.flatten(2).split(VOXELS, 2) for each in (teacher.detach(), student))
    with torch.no_grad():
        to_teacher, present = prototypes(target, voxels, n_classes)
    to_student = prototypes(prediction, voxels, n_classes)[0]

    def portion(target: Tensor, prediction: Tensor, classes: Tensor) -> Tensor:
        counts = present[:, :, None] & (classes >= 0)[:, None]
        difference = torch.where(counts, similarities(prediction, to_student) - similarities(target, to_teacher), 0)
        return torch.stack([difference.detach().abs().sum((1, 2)), difference.square().sum((1, 2))])

    with torch.autocast(student.device.type, enabled=False):
        distance, loss = _total(portion, target, prediction, voxels)
        number = (present.sum(1) * (classes.flatten(1) >= 0).sum(1)).clamp_min(1)
        return distance.detach() / number, loss / number  # Eqs. (7), (8)


def _total(function: Callable[..., Tensor], *portions: Sequence[Tensor]) -> Tensor:
    """Sum of a function over portions of voxels; of its activations nothing is stored."""
    terms = []
    for portion in zip(*portions, strict=True):
        if torch.is_grad_enabled():
            terms.append(checkpoint(function, *portion, use_reentrant=False, preserve_rng_state=False))
        else:
            terms.append(function(*portion))
    return torch.stack(terms).sum(0)
