"""PASSION's relative preference: which modalities the teacher neglects in a sample, and the gradient weight of each.

Legend: B samples, M modalities.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnunetv2_mmkd.errors import InputError

GAMMA_EPOCHS = 300
"""Length of the training for which gamma = 0.01 is meant."""

LEAST, MOST = 0.1, 4.0
"""Bounds of beta over its start (the released code's bounds of beta, which starts at 1 there)."""


def relative_preference(distance: Tensor, available: Tensor) -> Tensor:
    r"""Relative preference of each modality in each sample.

    .. math:: \bar D_n = \operatorname{mean}_{m \in A_n} D_n^m, \qquad RP_n^m = 1 - D_n^m / \bar D_n

    Args:
        distance: D, ``[B, M]``; entries of modalities that are not available are not read.
        available: bool ``[B, M]``.

    Returns:
        ``[B, M]``: above 0 for a preferred modality, below for a neglected one; 0 where a modality is not available,
        and in samples with fewer than two, where student and teacher are the same.

    References:
        Shi et al., PASSION, Eqs. (9) and (10).
    """
    known = torch.where(available, distance.float(), 0)
    mean = known.sum(1, keepdim=True) / available.sum(1, keepdim=True).clamp_min(1)  # Eq. (9)
    defined = available & (available.sum(1, keepdim=True) > 1) & (mean > 0)
    return torch.where(defined, 1 - known / torch.where(mean > 0, mean, 1), 0)  # Eq. (10)


def neglected(preference: Tensor) -> Tensor:
    """Task mask delta of Eq. (11): where the preference is below 0."""
    return preference < 0


def initial_weights(missing_rates: Sequence[float], modalities: Sequence[str]) -> Tensor:
    r"""Start of the gradient weights, :math:`\beta_0^m = 1 / (1 - MR^m)`.

    Args:
        missing_rates: MR, of the training cases.
        modalities: their names.

    Raises:
        InputError: a modality that no training case has.
    """
    for name, rate in zip(modalities, missing_rates, strict=True):
        if rate >= 1:
            raise InputError(
                f"no training case of this fold has {name} (its missing rate is 1): nothing can be learned about it. "
                "Lower its rate, choose another fold, or leave the modality out of the data set"
            )
    return 1 / (1 - torch.tensor(tuple(missing_rates)))


def updated_weights(
    weights: Tensor,
    start: Tensor,
    preference: Tensor,
    rate: float,
    *,
    relative: bool = False,
    renormalised: bool = False,
) -> Tensor:
    r"""Gradient weights for the next epoch.

    .. math:: \beta_{r+1}^m = \beta_r^m - \gamma \bar{RP}^m

    So a modality that is missing four times in five, which starts at 5, moves by a fifth of the share by which one that
    is always available moves. In the released code :math:`1 / (1 - MR)` is a constant factor, and beta starts at
    1: that is ``relative``, :math:`\beta_{r+1}^m = \beta_r^m - \gamma \beta_0^m \bar{RP}^m`.

    Args:
        weights: beta, ``[M]``.
        start: beta at the start, ``[M]``.
        preference: mean preference of the epoch, ``[M]`` (Eq. 12), NaN where no sample had the modality.
        rate: gamma, scaled to the number of epochs.
        relative: whether beta moves in units of its start.
        renormalised: whether beta over its start then gets a mean square of 1 (released code).

    References:
        Shi et al., PASSION, Eq. (13).

    Deviations from the paper:
        beta over its start stays between 0.1 and 4: left alone it falls below 0 in a training of 1000 epochs.
    """
    moved = weights - rate * (start if relative else 1) * preference.nan_to_num(0.0)
    moved = torch.minimum(torch.maximum(moved, LEAST * start), MOST * start)
    return moved / (moved / start).square().mean().sqrt() if renormalised else moved
