"""What a fusion is: streams of the available modalities in, the decoder's skips out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunetv2_mmkd.networks.streams import Streams


class Fusion(nn.Module):
    """A fusion of all scales in one module. Each sample is fused by itself, from the features that it has."""

    predicts_maps: bool = False
    """Whether :meth:`supervised` returns maps."""

    def forward(self, streams: Streams, recomputed_scales: int = 0) -> list[Tensor]:
        """Fuse the streams.

        Args:
            streams: encoded modalities.
            recomputed_scales: of so many of the largest scales the activations are recomputed in backward.

        Returns:
            the decoder's skips, largest first, ``[B, C, *spatial]`` each.
        """
        return self.supervised(streams, recomputed_scales)[0]

    def supervised(self, streams: Streams, recomputed_scales: int = 0) -> tuple[list[Tensor], list[Tensor]]:
        """Fuse the streams, and return what of the fusion can be supervised.

        Returns:
            the skips, and maps of logits ``[B, K, *spatial]`` at the scales of deep supervision, largest first; no maps
            for fusions that predict none.
        """
        raise NotImplementedError


class PerScaleFusion(nn.ModuleList):
    """A block for each scale, which knows nothing of the others.

    Each block takes ``(features, pairs, available, modality_weights)`` as
    :class:`~nnunetv2_mmkd.networks.fusion.mean_fill.MeanFillProjection` does. Keys of the state dict are the scales'
    numbers.
    """

    def forward(
        self, streams: Streams, modality_weights: Tensor | None = None, weighted_scales: str = "bottleneck"
    ) -> list[Tensor]:
        """Fuse every scale.

        Args:
            streams: encoded modalities.
            modality_weights: ``[M]`` factors of the modalities' features, or None.
            weighted_scales: ``"bottleneck"`` or ``"all"``: where the factors apply.

        Returns:
            the decoder's skips, largest first.
        """
        last = len(self) - 1
        return [
            block(
                features,
                streams.pairs,
                streams.available,
                modality_weights if weighted_scales == "all" or scale == last else None,
            )
            for scale, (block, features) in enumerate(zip(self, streams.scales, strict=True))
        ]


def run(function: Callable[[], Tensor], recompute: bool) -> Tensor:
    """Call a function; if asked for, its activations are recomputed in backward instead of stored."""
    if recompute and torch.is_grad_enabled():
        result: Tensor = checkpoint(function, use_reentrant=False)
        return result
    return function()
