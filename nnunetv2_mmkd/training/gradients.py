"""Averaging over the ranks of a distributed run, without DDP's forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors


def fill_missing(parameters: Iterable[nn.Parameter]) -> None:
    """Give parameters without a gradient a zero one, so that an unused stream moves as it would on several GPUs."""
    for parameter in parameters:
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def average(tensors: Sequence[Tensor]) -> None:
    """Average tensors in place over all ranks; nothing happens in a run of one process."""
    if not tensors or not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    for dtype in {tensor.dtype for tensor in tensors}:
        group = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = _flatten_dense_tensors(group)
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for tensor, mean in zip(group, _unflatten_dense_tensors(flat, group), strict=True):
            tensor.copy_(mean)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients of all parameters over the ranks; a rank that has none counts as zero.

    The parameters must be the same, in the same order, on all ranks.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    fill_missing(trained)
    average([parameter.grad for parameter in trained if parameter.grad is not None])


def broadcast(modules: Iterable[nn.Module]) -> None:
    """Start all ranks from rank 0's parameters and buffers (DDP does this for the network)."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.data, 0)
