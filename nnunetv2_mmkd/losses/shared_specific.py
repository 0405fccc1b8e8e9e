"""ShaSpec's auxiliary tasks: shared features of all modalities alike, specific ones that tell their modality.

Everything is computed in float32, outside autocast.

Legend: A available modalities of a sample, P (sample, modality) pairs, M modalities, C channels.
"""

from __future__ import annotations

from itertools import combinations, pairwise

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

PAIRS = ("all", "cyclic")


def aligned_pairs(count: int, which: str = "all") -> list[tuple[int, int]]:
    """Which of the available modalities are compared.

    Example:
        >>> aligned_pairs(3), aligned_pairs(4, "cyclic")
        ([(0, 1), (0, 2), (1, 2)], [(0, 1), (1, 2), (2, 3), (0, 3)])

    Args:
        count: of the available modalities, in channel order.
        which: ``"all"`` pairs, or ``"cyclic"``, each with the next and the last with the first (released code).

    Raises:
        ValueError: another ``which``.
    """
    if which not in PAIRS:
        raise ValueError(f"ShaSpec: pairs must be one of {', '.join(PAIRS)}, not {which!r}")
    if which == "all" or count < 3:
        return list(combinations(range(count), 2))
    return [*pairwise(range(count)), (0, count - 1)]


def alignment_distance(features: Tensor, which: str = "all", weight: Tensor | None = None) -> Tensor:
    r"""Distribution alignment: mean absolute difference of shared features, summed over pairs.

    .. math:: \sum_{(i, j)} \operatorname{mean}_{c, n} |r_i - r_j|

    Both sides of a pair move.

    Example:
        >>> alignment_distance(torch.tensor([[[0.0, 0.0]], [[1.0, 3.0]], [[1.0, 1.0]]]))  # 2 + 1 + 1
        tensor(4.)
        >>> alignment_distance(torch.tensor([[[0.0, 0.0]], [[1.0, 3.0]]]), weight=torch.tensor([1.0, 0.0]))
        tensor(1.)

    Args:
        features: r of one sample, ``[A, C, *spatial]``.
        which: see :func:`aligned_pairs`.
        weight: ``[*spatial]``, weight of each position (0 leaves it out), or None for equal weights.

    Returns:
        0 for a single modality, or if every position weighs nothing.

    References:
        Wang et al., ShaSpec, CVPR 2023, Eq. (8) with p = 1, the paper's choice among the distribution alignment
        objectives (§4.2).

    Deviations from the paper:
        The mean over entries, as in the released code, not their sum.
    """
    with torch.autocast(features.device.type, enabled=False):
        flat = features.float().flatten(2)
        if weight is None:
            share = torch.full_like(flat[0, 0], 1 / flat.shape[2])
        else:
            share = weight.to(flat).flatten() / weight.to(flat).sum().clamp_min(1e-8)
        pairs = aligned_pairs(len(flat), which)
        distances = [((flat[i] - flat[j]).abs().mean(0) * share).sum() for i, j in pairs]  # Eq. (8), p = 1
        return torch.stack(distances).sum() if distances else flat.sum() * 0.0


def modality_classification(logits: Tensor, modality: Tensor) -> Tensor:
    """Domain classification: mean cross entropy of whose specific features these are.

    Example:
        >>> modality_classification(torch.zeros(3, 4), torch.tensor([0, 1, 3]))  # log 4
        tensor(1.3863)

    Args:
        logits: ``[P, M]``.
        modality: the true ones, long ``[P]``.

    References:
        Wang et al., ShaSpec, CVPR 2023, Eq. (5).
    """
    with torch.autocast(logits.device.type, enabled=False):
        return cross_entropy(logits.float(), modality)  # Eq. (5)


def pooled(features: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of a map over its positions: ``[C, *spatial]`` -> float32 ``[C]``.

    Args:
        features: of one sample and modality.
        weight: ``[*spatial]``, weight of each position, or None for equal weights.
    """
    flat = features.float().flatten(1)
    if weight is None:
        return flat.mean(1)
    weight = weight.to(flat).flatten()
    return (flat * weight).sum(1) / weight.sum().clamp_min(1e-8)
