r"""U-HeMIS' fusion: mean and variance of the available modalities' features, at every scale.

Legend: A available modalities of a sample, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.networks.fusion.base import FusionOfScales
from nnunetv2_mmkd.networks.fusion.scale_spec import Own, ScaleSpec


def moments(own: Own) -> tuple[Tensor, Tensor]:
    r"""First two moments of the available modalities' features, in float32 (or more).

    .. math:: \mu = \frac{1}{|A|} \sum_{m \in A} f_m, \qquad v = \frac{1}{|A|} \sum_{m \in A} (f_m - \mu)^2

    so that the variance of a single modality is 0.

    Example:
        >>> moments([(0, torch.tensor([[1.0]])), (2, torch.tensor([[4.0]]))])
        (tensor([[2.5000]]), tensor([[2.2500]]))

    Args:
        own: the available modalities' ``[C, *spatial]``.

    Returns:
        mean and variance, ``[C, *spatial]`` each.

    References:
        Havaei et al., HeMIS, MICCAI 2016, abstraction layer.

    Deviations from the paper:
        HeMIS divides the variance by |A| - 1; U-HeMIS, in the released code, by |A|, which is followed.
    """
    features = torch.stack([each.to(torch.promote_types(each.dtype, torch.float32)) for _, each in own])
    mean = features.mean(0)  # first moment
    return mean, (features - mean).square().mean(0)  # second moment


class MomentFusion(nn.Module):
    r"""Both moments at a scale, made as wide as the decoder expects: phi(W [mean, variance]).

    Everything in float32: the square of a half-precision feature may not fit. phi is the planned norm and nonlinearity.

    Args:
        scale: where it is.
    """

    def __init__(self, scale: ScaleSpec) -> None:
        super().__init__()
        self.project = scale.convolution(2 * scale.channels, scale.channels)
        self.finish = scale.norm_and_nonlinearity(scale.channels)

    def forward(self, own: Own) -> Tensor:
        """Features of a sample ``[C, *spatial]`` each -> ``[1, C, *spatial]``."""
        features = own[0][1]
        with torch.autocast(features.device.type, enabled=False):
            fused: Tensor = self.finish(self.project(torch.cat(moments(own))[None]))  # phi(W [mean, variance])
        return fused.to(features.dtype)


class HeMISFusion(FusionOfScales):
    """:class:`MomentFusion` at every scale, largest first.

    Args:
        scales: of the network, largest first.

    References:
        Dorent et al., Hetero-Modal Variational Encoder-Decoder for Joint Modality Completion and Segmentation, MICCAI
        2019, which builds U-HeMIS as its baseline; Havaei et al., HeMIS: Hetero-Modal Image Segmentation, MICCAI 2016.

    Deviations from the paper:
        Its encoders emit half as many features as the decoder takes; here both are nnU-Net's plan, and a 1x1
        convolution halves the moments (in the paper four scales of 8 to 64 features, and trilinear interpolation
        upwards).
    """

    def __init__(self, scales: Sequence[ScaleSpec]) -> None:
        super().__init__(MomentFusion(scale) for scale in scales)
