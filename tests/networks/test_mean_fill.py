"""Mean filling, concatenation and projection are what the equations say, without storing the concatenation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFillProjection
from nnunetv2_mmkd.networks.streams import pairs_of


def by_the_book(block: MeanFillProjection, features: Tensor, available: Tensor, weights: Tensor | None) -> Tensor:
    """Eq. (2), the optional multiplication, Eq. (3), and a 1x1 convolution; features ``[B, M, C, N]``."""
    rows = []
    for sample, there in zip(features, available, strict=True):
        filled = torch.where(there[:, None, None], sample, sample[there].mean(0))  # Eq. (2)
        if weights is not None:
            filled = filled * weights[:, None, None]
        kernel = block.weight.permute(1, 0, 2).flatten(1)[:, :, None]  # [C, M·C, 1]
        rows.append(torch.nn.functional.conv1d(filled.flatten(0, 1)[None], kernel, block.bias)[0])  # Eq. (3)
    return torch.stack(rows)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("m", [2, 3, 4])
def test_equals_fill_concatenate_project(m: int, weighted: bool) -> None:
    torch.manual_seed(0)
    block = MeanFillProjection(m, 5)
    torch.nn.init.normal_(block.bias)
    features = torch.randn(3, m, 5, 6)
    available = torch.rand(3, m) < 0.5
    available[:, 0] = True
    available[2] = True
    weights = torch.rand(m) if weighted else None
    pairs = pairs_of(available)
    fused = block([features[b, i] for b, i in pairs], pairs, available, weights)
    assert torch.allclose(fused, by_the_book(block, features, available, weights), atol=1e-5)


def test_the_concatenation_is_never_saved_for_backward() -> None:
    block = MeanFillProjection(4, 8)
    available = torch.ones(1, 4, dtype=torch.bool)
    features = [torch.randn(8, 1000, requires_grad=True) for _ in range(4)]
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(features, pairs_of(available), available)
    large = [size for size in saved.values() if size >= 8 * 1000 * 4]
    assert large == [8 * 1000 * 4] * 4  # the four features themselves
