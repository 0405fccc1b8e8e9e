"""RobustSeg's appearance: a code of an image, and a decoder that gives fused content an appearance.

Both are trained only, never deployed.

Legend: B batch, C channels of the bottleneck, E length of a code.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from nnunetv2_mmkd.losses.gaussian import Gaussian
from nnunetv2_mmkd.networks.resize import nearest_resize

WIDTHS = (32, 64, 128, 128, 128)
CODE, HIDDEN, BLOCKS = 8, 128, 4
"""Length of a code, units of the perceptron, residual blocks, as in the released code."""
LEAST_WIDTH = 8
SMALL = 1e-5


class AppearanceEncoder(nn.Module):
    """Convolutions with stride, a mean over the image, and a linear layer to the code.

    Args:
        conv_op: convolution of the image's dimension.
        gaussian: whether the result is mean and log variance of a code, 2E numbers, not the code itself.

    Deviations from the paper:
        Kernels with stride are 3 (4 in the released code), which any image size survives.
    """

    def __init__(self, conv_op: Any, *, gaussian: bool = False) -> None:
        super().__init__()
        layers = [conv_op(1, WIDTHS[0], 7, 1, 3), nn.ReLU()]
        for before, after in pairwise(WIDTHS):
            layers += [conv_op(before, after, 3, 2, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.code = nn.Linear(WIDTHS[-1], 2 * CODE if gaussian else CODE)

    def forward(self, image: Tensor) -> Tensor:
        """``[B, 1, *spatial]`` -> ``[B, E]``, or ``[B, 2E]``."""
        code: Tensor = self.code(self.layers(image).flatten(2).mean(2))
        return code


class AppearanceDecoder(nn.Module):
    """Content and a code make an image: adaptive instance norms at the bottleneck, then upwards to the full size.

    Args:
        encoder: planned, for its channels and kinds of layers.

    Deviations from the paper:
        The scales on the way up and their kernels are the plan's (three times two, kernels of 5 and 7, in the released
        code). Residual blocks are as wide as the planned bottleneck (128 channels there).
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self._encoder = (encoder.conv_op, tuple(encoder.kernel_sizes))
        scales = len(encoder.output_channels)
        width = int(encoder.output_channels[-1])
        self.perceptron = nn.Sequential(nn.Linear(CODE, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())
        self.mean, self.deviation = nn.Linear(HIDDEN, width), nn.Linear(HIDDEN, width)
        # Near the prior: else, at first, the divergence from it would be far larger than all other terms.
        nn.init.ones_(self.deviation.bias)
        self.first = nn.ModuleList(self._convolution(width, width, scales - 1) for _ in range(BLOCKS))
        self.second = nn.ModuleList(self._convolution(width, width, scales - 1) for _ in range(BLOCKS))
        self.rises = nn.ModuleList()
        for scale in reversed(range(scales - 1)):
            narrower = max(width // 2, LEAST_WIDTH)
            self.rises.append(
                nn.Sequential(self._convolution(width, narrower, scale), nn.GroupNorm(1, narrower), nn.ReLU())
            )
            width = narrower
        self.last = self._convolution(width, 1, 0)

    def _convolution(self, before: int, after: int, scale: int) -> nn.Module:
        conv_op, kernels = self._encoder
        kernel = kernels[scale]
        padding = kernel // 2 if isinstance(kernel, int) else [edge // 2 for edge in kernel]
        layer: nn.Module = conv_op(before, after, kernel, 1, padding)
        return layer

    def style(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the adaptive norms, ``[B, C]`` each."""
        hidden = self.perceptron(code)
        return self.mean(hidden), self.deviation(hidden)

    def forward(self, content: Tensor, style: tuple[Tensor, Tensor], sizes: Sequence[Sequence[int]]) -> Tensor:
        """Make images.

        Args:
            content: fused features of the bottleneck, ``[B, C, *spatial]``.
            style: of :meth:`style`.
            sizes: of the scales, largest first.

        Returns:
            ``[B, 1, *spatial]``.
        """
        x = content
        for first, second in zip(self.first, self.second, strict=True):
            inner = relu(adaptive_norm(first(x), *style))
            x = x + adaptive_norm(second(inner), *style)
        for rise, size in zip(self.rises, sizes[-2::-1], strict=True):
            x = rise(nearest_resize(x, size))
        image: Tensor = self.last(x)
        return image


def adaptive_norm(features: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    r"""Features with a given mean and standard deviation of each channel, computed in float32.

    .. math:: s \frac{x - \bar x}{\hat\sigma(x)} + m

    Example:
        >>> adaptive_norm(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[5.0]]), torch.tensor([[2.0]]))
        tensor([[[3.0000, 7.0000]]])

    Args:
        features: ``[B, C, *spatial]``.
        mean: m, ``[B, C]``.
        deviation: s, ``[B, C]``.

    References:
        Huang and Belongie, Arbitrary Style Transfer in Real-Time with Adaptive Instance Normalization, ICCV 2017,
        Eq. (8).
    """
    with torch.autocast(features.device.type, enabled=False):
        x = features.float().flatten(2)
        centred = x - x.mean(2, keepdim=True)
        normed = centred / (centred.square().mean(2, keepdim=True) + SMALL).sqrt()
        result = deviation.float()[..., None] * normed + mean.float()[..., None]
    return result.reshape(features.shape).to(features.dtype)


def style_gaussian(style: tuple[Tensor, Tensor]) -> Gaussian:
    """A style as the Gaussian that is compared with the prior: its mean, and the logarithm of its squared deviation."""
    mean, deviation = (each.float() for each in style)
    return Gaussian(mean, (deviation.square() + SMALL).log())
