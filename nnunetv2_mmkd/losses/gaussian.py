"""Gaussians with independent components: their product with a standard normal prior, and how far two are apart.

Everything is computed in float32 (double stays double), outside autocast.

Legend: A available modalities of a sample, L latent channels, S subsets.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE = -16.0, 50.0
"""Of what a network predicts. U-HVED's released code has ±50, and 1e-7, about exp(-16), added to each variance."""


class Gaussian(NamedTuple):
    """Mean and logarithm of the variance, of one shape."""

    mean: Tensor
    log_variance: Tensor


def gaussian_from(channels: Tensor) -> Gaussian:
    """Means and log variances from the first and the second half of ``[A, 2L, *spatial]``, at least in float32.

    Example:
        >>> gaussian_from(torch.tensor([[3.0, -99.0]]))
        Gaussian(mean=tensor([[3.]]), log_variance=tensor([[-16.]]))
    """
    mean, log_variance = channels.to(torch.promote_types(channels.dtype, torch.float32)).chunk(2, 1)
    return Gaussian(mean, log_variance.clamp(LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE))  # as U-HVED's Eq. (3)


def product_of_gaussians(factors: Gaussian, subsets: Tensor | None = None) -> Gaussian:
    r"""Product of Gaussians and a standard normal prior, again a Gaussian.

    .. math:: \sigma^2 = \Big(1 + \sum_{m \in A} \sigma_m^{-2}\Big)^{-1}, \qquad
              \mu = \sigma^2 \sum_{m \in A} \sigma_m^{-2} \mu_m

    Example:
        >>> factors = Gaussian(torch.tensor([[3.0], [7.0]]), torch.tensor([[0.0], [0.0]]))
        >>> product_of_gaussians(factors)  # variance 1/3
        Gaussian(mean=tensor([3.3333]), log_variance=tensor([-1.0986]))
        >>> product_of_gaussians(factors, torch.tensor([[True, False], [True, True]])).mean
        tensor([[1.5000],
                [3.3333]])

    Args:
        factors: of the A modalities, ``[A, ...]``.
        subsets: bool ``[S, A]``: the factors of each of S products, or None for one product of all.

    Returns:
        ``[...]``, or ``[S, ...]`` of subsets.

    References:
        Wu and Goodman, Multimodal Generative Models for Scalable Weakly-Supervised Learning, NeurIPS 2018; Dorent et
        al., U-HVED, MICCAI 2019.
    """
    with torch.autocast(factors.mean.device.type, enabled=False):
        precisions = (-factors.log_variance).exp()
        weighted = precisions * factors.mean
        if subsets is None:
            total, mean = 1 + precisions.sum(0), weighted.sum(0)  # 1: the prior of U-HVED's Eq. (1)
        else:
            chosen = subsets.to(precisions)
            total, mean = 1 + torch.tensordot(chosen, precisions, 1), torch.tensordot(chosen, weighted, 1)
        return Gaussian(mean / total, -total.log())


def sample(gaussian: Gaussian) -> Tensor:
    """A draw that gradients pass through: mean + standard deviation x noise."""
    return gaussian.mean + (gaussian.log_variance / 2).exp() * torch.randn_like(gaussian.mean)


def gaussian_kl(first: Gaussian, second: Gaussian) -> Tensor:
    r"""Divergence of each component.

    .. math:: \mathrm{KL}(p \,\|\, q) = \frac{1}{2} \Big( \log \frac{\sigma_q^2}{\sigma_p^2} - 1
              + \frac{\sigma_p^2 + (\mu_p - \mu_q)^2}{\sigma_q^2} \Big)

    Example:
        >>> zero = torch.zeros(1)
        >>> gaussian_kl(Gaussian(zero + 2, zero), Gaussian(zero, zero))  # 2^2 / 2
        tensor([2.])

    Args:
        first: p.
        second: q, of the same shape.

    Returns:
        the same shape.
    """
    with torch.autocast(first.mean.device.type, enabled=False):
        (mean, log_variance), (other_mean, other_log_variance) = first, second
        difference = log_variance - other_log_variance
        squares = (mean - other_mean).square() * (-other_log_variance).exp()
        return (difference.expm1() - difference + squares) / 2


def prior_kl(gaussian: Gaussian) -> Tensor:
    r""":func:`gaussian_kl` to the standard normal distribution, :math:`(\sigma^2 - 1 - \log \sigma^2 + \mu^2) / 2`.

    Example:
        >>> prior_kl(Gaussian(torch.zeros(1), torch.zeros(1)))
        tensor([0.])
    """
    with torch.autocast(gaussian.mean.device.type, enabled=False):
        mean, log_variance = gaussian
        return (log_variance.expm1() - log_variance + mean.square()) / 2
