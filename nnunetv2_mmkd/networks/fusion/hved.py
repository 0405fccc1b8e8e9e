r"""U-HVED's fusion: at every scale each modality says how sure it is, and Gaussians are multiplied.

Legend: B batch, A available modalities of a sample, C channels, L latent channels, half of C.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.losses.gaussian import gaussian_from, product_of_gaussians
from nnunetv2_mmkd.networks.fusion.base import FusionOfScales, run
from nnunetv2_mmkd.networks.fusion.scale_spec import Own, ScaleSpec
from nnunetv2_mmkd.networks.streams import Streams


class GaussianScale(nn.Module):
    """The Gaussians of a scale, and the way from a latent variable to what the decoder takes.

    Args:
        scale: where it is.
    """

    def __init__(self, scale: ScaleSpec) -> None:
        super().__init__()
        latent = max(1, scale.channels // 2)
        self.heads = nn.ModuleList(
            scale.convolution(scale.channels, 2 * latent, bias=True) for _ in range(scale.modalities)
        )
        self.project = scale.convolution(latent, scale.channels)
        self.finish = scale.norm_and_nonlinearity(scale.channels)

    def widen(self, latent: Tensor) -> Tensor:
        """``[L, *spatial]`` -> ``[1, C, *spatial]``."""
        fused: Tensor = self.finish(self.project(latent[None]))
        return fused

    def forward(self, own: Own) -> Tensor:
        """Features of a sample ``[C, *spatial]`` each -> ``[1, C, *spatial]``: the mean of the product."""
        channels = torch.cat([self.heads[m](features[None]) for m, features in own])
        return self.widen(product_of_gaussians(gaussian_from(channels)).mean)


class HVEDFusion(FusionOfScales):
    """:class:`GaussianScale` at every scale; what is deployed decodes the mean.

    Args:
        scales: of the network, largest first.

    References:
        Dorent et al., Hetero-Modal Variational Encoder-Decoder for Joint Modality Completion and Segmentation, MICCAI
        2019.

    Deviations from the paper:
        Means and log variances come from a 1x1 convolution of each modality's features (they are halves of the
        encoders' features in the released code), and another one with the planned norm and nonlinearity leads from the
        latent variable to the decoder's width. Encoders and decoder are nnU-Net's plan. The released code segments
        with a sample and completes images with the mean; a prediction here is always that of the mean.
    """

    def __init__(self, scales: Sequence[ScaleSpec]) -> None:
        super().__init__(GaussianScale(scale) for scale in scales)

    def gaussians(self, streams: Streams) -> Streams:
        """Each modality's Gaussian at each scale, as channels ``[2L, *spatial]`` in the place of features."""
        scales = []
        for block, features in zip(self, streams.scales, strict=True):
            assert isinstance(block, GaussianScale)
            rows = zip(features, streams.pairs, strict=True)
            scales.append(tuple(block.heads[m](each[None])[0] for each, (_, m) in rows))
        return Streams(streams.available, streams.pairs, tuple(scales))

    def widen(self, latents: Sequence[Tensor], *, recomputed_scales: int = 0) -> list[Tensor]:
        """What the decoder takes of latent variables of all scales: ``[B, L, *spatial]`` -> ``[B, C, *spatial]``."""
        skips = []
        for scale, (block, latent) in enumerate(zip(self, latents, strict=True)):
            assert isinstance(block, GaussianScale)
            skips.append(torch.cat([run(partial(block.widen, each), scale < recomputed_scales) for each in latent]))
        return skips
