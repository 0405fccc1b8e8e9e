r"""RobustSeg's fusion: each voxel of each modality passes a gate.

Legend: M modalities, A available modalities of a sample, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.networks.fusion.base import FusionOfScales
from nnunetv2_mmkd.networks.fusion.masked_concat import MaskedConcat
from nnunetv2_mmkd.networks.fusion.scale_spec import Own, ScaleSpec


class GatedFusion(FusionOfScales):
    """:class:`Gate` at every scale, largest first.

    Args:
        scales: of the network, largest first.

    References:
        Chen et al., Robust Multimodal Brain Tumor Segmentation via Feature Disentanglement and Gated Fusion, MICCAI
        2019.

    Deviations from the paper:
        See :class:`Gate`. Encoders and decoder are nnU-Net's plan.
    """

    def __init__(self, scales: Sequence[ScaleSpec]) -> None:
        super().__init__(Gate(scale) for scale in scales)


class Gate(nn.Module):
    r"""A map of gates for each modality, from all available ones; then a masked concatenation of what passes.

    .. math:: g = \sigma\Big(b + \sum_{m \in A} K_m * f_m\Big), \qquad \phi\Big(\sum_{m \in A} W_m (g_m f_m)\Big)

    with K_m, convolutions of the planned kernel from C channels to M gates, and phi the planned norm and nonlinearity.

    Args:
        scale: where it is.

    Deviations from the paper:
        The released code has an instance norm between the gates' convolution and their sigmoid, so that on the average
        over an image each gate is half open; here the convolution has a bias in its place.
    """

    def __init__(self, scale: ScaleSpec) -> None:
        super().__init__()
        self.gates = nn.ModuleList(
            scale.convolution(scale.channels, scale.modalities, planned_kernel=True) for _ in range(scale.modalities)
        )
        self.bias = nn.Parameter(torch.zeros(scale.modalities))
        self.concat = MaskedConcat(scale)

    def forward(self, own: Own) -> Tensor:
        """Features of a sample ``[C, *spatial]`` each -> ``[1, C, *spatial]``."""
        gates = self.open(own)
        fused: Tensor = self.concat(own, [gates[modality] for modality, _ in own])
        return fused

    def open(self, own: Own) -> Tensor:
        """g, ``[M, *spatial]``."""
        parts = torch.stack([self.gates[modality](features[None])[0] for modality, features in own]).sum(0)
        return (parts + self.bias.reshape(-1, *[1] * (parts.ndim - 1))).sigmoid()  # g
