"""Semantic prototypes: how similar every voxel is to the mean feature of each class, in two networks.

Everything is computed in float32, outside autocast.

Legend: B batch, C channels, K atoms (classes, or sets of voxels of equal region membership).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

SMALL = 1e-5


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
    with torch.autocast(features.device.type, enabled=False):
        members = one_hot(atoms.flatten(1) + 1, n_atoms + 1)[..., 1:].to(torch.float32)  # [B, N, K]
        counts = members.sum(1)
        sums = members.transpose(1, 2) @ features.float().flatten(2).transpose(1, 2)
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
    with torch.autocast(student.device.type, enabled=False):
        with torch.no_grad():
            centres, there = prototypes(teacher, atoms, n_atoms)
            wanted = similarities(teacher, centres)
        found = similarities(student, prototypes(student, atoms, n_atoms)[0])
        counts = there[:, :, None] & (atoms.flatten(1) >= 0)[:, None]
        number = counts.sum((1, 2)).clamp_min(1)
        difference = torch.where(counts, found - wanted, 0)
        distance = difference.detach().abs().sum((1, 2)) / number  # Eq. (7)
        return distance, difference.square().sum((1, 2)) / number  # Eq. (8)
