r"""RFNet's fusion: each region of the image has its own weights of the modalities.

Legend: M modalities, A available modalities of a sample, C channels, K heads, R regions (K classes, or K regions and
what lies outside all of them), N voxels of a map, H hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from nnunetv2_mmkd.modalities import index_of
from nnunetv2_mmkd.networks.fusion.base import Fusion, run
from nnunetv2_mmkd.networks.fusion.masked_concat import MaskedProjection
from nnunetv2_mmkd.networks.fusion.scale_spec import Own, ScaleSpec, own_features
from nnunetv2_mmkd.networks.resize import linear_resize
from nnunetv2_mmkd.networks.streams import Fused, ModalityWeights, Streams


@dataclass(frozen=True)
class RFNetConfig:
    """Shape of RFNet's fusion.

    Attributes:
        hidden: H, of the perceptron that weighs the modalities of a region (128 in the released code).
        map_share: channels of the layers that predict the region maps, as a share of the scale's (1/4 in the released
            code).
    """

    hidden: int = 128
    map_share: float = 0.25

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ValueError(f"RFNet: hidden must be at least 1, not {self.hidden}")
        if not 0 < self.map_share <= 1:
            raise ValueError(f"RFNet: map_share must lie in (0, 1], not {self.map_share}")


class RFNetFusion(Fusion):
    """Region-aware fusion, from the bottleneck upwards.

    At each scale maps of the regions are predicted from the masked features and from the fused features of the scale
    below; they say where each region is, for :class:`RegionAwareFusion`, and are supervised.

    Args:
        scales: of the network, largest first.
        config: of the fusion.

    References:
        Ding et al., RFNet: Region-aware Fusion Network for Incomplete Multi-modal Brain Tumor Segmentation, ICCV 2021.

    Deviations from the paper:
        What is handed upwards is the fused feature of the scale below, where the paper's decoder, interleaved with the
        fusion, hands on its own; here the planned decoder comes after. nnU-Net supervises neither the bottleneck nor
        the smallest output, so the logits of a scale are added to those of the next larger one, which trains them all.
        Encoders and decoder are nnU-Net's plan. Where heads are regions that overlap, the maps are sigmoids and what
        lies outside all regions is one more.
    """

    predicts_maps = True

    def __init__(self, scales: Sequence[ScaleSpec], config: RFNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or RFNetConfig()
        below: list[ScaleSpec | None] = [*scales[1:], None]
        self.maps = nn.ModuleList(
            RegionMaps(scale, coarser, self.config) for scale, coarser in zip(scales, below, strict=True)
        )
        self.weigh = nn.ModuleList(RegionAwareFusion(scale, self.config) for scale in scales)
        self.exclusive = scales[0].exclusive

    def forward(self, streams: Streams, *, weights: ModalityWeights | None = None, recomputed_scales: int = 0) -> Fused:
        """See :meth:`Fusion.forward`; maps are the logits of the regions, the bottleneck's left out."""
        streams = streams.weighted(weights)
        fused = [self._sample(streams, sample, recomputed_scales) for sample in range(len(streams.available))]
        skips, maps = ([torch.cat(scale) for scale in zip(*kind, strict=True)] for kind in zip(*fused, strict=True))
        return Fused(skips, maps[:-1] if len(maps) > 1 else maps)

    def _sample(self, streams: Streams, sample: int, recomputed_scales: int) -> tuple[list[Tensor], list[Tensor]]:
        """Skips and logits of a sample, largest first."""
        skips: list[Tensor] = []
        logits: list[Tensor] = []
        for scale in reversed(range(len(self.maps))):
            own = own_features(streams, sample, scale)
            below = (skips[-1], logits[-1]) if skips else None
            maps, weigh = self.maps[scale], self.weigh[scale]

            def predict(maps: nn.Module = maps, own: Own = own, below: tuple[Tensor, Tensor] | None = below) -> Tensor:
                return cast(Tensor, maps(own, below))

            logits.append(run(predict, scale < recomputed_scales))
            regions = region_probabilities(logits[-1].detach(), self.exclusive)

            def fuse(weigh: nn.Module = weigh, own: Own = own, regions: Tensor = regions) -> Tensor:
                return cast(Tensor, weigh(own, regions))

            skips.append(run(fuse, scale < recomputed_scales))
        return skips[::-1], logits[::-1]


class RegionMaps(nn.Module):
    """Predicts where the regions are, from the masked features of a scale and what the scale below knows.

    Args:
        scale: where it is.
        below: the next smaller one, or None at the bottleneck.
        config: of the fusion.
    """

    def __init__(self, scale: ScaleSpec, below: ScaleSpec | None, config: RFNetConfig) -> None:
        super().__init__()
        width = max(scale.heads, round(config.map_share * scale.channels))
        self.project = MaskedProjection(scale.modalities, scale.channels, width)
        self.rise = None if below is None else scale.convolution(below.channels, width)
        self.head = nn.Sequential(
            scale.norm_and_nonlinearity(width),
            scale.convolution(width, width, planned_kernel=True),
            scale.norm_and_nonlinearity(width),
            scale.convolution(width, scale.heads, bias=True),
        )

    def forward(self, own: Own, below: tuple[Tensor, Tensor] | None) -> Tensor:
        """Predict the logits of a sample.

        Args:
            own: the available modalities' ``[C, *spatial]``.
            below: fused features and logits of the scale below; None at the bottleneck.

        Returns:
            ``[1, K, *spatial]``.
        """
        size = own[0][1].shape[1:]
        mixed = self.project(own)
        if self.rise is None or below is None:
            logits: Tensor = self.head(mixed)
            return logits
        fused, coarser = below
        result: Tensor = self.head(mixed + linear_resize(self.rise(fused), size)) + linear_resize(coarser, size)
        return result


class RegionAwareFusion(nn.Module):
    r"""Weighs the modalities anew for each region, and adds a shortcut that knows no regions.

    With p_k the probability of region k and v_{m,k} the mean of the features of modality m over it,

    .. math:: a_k = \sigma\big(\mathrm{MLP}_k(v_{1,k}, ..., v_{M,k}, \bar p_k)\big), \quad
              \phi\Big(\big[\sum_k R_k\, p_k \sum_{m \in A} a_{k,m} f_m,\ \sum_{m \in A} S_m f_m\big]\Big)

    with half the channels each, and phi the planned norm and nonlinearity. Products are ordered so that no feature map
    of a region or of all modalities together is kept for backward.

    Args:
        scale: where it is.
        config: of the fusion.
    """

    def __init__(self, scale: ScaleSpec, config: RFNetConfig) -> None:
        super().__init__()
        regions = scale.heads if scale.exclusive else scale.heads + 1
        modalities, channels, hidden = scale.modalities, scale.channels, config.hidden
        half = channels // 2
        self.from_means = _normal(regions, modalities, hidden, channels, fan_in=modalities * channels + 1)
        self.from_share = _normal(regions, hidden, fan_in=modalities * channels + 1)
        self.hidden_bias = nn.Parameter(torch.zeros(regions, hidden))
        self.to_weights = _normal(regions, modalities, hidden, fan_in=hidden)
        self.weight_bias = nn.Parameter(torch.zeros(regions, modalities))
        self.regional = _normal(regions, half, channels, fan_in=channels)
        self.shortcut = MaskedProjection(modalities, channels, channels - half)
        self.finish = scale.norm_and_nonlinearity(channels)

    def forward(self, own: Own, regions: Tensor) -> Tensor:
        """Fuse the features of a sample.

        Args:
            own: the available modalities' ``[C, *spatial]``.
            regions: p, float32 ``[R, *spatial]``, without gradient.

        Returns:
            ``[1, C, *spatial]``.
        """
        spatial = regions.shape[1:]
        weights = self.weights(own, regions)
        total: Tensor | None = None
        for region, probability in enumerate(regions.flatten(1)):
            mixed: Tensor | None = None
            for index, (_, features) in enumerate(own):
                matrix = weights[region, index] * self.regional[region]
                part = matrix.to(features.dtype) @ features.flatten(1)
                mixed = part if mixed is None else mixed + part
            assert mixed is not None
            part = mixed * probability.to(mixed.dtype)
            total = part if total is None else total + part
        assert total is not None
        fused: Tensor = self.finish(torch.cat([total.reshape(1, -1, *spatial), self.shortcut(own).to(total.dtype)], 1))
        return fused

    def weights(self, own: Own, regions: Tensor) -> Tensor:
        """a ``[R, |A|]``, not in half precision: of each region's available modalities, each between 0 and 1."""
        flat = regions.flatten(1)
        # The square root of N on either side of the product keeps both in the range of half precision.
        root = math.sqrt(flat.shape[1])
        spread = flat * (root / flat.sum(1, keepdim=True).clamp_min(1.0))
        modalities = index_of([modality for modality, _ in own], regions.device)
        means = torch.stack([spread.to(each.dtype) @ each.flatten(1).T for _, each in own])  # [A, R, C]
        with torch.autocast(regions.device.type, enabled=False):
            means = means.to(self.from_means.dtype) / root
            hidden = torch.einsum("arc,rahc->rh", means, self.from_means[:, modalities])
            hidden = leaky_relu(hidden + self.from_share * flat.mean(1)[:, None] + self.hidden_bias, 0.01)
            logits = torch.einsum("rah,rh->ra", self.to_weights[:, modalities], hidden)
            return (logits + self.weight_bias[:, modalities]).sigmoid()


def region_probabilities(logits: Tensor, exclusive: bool) -> Tensor:
    """Where the regions of a sample are.

    Args:
        logits: ``[1, K, *spatial]``.
        exclusive: whether the heads are classes; otherwise what lies outside all regions comes first.

    Returns:
        float32 ``[R, *spatial]``.
    """
    if exclusive:
        return logits[0].float().softmax(0)
    inside = logits[0].float().sigmoid()
    return torch.cat([(1 - inside).prod(0, keepdim=True), inside])


def _normal(*shape: int, fan_in: int) -> nn.Parameter:
    """He initialisation with nnU-Net's negative slope."""
    return nn.Parameter(torch.empty(shape).normal_(std=math.sqrt(2 / (1 + 1e-2**2) / fan_in)))
