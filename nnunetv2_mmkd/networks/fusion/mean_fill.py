"""MetaKD's fusion: fill missing features with the mean of the available ones, concatenate, project.

Legend: B batch, M modalities, A available modalities of a sample, P available pairs, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.modalities import index_of
from nnunetv2_mmkd.networks.fusion.base import Fusion
from nnunetv2_mmkd.networks.fusion.scale_spec import ScaleSpec
from nnunetv2_mmkd.networks.streams import Fused, ModalityWeights, Streams


class MeanFillProjection(nn.Module):
    r"""Mean filling (Eq. 2), concatenation (Eq. 3) and a 1x1 convolution to the planned width, in one step.

    The three together are linear in each available feature:

    .. math:: \sum_{i \in A} \Big( W_i + \tfrac{1}{|A|} \sum_{n \notin A} W_n \Big) f_i + b

    so neither the filled features nor their concatenation of M·C channels is ever stored.

    Args:
        n_modalities: M.
        channels: C, of each modality's features and of the result.

    References:
        Wang et al., MetaKD, Eqs. (2) and (3).

    Deviations from the paper:
        The paper says that the concatenation goes to the decoder; the projection makes it as wide as nnU-Net planned.
        The paper's figure fills at the bottleneck and is silent about skips; here every scale is filled.
    """

    def __init__(self, n_modalities: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_modalities, channels, channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        # He initialisation of the 1x1 convolution on M·C channels, with nnU-Net's negative slope.
        nn.init.normal_(self.weight, std=math.sqrt(2 / (1 + 1e-2**2) / (n_modalities * channels)))

    def forward(
        self,
        features: Sequence[Tensor],
        pairs: Sequence[tuple[int, int]],
        available: Tensor,
        modality_weights: Tensor | None = None,
    ) -> Tensor:
        """Fuse the available features of each sample.

        Args:
            features: P maps ``[C, *spatial]``.
            pairs: their ``(sample, modality)``, by modality and then by sample.
            available: bool ``[B, M]``.
            modality_weights: ``[M]``; the real or filled feature of modality m is multiplied by its m-th entry
                (the meta-objective of Eq. 4). None multiplies nothing.

        Returns:
            ``[B, C, *spatial]``.
        """
        weight = self.weighted(modality_weights)
        spatial = features[0].shape[1:]
        fused = []
        for sample, present in enumerate(available):
            missing = torch.nonzero(~present).flatten().tolist()
            fill = weight[index_of(missing, weight.device)].sum(0) / int(present.sum()) if missing else None  # Eq. (2)
            total = self.bias[:, None]
            for row, (b, modality) in enumerate(pairs):
                if b == sample:
                    matrix = weight[modality] if fill is None else weight[modality] + fill
                    total = torch.addmm(total, matrix, features[row].flatten(1))  # Eq. (3)
            fused.append(total.reshape(-1, *spatial))
        return torch.stack(fused)

    def weighted(self, modality_weights: Tensor | None) -> Tensor:
        """W, ``[M, C, C]``, times the factors of the modalities."""
        return self.weight if modality_weights is None else self.weight * modality_weights[:, None, None]


class MeanFill(Fusion, nn.ModuleList):
    """:class:`MeanFillProjection` at every scale, largest first."""

    def __init__(self, scales: Sequence[ScaleSpec]) -> None:
        super().__init__(MeanFillProjection(scale.modalities, scale.channels) for scale in scales)

    def forward(self, streams: Streams, *, weights: ModalityWeights | None = None, recomputed_scales: int = 0) -> Fused:
        """See :meth:`Fusion.forward`; filled features are multiplied, too, and present is nothing to recompute."""
        scales = zip(self, streams.scales, weights or [None] * len(self), strict=True)
        return Fused([block(features, streams.pairs, streams.available, own) for block, features, own in scales], [])
