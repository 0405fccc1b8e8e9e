"""Networks whose weights or output are NaN or infinite are refused: in a segmentation they become background.

Legend: B batch, K heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.errors import InputError

DIVERGED = "the training has diverged. Use an earlier checkpoint (-chk checkpoint_best.pth), or train again"
"""What it means and what to do, for messages."""

OUTPUT = "the network's output is NaN or infinite. Its training has diverged, or half precision overflows"
"""The same of an output."""


def first_not_finite(tensors: Mapping[str, Any]) -> str | None:
    """The name of the first tensor with a value that is NaN or infinite, or None. One look at the device."""
    values = {
        name: tensor
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor) and (tensor.is_floating_point() or tensor.is_complex()) and not tensor.is_meta
    }
    if not values:
        return None
    device = next(iter(values.values())).device
    finite = torch.stack([torch.isfinite(tensor).all().to(device) for tensor in values.values()]).tolist()
    return next((name for name, good in zip(values, finite, strict=True) if not good), None)


def refuse_not_finite(network: nn.Module) -> nn.Module:
    """Let a network refuse such weights when they are loaded, and such an output in a prediction.

    The output is looked at in inference mode, in which nnU-Net predicts, also by ``nnUNetv2_predict`` and in the final
    validation of a training; not in compiled code, nor in training steps.
    """
    network.register_load_state_dict_post_hook(_check_weights)
    network.register_forward_hook(_check_output)
    return network


def _check_weights(network: nn.Module, _: object) -> None:
    key = first_not_finite(network.state_dict())
    if key is not None:
        raise InputError(f"the weights {key} are NaN or infinite: {DIVERGED}")


def _check_output(_: nn.Module, __: object, output: Any) -> None:
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return
    first = output[0] if isinstance(output, (list, tuple)) else output  # deep supervision: the largest comes first
    if not torch.isfinite(first).all():
        raise InputError(OUTPUT)
