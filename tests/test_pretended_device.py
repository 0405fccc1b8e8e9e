"""The pretended device refuses what a GPU refuses, and counts what it would wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pretended_device import PRETENDED, DeviceMismatch, pretended_device, waits_of
from torch import Tensor, nn


def test_it_computes_and_learns_as_the_cpu_does() -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv3d(1, 4, 3, padding=1), torch.randn(2, 1, 8, 8, 8)
    expected = layer(x).square().mean()
    expected.backward()
    gradient = layer.weight.grad.clone()
    with pretended_device():
        moved = layer.to(PRETENDED)
        moved.zero_grad(set_to_none=True)
        loss = moved(x.to(PRETENDED)).square().mean()
        loss.backward()
        assert loss.device == moved.weight.grad.device == PRETENDED
        assert float(loss) == float(expected) and torch.equal(moved.weight.grad.cpu(), gradient)


MIXED: dict[str, Callable[[Tensor], Any]] = {
    "operands": lambda x: x + torch.ones(3),
    "an index from the device": lambda x: torch.ones(3)[x.long()],
    "made of numbers": lambda x: x + torch.tensor([1.0, 2.0, 3.0], device=PRETENDED),
    "an index by a list": lambda x: x[[0, 2]],
    "joined": lambda x: torch.cat([x, torch.ones(3)]),
}


@pytest.mark.parametrize("work", MIXED.values(), ids=MIXED)
def test_refused(work: Callable[[Tensor], Any]) -> None:
    with pretended_device():
        x = torch.zeros(3).to(PRETENDED)
        with pytest.raises(DeviceMismatch):
            work(x)


WAITS: dict[str, tuple[Callable[[Tensor], Any], dict[str, int]]] = {
    "a number": (lambda x: float(x.sum()), {"_local_scalar_dense": 1}),
    "a branch": (lambda x: bool((x > 0).any()), {"_local_scalar_dense": 1}),
    "nonzero": (lambda x: x.nonzero(), {"nonzero": 1}),
    "a mask": (lambda x: x[x > 0], {"indexing by a mask": 1}),
    "to the host": (lambda x: x.cpu(), {"copy to the host": 1}),
    "to the device": (lambda x: torch.ones(3).to(PRETENDED), {"copy to the device": 1}),
    "in the background": (lambda x: torch.ones(3).to(PRETENDED, non_blocking=True) + x, {}),
    "a number of the CPU": (lambda x: x * torch.tensor(2.0), {}),
    "an index of the device": (lambda x: x[torch.tensor([0, 2]).to(PRETENDED, non_blocking=True)], {}),
}


@pytest.mark.parametrize(("work", "expected"), WAITS.values(), ids=WAITS)
def test_counted(work: Callable[[Tensor], Any], expected: dict[str, int]) -> None:
    with pretended_device() as device:
        x = torch.arange(3.0).to(PRETENDED)
        assert waits_of(device, lambda: work(x)) == expected
