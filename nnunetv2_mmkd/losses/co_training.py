"""What a teacher of all modalities and a student of one subset exchange: predictions, features, styles, entropies.

Everything is computed in float32, outside autocast. Voxels that do not count are left out.

Legend: B batch, K heads (classes or regions), C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from nnunetv2_mmkd.losses.feature import pooled_weight
from nnunetv2_mmkd.losses.logit import logit_distance
from nnunetv2_mmkd.losses.style import gram


def probabilities(logits: Tensor, exclusive: bool) -> Tensor:
    """Softmax over classes, or sigmoid of regions, in float32."""
    return logits.float().softmax(1) if exclusive else logits.float().sigmoid()


def consistency(teacher: Tensor, student: Tensor, *, exclusive: bool, valid: Tensor | None = None) -> Tensor:
    r"""Mean squared difference of two predictions, summed over heads.

    .. math:: \sum_k \operatorname{mean}_i (p^f_{k,i} - p^m_{k,i})^2

    Example:
        >>> consistency(torch.zeros(1, 2, 3), torch.full((1, 2, 3), 50.0), exclusive=False)  # 2 times one half squared
        tensor(0.5000)

    Args:
        teacher: logits ``[B, K, *spatial]``.
        student: the same shape.
        exclusive: whether the K heads are classes, not regions.
        valid: bool ``[B, 1, *spatial]``, or None.

    References:
        Wang et al., ACN, MICCAI 2021, consistency; Azad et al., SMU-Net, MIDL 2022.
    """
    with torch.autocast(student.device.type, enabled=False):
        pair = probabilities(teacher, exclusive), probabilities(student, exclusive)
        return logit_distance(*pair, valid) * student.shape[1]


def entropy_map(logits: Tensor, *, exclusive: bool, valid: Tensor | None = None) -> Tensor:
    r"""Where a prediction is unsure: for classes the weighted self-information, for regions the entropy of each.

    .. math:: -p_k \log p_k / \log K, \qquad -\big(p_k \log p_k + (1 - p_k) \log (1 - p_k)\big) / \log 2

    Example:
        >>> entropy_map(torch.zeros(1, 2, 1), exclusive=False)
        tensor([[[1.],
                 [1.]]])

    Args:
        logits: ``[B, K, *spatial]``.
        exclusive: whether the K heads are classes, not regions.
        valid: bool ``[B, 1, *spatial]``, where the map is not set to 0, or None.

    Returns:
        ``[B, K, *spatial]``.

    References:
        Wang et al., ACN, MICCAI 2021, EnA.
    """
    with torch.autocast(logits.device.type, enabled=False):
        scores = logits.float()
        if exclusive:
            log_p = scores.log_softmax(1)
            values = -log_p.exp() * log_p / math.log(max(2, scores.shape[1]))
        else:
            p = scores.sigmoid()
            values = (p * softplus(-scores) + (1 - p) * softplus(scores)) / math.log(2)
        return values if valid is None else torch.where(valid, values, 0.0)


def feature_mean(values: Tensor, valid: Tensor | None) -> Tensor:
    """Mean of ``[B, C, *cells]`` over the cells that count, each as much as it has valid voxels.

    Args:
        values: of a feature map.
        valid: bool ``[B, 1, *spatial]`` of the voxels, or None.
    """
    if valid is None:
        return values.mean()
    weights = torch.stack([pooled_weight(each, values.shape[2:]) for each in valid])[:, None].to(values)
    return (values * weights).sum() / (weights.sum() * values.shape[1]).clamp_min(1e-8)


def content_distance(teacher: Tensor, student: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean squared difference of two feature maps ``[B, C, *cells]``; see :func:`feature_mean`.

    References:
        Azad et al., SMU-Net, MIDL 2022, content, as in the released code.
    """
    with torch.autocast(student.device.type, enabled=False):
        return feature_mean((teacher.float() - student.float()).square(), valid)


def gram_distance(teacher: Tensor, student: Tensor) -> Tensor:
    r"""A quarter of the mean squared difference of the products of channels.

    .. math:: \frac{1}{4 C^2} \sum_{j,k} (G^f_{jk} - G^m_{jk})^2, \qquad
        G_{jk} = \operatorname{mean}_i s_{j,i} s_{k,i}

    Example:
        >>> gram_distance(torch.ones(1, 1, 4), torch.full((1, 1, 4), 3.0))  # (1 - 9)^2 / 4
        tensor(16.)

    Args:
        teacher: style ``[B, C, *cells]``.
        student: the same shape.

    References:
        Azad et al., SMU-Net, MIDL 2022, style.
    """
    with torch.autocast(student.device.type, enabled=False):
        return (gram(teacher, teacher) - gram(student, student)).square().mean() / 4


def negative_log_likelihood(target: Tensor, mean: Tensor, variance: Tensor, valid: Tensor | None = None) -> Tensor:
    r"""Of the teacher's features under a Gaussian that the student's predict: a bound of their mutual information.

    .. math:: \operatorname{mean}_{c,i} \tfrac12 \Big( \frac{(f^f_{c,i} - \mu_{c,i}(f^m))^2}{\sigma_c^2}
        + \log \sigma_c^2 \Big)

    Example:
        >>> ones = torch.ones(1, 1, 2)
        >>> negative_log_likelihood(3 * ones, ones, torch.tensor([4.0]))  # (4 / 4 + log 4) / 2
        tensor(1.1931)

    Args:
        target: the teacher's, ``[B, C, *cells]``, detached here.
        mean: what the student's predict, the same shape.
        variance: ``[C]``.
        valid: see :func:`feature_mean`.

    References:
        Wang et al., ACN, MICCAI 2021, MMI; Azad et al., SMU-Net, MIDL 2022, content; Ahn et al., Variational
        information distillation, CVPR 2019.
    """
    with torch.autocast(mean.device.type, enabled=False):
        spread = variance.float().reshape(1, -1, *[1] * (mean.ndim - 2))
        return feature_mean(((target.detach().float() - mean.float()).square() / spread + spread.log()) / 2, valid)
