"""DeMoSeg's stem of a modality: two convolutions into the sub-spaces of all modalities, and a channel exchange.

Legend: M modalities, W channels of a sub-space, n samples that have a modality.
"""

from __future__ import annotations

from typing import Any

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from torch import Tensor, nn

from nnunetv2_mmkd.modalities import index_of

SQUEEZE = 4
"""The perceptron that scores channels has a quarter as many hidden units as there are channels (released code)."""


class ChannelExchange(nn.Module):
    r"""Channel-wise sparse self-attention: each channel attends to exactly one other.

    .. math:: x_c + s_{o(c)}\, x_{o(c)}, \qquad s = \sigma(\mathrm{MLP}(\bar x)), \quad o = \operatorname{argsort}(-s)

    Args:
        channels: of x.
        gated: whether the channel that is attended to is multiplied by its score. Without it, as in the released
            code, the perceptron has no gradient, for an order has none, and stays as it was initialised.

    References:
        Yang et al., DeMoSeg, arXiv 2408.08708.
    """

    def __init__(self, channels: int, gated: bool) -> None:
        super().__init__()
        hidden = max(1, channels // SQUEEZE)
        self.score = nn.Sequential(nn.Linear(channels, hidden), nn.LeakyReLU(0.01), nn.Linear(hidden, channels))
        self.gated = gated
        if not gated:
            self.score.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, channels, *spatial]`` -> the same."""
        with torch.autocast(x.device.type, enabled=False):
            scores = self.score(x.to(torch.promote_types(x.dtype, torch.float32)).flatten(2).mean(2)).sigmoid()  # s
        order = scores.argsort(1, descending=True)  # o
        samples = index_of(range(len(x)), x.device)[:, None]
        exchanged = x[samples, order]
        if self.gated:
            factors = scores[samples, order].to(x.dtype)
            exchanged = exchanged * factors.reshape(*factors.shape, *[1] * (x.ndim - 2))
        return x + exchanged  # CSSA


class ModalityStem(nn.Module):
    """Two convolutions of one modality, a channel exchange, the planned norm and nonlinearity.

    Args:
        encoder: planned, for its kinds of layers.
        channels: M sub-spaces of W.
        stride: of the first convolution.
        gated: see :class:`ChannelExchange`.
    """

    def __init__(self, encoder: Any, channels: int, stride: Any, gated: bool) -> None:
        super().__init__()
        layers = (
            encoder.conv_bias, encoder.norm_op, encoder.norm_op_kwargs, encoder.dropout_op, encoder.dropout_op_kwargs,
            encoder.nonlin, encoder.nonlin_kwargs,
        )  # fmt: skip
        self.convolutions = StackedConvBlocks(2, encoder.conv_op, 1, channels, encoder.kernel_sizes[0], stride, *layers)
        self.exchange = ChannelExchange(channels, gated)
        finish: list[nn.Module] = []
        if encoder.norm_op is not None:
            finish.append(encoder.norm_op(channels, **(encoder.norm_op_kwargs or {})))
        if encoder.nonlin is not None:
            finish.append(encoder.nonlin(**(encoder.nonlin_kwargs or {})))
        self.finish = nn.Sequential(*finish)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, 1, *spatial]`` -> ``[n, M·W, *spatial]``."""
        return self.exchanged(self.convolutions(x))

    def exchanged(self, features: Tensor) -> Tensor:
        """What comes after the convolutions."""
        result: Tensor = self.finish(self.exchange(features))
        return result
