"""Semantic prototypes: how similar every voxel is to the mean feature of each class, in two networks.

Everything is computed in float32, outside autocast, and for some voxels at a time: what full-size maps of prototypes'
members, directions and similarities would hold is computed again in backward.

Legend: B batch, C channels, K atoms (classes, or sets of voxels of equal region membership).
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


def prototypes(features: Tensor, atoms: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    r"""Mean feature of each atom in each sample.

    .. math:: c_k = \frac{\sum_i z_i [y_i = k]}{\sum_i [y_i = k]}

    Args:
        features: z, ``[B, C, *spatial]``.
        atoms: y, long ``[B, *spatial]``, -1 where voxels do not count.
        n_atoms: K.

    Returns:
        c ``[B, K, C]`` (0 where a sample does not have the atom), and whether it has it, ``[B, K]``.

    References:
        Shi et al., PASSION, Eq. (4).
    """
    return _prototypes(features.flatten(2).split(VOXELS, 2), atoms.flatten(1).split(VOXELS, 1), n_atoms)


def _prototypes(features: Sequence[Tensor], atoms: Sequence[Tensor], n_atoms: int) -> tuple[Tensor, Tensor]:
    """:func:`prototypes` of voxels in portions, ``[B, C, n]`` and ``[B, n]`` each."""

    def portion(features: Tensor, atoms: Tensor) -> Tensor:
        members = one_hot(atoms + 1, n_atoms + 1)[..., 1:].to(torch.float32).transpose(1, 2)  # [B, K, n]
        return torch.cat([members @ features.float().transpose(1, 2), members.sum(2, keepdim=True)], 2)

    with torch.autocast(features[0].device.type, enabled=False):
        sums = _total(portion, features, atoms)  # [B, K, C + 1]
        sums, counts = sums[..., :-1], sums[..., -1].detach()
        return sums / counts.clamp_min(1)[..., None], counts > 0


def similarities(features: Tensor, centres: Tensor) -> Tensor:
    """Cosine of every voxel's feature with every prototype.

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


def semantic_gap(teacher: Tensor, student: Tensor, atoms: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    r"""How far the student's similarities are from the teacher's.

    .. math:: D = \operatorname{mean}_{i,k} |S^s_k(i) - S^t_k(i)|, \qquad
        L_{proto} = \operatorname{mean}_{i,k} (S^s_k(i) - S^t_k(i))^2

    each with prototypes of its own features under the same truth. The teacher gets no gradient, D has none.

    Args:
        teacher: features on all available modalities, ``[B, C, *spatial]``.
        student: features on one modality.
        atoms: long ``[B, *spatial]``, -1 where voxels do not count.
        n_atoms: K.

    Returns:
        D and L_proto, ``[B]`` each; 0 where nothing counts.

    References:
        Shi et al., PASSION, Eqs. (7) and (8).

    Deviations from the paper:
        Means over voxels and over the atoms of the sample, as in the released code, for the printed sums.
    """
    voxels = atoms.flatten(1).split(VOXELS, 1)
    wanted, found = (each.flatten(2).split(VOXELS, 2) for each in (teacher.detach(), student))
    with torch.no_grad():
        to_teacher, there = _prototypes(wanted, voxels, n_atoms)
    to_student = _prototypes(found, voxels, n_atoms)[0]

    def portion(wanted: Tensor, found: Tensor, atoms: Tensor) -> Tensor:
        counts = there[:, :, None] & (atoms >= 0)[:, None]
        difference = torch.where(counts, similarities(found, to_student) - similarities(wanted, to_teacher), 0)
        return torch.stack([difference.detach().abs().sum((1, 2)), difference.square().sum((1, 2))])

    with torch.autocast(student.device.type, enabled=False):
        distance, loss = _total(portion, wanted, found, voxels)
        number = (there.sum(1) * (atoms.flatten(1) >= 0).sum(1)).clamp_min(1)
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
