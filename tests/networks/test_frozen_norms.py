"""Instance norms with the statistics of another pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnunetv2_mmkd.networks.frozen_norms import InstanceStatistics


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False), nn.InstanceNorm2d(3, affine=True), nn.LeakyReLU(), nn.InstanceNorm2d(3)
    )
    nn.init.normal_(layers[1].weight)
    nn.init.normal_(layers[1].bias)
    return layers


def test_the_same_input_gives_the_same_output() -> None:
    net, x = network(), torch.randn(2, 2, 9, 8)
    statistics = InstanceStatistics(net)
    plain = net(x)
    with statistics.record():
        assert torch.equal(net(x), plain)
    with statistics.reuse():
        torch.testing.assert_close(net(x), plain)
    assert torch.equal(net(x), plain)  # no hook is left


def test_a_factor_on_the_input_is_seen() -> None:
    """Norm of s·x with the statistics of x: gamma (s·x - mean) / sd + beta, and so is the gradient in s."""
    norm, x = nn.InstanceNorm3d(2, affine=True), torch.randn(1, 2, 3, 4, 5)
    nn.init.constant_(norm.weight, 3.0)
    nn.init.constant_(norm.bias, 0.5)
    statistics = InstanceStatistics(norm)
    with torch.no_grad(), statistics.record():
        norm(x)
    scale = torch.tensor(0.25, requires_grad=True)
    with statistics.reuse():
        found = norm(scale * x)
    mean, variance = x.mean((2, 3, 4), keepdim=True), x.var((2, 3, 4), correction=0, keepdim=True)
    deviation = (variance + norm.eps).sqrt()
    torch.testing.assert_close(found, 3 * (0.25 * x - mean) / deviation + 0.5)
    found.square().sum().backward()
    assert scale.grad is not None
    torch.testing.assert_close(scale.grad, (2 * found * 3 * x / deviation).sum().detach())
    torch.testing.assert_close(norm(0.25 * x), norm(x), atol=1e-3, rtol=0)  # alone, it takes the factor out


def test_only_what_was_recorded_can_be_reused() -> None:
    net = network()
    with pytest.raises(RuntimeError, match="did not call"), InstanceStatistics(net).reuse():
        net(torch.randn(1, 2, 9, 8))
    net(torch.randn(1, 2, 9, 8))


def test_running_statistics_stay_as_they_are() -> None:
    assert (
        InstanceStatistics(nn.Sequential(nn.InstanceNorm2d(2, track_running_stats=True), nn.BatchNorm2d(2))).norms == []
    )


def test_compiled_parts_take_part() -> None:
    norm, x = nn.InstanceNorm2d(2), torch.randn(1, 2, 6, 6)
    norm.compile(backend="eager")
    norm(x)
    statistics = InstanceStatistics(norm)
    with torch.no_grad(), statistics.record():
        norm(x)
    with statistics.reuse():
        assert not torch.allclose(norm(2 * x), norm(x))
