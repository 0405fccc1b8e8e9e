r"""Masked concatenation and a 1x1 convolution, of the available modalities.

Legend: M modalities, A available modalities of a sample, C channels, N voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.networks.fusion.scale_spec import Own, ScaleSpec


class MaskedProjection(nn.Module):
    r"""Concatenate the features, zero where a modality is missing, and project them with a 1x1 convolution.

    .. math:: \sum_{m \in A} W_m f_m

    so that neither zeros nor the concatenation of M·C channels exist. There is no bias: a norm follows.

    Args:
        modalities: M.
        channels: C.
        out: channels of the result.
    """

    def __init__(self, modalities: int, channels: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(modalities, out, channels))
        # He initialisation of the 1x1 convolution on M·C channels, with nnU-Net's negative slope.
        nn.init.normal_(self.weight, std=math.sqrt(2 / (1 + 1e-2**2) / (modalities * channels)))

    def forward(self, own: Own, factors: Sequence[Tensor] | None = None) -> Tensor:
        """Project the features of a sample.

        Args:
            own: the available modalities' ``[C, *spatial]``.
            factors: for each of them a map ``[*spatial]`` that its features are multiplied by, or None.

        Returns:
            ``[1, out, *spatial]``.
        """
        spatial = own[0][1].shape[1:]
        total: Tensor | None = None
        for index, (modality, features) in enumerate(own):
            part = self.weight[modality] @ features.flatten(1)
            if factors is not None:
                part = part * factors[index].flatten().to(part.dtype)
            total = part if total is None else total + part
        assert total is not None
        return total.reshape(1, -1, *spatial)


class MaskedConcat(nn.Module):
    """:class:`MaskedProjection` to the planned width, then the planned norm and nonlinearity."""

    def __init__(self, scale: ScaleSpec) -> None:
        super().__init__()
        self.project = MaskedProjection(scale.modalities, scale.channels, scale.channels)
        self.finish = scale.norm_and_nonlinearity(scale.channels)

    def forward(self, own: Own, factors: Sequence[Tensor] | None = None) -> Tensor:
        """Features of a sample ``[C, *spatial]`` each -> ``[1, C, *spatial]``; for ``factors`` see the projection."""
        fused: Tensor = self.finish(self.project(own, factors))
        return fused
