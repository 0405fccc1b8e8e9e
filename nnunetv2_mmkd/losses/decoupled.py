"""DeMoSeg's distillation: how one modality expresses another is drawn to how that one expresses itself.

Everything is computed in float32, outside autocast.

Legend: W channels of a sub-space, N positions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax


def subspace_divergence(self_feature: Tensor, mutual_feature: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Divergence of a Mutual-feature from the Self-feature that it stands for; both move.

    .. math:: \frac{1}{W} \operatorname{mean}_n \sum_c p_{c,n} \log \frac{p_{c,n}}{q_{c,n}}, \qquad
        p = \operatorname{softmax}_c(F_{j \to j}), \quad q = \operatorname{softmax}_c(F_{i \to j})

    Example:
        >>> subspace_divergence(torch.zeros(2, 3), torch.zeros(2, 3))
        tensor(0.)
        >>> subspace_divergence(torch.zeros(2, 1), torch.tensor([[2.0], [0.0]]))  # half of log cosh 1
        tensor(0.2169)

    Args:
        self_feature: ``[W, *spatial]``.
        mutual_feature: the same shape.
        weight: ``[*spatial]``, weight of each position (0 leaves it out), or None for equal weights.

    Returns:
        0 if every position weighs nothing, or if W is 1.

    References:
        Yang et al., DeMoSeg, arXiv 2408.08708, L_kd; the form is the released code's of February 2026.
    """
    with torch.autocast(mutual_feature.device.type, enabled=False):
        target = log_softmax(self_feature.float().flatten(1), 0)
        values = (target.exp() * (target - log_softmax(mutual_feature.float().flatten(1), 0))).mean(0)  # L_kd
        if weight is None:
            return values.mean()
        weight = weight.to(values).flatten()
        return (values * weight).sum() / weight.sum().clamp_min(1e-8)
