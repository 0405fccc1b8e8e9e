"""Gradients: averaged over the ranks of a distributed run without DDP's forward pass, and a step with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

NORM = 12.0
"""To which nnU-Net clips gradients."""


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


def take_step(
    loss: Tensor, optimizer: torch.optim.Optimizer, scaler: Any, network: nn.Module, joint: Sequence[nn.Module]
) -> None:
    """Backward, the average over the ranks, nnU-Net's clipping of each module, and the optimiser's step.

    Args:
        loss: scalar.
        optimizer: of all modules.
        scaler: nnU-Net's gradient scaler, or None.
        network: the bare module; what its ``optional_parameters()`` lists, if it has it, may be left unused.
        joint: modules trained jointly with it; all of them may be left unused.
    """
    (loss if scaler is None else scaler.scale(loss)).backward()
    further = [parameter for module in joint for parameter in module.parameters()]
    optional: Callable[[], list[nn.Parameter]] = getattr(network, "optional_parameters", list)
    fill_missing([*optional(), *further])
    average_gradients([*network.parameters(), *further])
    if scaler is not None:
        scaler.unscale_(optimizer)
    for module in (network, *joint):
        torch.nn.utils.clip_grad_norm_(module.parameters(), NORM)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
