"""ShaSpec's fusion: what is specific to a modality is added to what it shares; a missing one is what the others share.

Legend: B batch, M modalities, A available modalities of a sample, P available pairs, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.modalities import index_of
from nnunetv2_mmkd.networks.fusion.base import Fusion, run
from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFillProjection
from nnunetv2_mmkd.networks.fusion.scale_spec import ScaleSpec
from nnunetv2_mmkd.networks.streams import Fused, ModalityWeights, Streams

FILLS = ("mean", "first")


class SharedFillProjection(MeanFillProjection):
    r"""Filling with shared features, concatenation and a 1x1 convolution to the planned width, in one step.

    .. math:: \sum_{i \in A} W_i f_i + \Big(\sum_{n \notin A} W_n\Big) \sum_{i \in A} a_i r_i + b

    with :math:`a_i = 1 / |A|` (the mean), or 1 for the first of the available modalities and 0 for the others.

    Args:
        n_modalities: M.
        channels: C.
        fill: one of :data:`FILLS`.

    References:
        Wang et al., ShaSpec, CVPR 2023, Eq. (4).
    """

    def __init__(self, n_modalities: int, channels: int, fill: str) -> None:
        super().__init__(n_modalities, channels)
        self.fill = fill

    def join(
        self,
        own: Sequence[Tensor],
        shared: Sequence[Tensor],
        pairs: Sequence[tuple[int, int]],
        available: Tensor,
        modality_weights: Tensor | None = None,
    ) -> Tensor:
        """Fuse the features of each sample.

        Args:
            own: f, P maps ``[C, *spatial]``.
            shared: r, P maps of the same size.
            pairs: their ``(sample, modality)``, by modality and then by sample.
            available: bool ``[B, M]``.
            modality_weights: ``[M]``; the real or filled feature of modality m is multiplied by its m-th entry.

        Returns:
            ``[B, C, *spatial]``.
        """
        weight = self.weighted(modality_weights)
        spatial = own[0].shape[1:]
        fused = []
        for sample, present in enumerate(available):
            rows = [row for row, (b, _) in enumerate(pairs) if b == sample]
            total = self.bias[:, None]
            for row in rows:
                total = torch.addmm(total, weight[pairs[row][1]], own[row].flatten(1))
            missing = torch.nonzero(~present).flatten().tolist()
            if missing:
                lending = rows[:1] if self.fill == "first" else rows
                filled = torch.stack([shared[row].flatten(1) for row in lending]).mean(0)  # Eq. (4)
                total = torch.addmm(total, weight[index_of(missing, weight.device)].sum(0), filled)
            fused.append(total.reshape(-1, *spatial))
        return torch.stack(fused)


class SharedSpecificFusion(Fusion):
    r"""Residual fusion of shared and specific features at the bottleneck, filling with shared ones at every scale.

    .. math:: f_m = r_m + \phi([r_m, s_m]) \text{ for } m \in A, \qquad f_n = \sum_{i \in A} a_i r_i
        \text{ for } n \notin A

    with r of the shared encoder, s of the modality's own, and one convolution phi for all modalities. Skips are of the
    shared encoder, f = r there. All M features of a scale are concatenated and projected to the planned width.

    Args:
        scales: of the network, largest first.
        fill: ``"mean"``, the mean of the available shared features (paper), or ``"first"``, the shared feature of the
            first available modality (released code).

    Raises:
        InputError: another ``fill``.

    References:
        Wang et al., Multi-modal Learning with Missing Modality via Shared-Specific Feature Modelling, CVPR 2023,
        Eq. (2) and (4).

    Deviations from the paper:
        The projection makes the concatenation as wide as nnU-Net planned. The paper fuses at the bottom of the U-Net
        (§4.2) and is silent about skips (in the released code they are what the encoder makes of an image of zeros);
        here every scale is filled. phi has the planned kernel of the bottleneck (3 in the released code).
    """

    def __init__(self, scales: Sequence[ScaleSpec], fill: str = "mean") -> None:
        super().__init__()
        if fill not in FILLS:
            raise InputError(f"ShaSpec: fill must be one of {', '.join(FILLS)}, not {fill!r}")
        self.projections = nn.ModuleList(SharedFillProjection(s.modalities, s.channels, fill) for s in scales)
        smallest = scales[-1]
        self.compose = smallest.convolution(2 * smallest.channels, smallest.channels, planned_kernel=True)

    def forward(self, streams: Streams, *, weights: ModalityWeights | None = None, recomputed_scales: int = 0) -> Fused:
        """See :meth:`Fusion.forward`; real and filled features are multiplied alike.

        Raises:
            ValueError: the streams have no specific features.
        """
        if len(streams.specific) != len(streams.pairs):
            raise ValueError("ShaSpec's fusion needs specific features: streams of a SharedSpecificUNet")
        last, skips = len(self.projections) - 1, []
        for scale, (block, shared) in enumerate(zip(self.projections, streams.scales, strict=True)):
            own = self.residual(shared, streams.specific, scale < recomputed_scales) if scale == last else shared
            factors = None if weights is None else weights[scale]
            assert isinstance(block, SharedFillProjection)
            skips.append(block.join(own, shared, streams.pairs, streams.available, factors))
        return Fused(skips, [])

    def residual(self, shared: Sequence[Tensor], specific: Sequence[Tensor], recompute: bool = False) -> list[Tensor]:
        """f of the available pairs, P maps ``[C, *spatial]``; in eval mode each in a call of its own."""

        def compose(rows: Sequence[int]) -> Tensor:
            both = torch.stack([torch.cat([shared[row], specific[row]]) for row in rows])
            residual: Tensor = self.compose(both)
            return residual

        rows = range(len(shared))
        chunks = [list(rows)] if self.training else [[row] for row in rows]
        found = [each for own in chunks for each in run(lambda own=own: compose(own), recompute)]  # type: ignore[misc]
        return [r + each for r, each in zip(shared, found, strict=True)]  # Eq. (2)
