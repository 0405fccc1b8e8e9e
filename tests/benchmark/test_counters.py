"""Byte counters on graphs whose cost is known in closed form."""

from __future__ import annotations

from contextlib import nullcontext
from math import inf

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import conv2d

from nnunetv2_mmkd.benchmark.counters import LiveBytes
from nnunetv2_mmkd.networks.recompute import recomputed

UNIT = 4 * 8 * 4
"""Bytes of a float32 [4, 8]."""


def tensors(fake: bool) -> tuple[Tensor, Tensor]:
    """A weight [8, 8] and an input [4, 8]."""
    if not fake:
        return torch.ones(8, 8, requires_grad=True), torch.ones(4, 8)
    with FakeTensorMode(allow_non_fake_inputs=True):
        return torch.ones(8, 8, requires_grad=True), torch.ones(4, 8)


@pytest.mark.parametrize("fake", [False, True])
def test_what_backward_needs_is_alive_when_the_loss_is_known(fake: bool) -> None:
    weight, x = tensors(fake)

    def loss() -> Tensor:
        first = (x @ weight).exp()  # exp keeps its result; the product keeps x, which is known
        return (first @ weight).exp().sum()  # keeps first, already counted, and its result

    live = LiveBytes([weight, x])
    with live:
        value = loss()
    assert live.now == 2 * UNIT + 4  # and the loss
    value.backward()
    assert live.now == 4


@pytest.mark.parametrize("fake", [False, True])
@pytest.mark.parametrize(("smaller_than", "kept"), [(None, 0), (64, 1), (65, 2), (inf, 2)])
def test_a_recomputed_region_holds_the_results_of_convolutions_it_keeps(
    fake: bool, smaller_than: float | None, kept: int
) -> None:
    """Of 16 voxels the one, of 64 the other; neither their norms, nor what a 1x1 convolution made."""
    with FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext():
        x, weight, point = (
            torch.ones(shape, requires_grad=True) for shape in ((1, 1, 8, 8), (1, 1, 3, 3), (1, 1, 1, 1))
        )

    def region() -> Tensor:
        large = conv2d(conv2d(x, point).exp(), weight, padding=1).exp()
        return conv2d(large, weight, stride=2, padding=1).exp().sum()

    live = LiveBytes([x, weight, point])
    with live:
        value = recomputed(region, smaller_than)
    assert live.now - 4 == {0: 0, 1: 16 * 4, 2: 16 * 4 + 64 * 4}[kept]
    value.backward()
    assert x.grad is not None and x.grad.shape == x.shape


@pytest.mark.parametrize("fake", [False, True])
def test_live_bytes_peak(fake: bool) -> None:
    _, x = tensors(fake)
    live = LiveBytes([x])
    with live:
        first = x + 1
        second = first + 1
        del first
        third = second + 1
        view = third.t()
    assert live.peak == 2 * UNIT
    del second, third, view
