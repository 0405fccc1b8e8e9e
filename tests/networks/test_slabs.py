"""Convolutions in slabs are convolutions: same numbers, same gradients, and cut where PyTorch is slow."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from nnunetv2_mmkd.networks.slabs import SlabConv3d, in_slabs


class Batches(TorchDispatchMode):
    """Notes the batch sizes of the convolutions that PyTorch computes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.seen.append(len(args[0]))
        return func(*args, **(kwargs or {}))


def results(layer: nn.Conv3d, x: Tensor) -> tuple[Tensor, ...]:
    """Output, and gradients of input, weight and bias."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    output = layer(x)
    (output * torch.arange(output.numel()).reshape(output.shape).sin()).sum().backward()
    gradients = [x.grad, layer.weight.grad, *([] if layer.bias is None else [layer.bias.grad])]
    return (output.detach(), *(each for each in gradients if each is not None))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation", "bias"),
    [
        ((8, 10, 9), 3, 1, 1, 1, True),
        ((40, 5, 6), 3, 2, 1, 1, True),  # strided
        ((5, 6, 37), 3, (1, 2, 2), 1, 1, False),  # along the last axis; 19 planes: one is in both slabs
        ((4, 35, 4), (1, 3, 3), 1, (0, 1, 1), 1, True),  # anisotropic
        ((36, 4, 4), (1, 3, 3), (2, 1, 1), (0, 1, 1), 1, True),  # nothing to overlap
        ((33, 9, 9), 3, 1, 2, 2, True),  # dilated
        ((16, 4, 4), 2, 2, 0, 1, True),
        ((17, 16, 16), 3, 1, 0, 1, True),  # not padded
    ],
)
def test_equals_the_convolution(size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv3d(3, 4, kernel, stride, padding, dilation, bias=bias)
    x = torch.randn(1, 3, *size)
    with Batches() as noted:
        expected = results(layer, x)
        found = results(in_slabs(layer), x)
    assert noted.seen == [1, 2]
    for mine, its in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "stride", "gradients", "batches"),
    [
        ((1, 8, 32, 40, 32), 1, True, 2),
        ((1, 8, 32, 40, 32), 1, False, 2),  # in a prediction, too
        ((2, 8, 32, 40, 32), 1, True, 2),  # a batch is fast as it is
        ((1, 32, 32, 40, 4), 1, True, 1),  # 40960: PyTorch takes the fast path by itself
        ((1, 8, 4, 7, 4), 1, True, 1),  # overlap would cost more
        ((1, 8, 4, 15, 4), 2, True, 1),
        ((1, 8, 4, 16, 4), 2, True, 2),
    ],
)
def test_is_cut_where_pytorch_is_slow(shape: tuple[int, ...], stride: int, gradients: bool, batches: int) -> None:
    layer = in_slabs(nn.Conv3d(shape[1], 2, 3, stride, padding=1))
    with torch.set_grad_enabled(gradients), Batches() as noted:
        layer(torch.randn(shape))
    assert noted.seen == [batches]


def test_leaves_other_dimensions_precisions_and_fake_tensors() -> None:
    layer = in_slabs(nn.Conv3d(1, 1, 3, padding=1))
    with Batches() as noted:
        layer.double()(torch.zeros(1, 1, 8, 8, 8, dtype=torch.float64))
        with torch.autocast("cpu", torch.bfloat16):
            layer.float()(torch.zeros(1, 1, 8, 8, 8))
        layer(torch.zeros(1, 8, 8, 8))  # without a batch
        with FakeTensorMode():  # the benchmark counts the arithmetic of the method, not that of the overlap
            in_slabs(nn.Conv3d(1, 1, 3, padding=1))(torch.zeros(1, 1, 8, 8, 8))
    assert set(noted.seen) == {1}


def test_weights_keep_their_names() -> None:
    network = nn.Sequential(nn.Conv3d(1, 1, 3), nn.Conv2d(1, 1, 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    after = in_slabs(network).state_dict()
    assert list(before) == list(after)
    assert [type(layer) for layer in network] == [SlabConv3d, nn.Conv2d]
