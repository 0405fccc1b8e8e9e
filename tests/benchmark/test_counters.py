"""Byte counters on graphs whose cost is known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from nnunetv2_mmkd.benchmark.counters import LiveBytes, SavedBytes

UNIT = 4 * 8 * 4
"""Bytes of a float32 [4, 8]."""


def tensors(fake: bool) -> tuple[Tensor, Tensor]:
    """A weight [8, 8] and an input [4, 8]."""
    if not fake:
        return torch.ones(8, 8, requires_grad=True), torch.ones(4, 8)
    with FakeTensorMode(allow_non_fake_inputs=True):
        return torch.ones(8, 8, requires_grad=True), torch.ones(4, 8)


@pytest.mark.parametrize("fake", [False, True])
def test_saved_bytes_closed_form(fake: bool) -> None:
    weight, x = tensors(fake)
    saved = SavedBytes([weight])
    with saved.watch():
        first = (x @ weight).exp()  # keeps x; exp keeps its result
        loss = (first @ weight).exp().sum()  # keeps first, already counted, and its result
    assert saved.total == 3 * UNIT
    loss.backward()
    assert saved.total == 0


def test_views_count_once_and_parameters_not_at_all() -> None:
    weight, x = tensors(fake=False)
    saved = SavedBytes([weight])
    with saved.watch():
        y = x.clone().requires_grad_(True) @ weight
        loss = (y.exp().t() * 2).t().unbind(0)[0] @ torch.ones(8, requires_grad=True)
    with_parameter = SavedBytes()
    with with_parameter.watch():
        other = x @ weight
    # the clone of x, exp's result, the doubled one (a view of it keeps it whole), and the vector of ones
    assert saved.total == 3 * UNIT + 8 * 4
    assert with_parameter.total == UNIT
    del y, loss, other
    assert saved.total == 0


@pytest.mark.parametrize("fake", [False, True])
def test_checkpointed_regions_count_with_their_inputs_once(fake: bool) -> None:
    weight, x = tensors(fake)

    def region(value: Tensor) -> Tensor:
        return ((value @ weight).exp() @ weight).exp()

    saved = SavedBytes([weight])
    with saved.watch():
        first = checkpoint(region, x, use_reentrant=False)
        second = checkpoint(region, first, use_reentrant=False)
        loss = (second + x).sum()
    assert saved.total == 2 * UNIT  # x and first, though x is used twice
    loss.backward()
    assert saved.total == 0


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
