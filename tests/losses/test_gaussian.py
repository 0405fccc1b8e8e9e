"""Products and divergences of Gaussians against PyTorch's distributions."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from nnunetv2_mmkd.losses.gaussian import (
    Gaussian,
    gaussian_from,
    gaussian_kl,
    prior_kl,
    product_of_gaussians,
    sample,
)


def a_gaussian(seed: int) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(torch.randn(2, 3, generator=generator), torch.randn(2, 3, generator=generator))


def stacked(factors: list[Gaussian]) -> Gaussian:
    return Gaussian(*(torch.stack(part) for part in zip(*factors, strict=True)))


def test_products_of_subsets_are_products_of_their_factors() -> None:
    factors = [a_gaussian(seed) for seed in range(3)]
    subsets = torch.tensor([[True, False, True], [False, True, False]])
    found = product_of_gaussians(stacked(factors), subsets)
    for row, chosen in enumerate(([factors[0], factors[2]], [factors[1]])):
        for part, expected in zip(found, product_of_gaussians(stacked(chosen)), strict=True):
            torch.testing.assert_close(part[row], expected)


def normal(gaussian: Gaussian) -> Normal:
    return Normal(gaussian.mean.double(), (gaussian.log_variance.double() / 2).exp())


@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_product_is_that_of_the_densities(number: int) -> None:
    """log N(product) differs from the sum of the factors' and the prior's log densities by a constant only."""
    factors = [a_gaussian(seed) for seed in range(number)]
    product = normal(product_of_gaussians(stacked(factors)))
    points = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None, None]
    of_factors = torch.stack([normal(each).log_prob(points) for each in factors]).sum(0)
    prior = Normal(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)).log_prob(points)
    constant = product.log_prob(points) - of_factors - prior
    torch.testing.assert_close(constant, constant[:1].expand_as(constant), rtol=1e-5, atol=1e-5)


def test_divergences_are_pytorchs() -> None:
    first, second = a_gaussian(0), a_gaussian(1)
    torch.testing.assert_close(gaussian_kl(first, second), kl_divergence(normal(first), normal(second)).float())
    standard = Normal(torch.zeros(2, 3).double(), torch.ones(2, 3).double())
    torch.testing.assert_close(prior_kl(first), kl_divergence(normal(first), standard).float())
    assert gaussian_kl(first, first).abs().max() == 0


def test_who_is_sure_decides() -> None:
    unsure, sure = (
        Gaussian(torch.tensor([9.0]), torch.tensor([20.0])),
        Gaussian(torch.tensor([1.0]), torch.tensor([-9.0])),
    )
    assert float(product_of_gaussians(stacked([unsure, sure])).mean) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("value", [-1e4, 1e4])
def test_extreme_predictions_stay_finite(value: float) -> None:
    found = product_of_gaussians(gaussian_from(torch.tensor([[3.0, value]]).half()))
    assert all(torch.isfinite(each).all() and each.dtype == torch.float32 for each in found)
    assert torch.isfinite(prior_kl(found)).all()


def test_samples_have_the_moments_and_pass_gradients(one_thread: None) -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.tensor([2.0], requires_grad=True), torch.tensor([-1.0], requires_grad=True)
    drawn = sample(Gaussian(mean.expand(20_000), log_variance.expand(20_000)))
    assert float(drawn.detach().mean()) == pytest.approx(2, abs=0.02)
    assert float(drawn.detach().var().log()) == pytest.approx(-1, abs=0.05)
    drawn.square().mean().backward()
    assert mean.grad is not None and log_variance.grad is not None
    assert float(mean.grad) == pytest.approx(4, abs=0.05)  # d/dm (m^2 + s^2)
    assert float(log_variance.grad) == pytest.approx(0.3679, abs=0.02)  # d/dlog s^2: s^2
