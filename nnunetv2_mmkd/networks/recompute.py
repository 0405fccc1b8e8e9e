"""Recompute in backward what is cheap to compute and large to keep; keep what is the other way round."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, TypeVar

import torch
from torch.utils import checkpoint as checkpointing

Result = TypeVar("Result")


def recomputed(function: Callable[[], Result], smaller_than: float | None = None) -> Result:
    """Call a function whose activations are recomputed in backward.

    In a U-Net every step down halves the FLOPs of a convolution and quarters the bytes of its result. So what
    convolutions have computed may be kept where feature maps are small: many FLOPs for little memory. Upsampling, 1x1
    convolutions, norms and activations cost next to nothing and are always recomputed.

    Args:
        function: called now, and once more in backward.
        smaller_than: results of convolutions of fewer voxels are kept; None keeps nothing. PyTorch before 2.4 keeps
            nothing, either.
    """
    contexts = getattr(checkpointing, "create_selective_checkpoint_contexts", None)
    if smaller_than is None or contexts is None:
        result: Result = checkpointing.checkpoint(function, use_reentrant=False)
        return result
    result = checkpointing.checkpoint(
        partial(_uncached, function), use_reentrant=False, context_fn=partial(contexts, partial(_policy, smaller_than))
    )
    return result


def _uncached(function: Callable[[], Result]) -> Result:
    """Without autocast's cache of cast weights: the same operations must come in both passes."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        return function()
    finally:
        torch.set_autocast_cache_enabled(before)


def _policy(smaller_than: float, _: Any, operation: Any, *args: Any, **keywords: Any) -> Any:
    policy: Any = checkpointing.CheckpointPolicy
    return policy.MUST_SAVE if _worth_keeping(smaller_than, operation, args) else policy.PREFER_RECOMPUTE


def _worth_keeping(smaller_than: float, operation: Any, args: tuple[Any, ...]) -> bool:
    if operation is not torch.ops.aten.convolution.default:
        return False
    size, kernel, stride, transposed = prod(args[0].shape[2:]), prod(args[1].shape[2:]), prod(args[3]), args[6]
    return not transposed and kernel > 1 and size < smaller_than * stride
