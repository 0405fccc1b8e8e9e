"""The multi-stream U-Net: one stream per modality, a fusion block per scale, nnU-Net's planned decoder.

Legend: B batch, M modalities, P available pairs, C channels, K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunetv2_mmkd.networks.masking import resolve
from nnunetv2_mmkd.networks.streams import Streams, pairs_of


class MultiStreamUNet(nn.Module):
    """``encode`` each available modality, ``fuse`` them at every scale, ``decode``.

    Streams of missing modalities cost nothing: only the available (sample, modality) pairs are encoded, whatever
    stands in a missing channel is never read. In eval mode each modality is encoded in a call of its own and each
    sample fused by itself, so a subset's result does not depend on what else was computed.

    Args:
        encoders: one encoder for all modalities, or M of them; planned encoders with ``return_skips``.
        fusions: one fusion block per scale, largest scale first.
        decoder: the planned decoder (it may hold the first encoder as a child, as nnU-Net's does).
        modalities: names of the channels.

    Attributes:
        recomputed_stages: number of high-resolution encoder stages that are recomputed in backward instead of stored
            (gradient checkpointing). 0 stores all.
    """

    def __init__(
        self, encoders: Sequence[nn.Module], fusions: Sequence[nn.Module], decoder: nn.Module, modalities: Sequence[str]
    ) -> None:
        super().__init__()
        if len(encoders) not in (1, len(modalities)):
            raise ValueError(f"{len(encoders)} encoders for {len(modalities)} modalities: give one, or one for each")
        self.modalities = tuple(modalities)
        self.encoders = nn.ModuleList(encoders)
        self.fusions = nn.ModuleList(fusions)
        self.decoder = decoder
        self.recomputed_stages = 0

    @property
    def shared(self) -> bool:
        """Whether all modalities go through one encoder."""
        return len(self.encoders) == 1

    def optional_parameters(self) -> list[nn.Parameter]:
        """Parameters that a step may leave unused because no sample of the batch has their modality."""
        return [] if self.shared else list(self.encoders.parameters())

    def compile_parts(self, **options: Any) -> None:
        """Compile what has no mask in it, in place: the encoders' stages and the decoder.

        Gathering by mask would break the graph of the whole. State-dict keys stay as they are.

        Args:
            options: of ``torch.compile``.
        """
        self.decoder.compile(**options)
        encoder: Any
        for encoder in self.encoders:
            for part in (getattr(encoder, "stem", None), *encoder.stages):
                if part is not None:
                    part.compile(**options)

    def forward(self, x: Tensor, available: Tensor | None = None) -> Tensor | list[Tensor]:
        """Segment with the available modalities.

        Args:
            x: ``[B, M, *spatial]``.
            available: bool ``[B, M]`` or ``[M]``; None: the environment variable, else detection.

        Returns:
            logits ``[B, K, *spatial]``, or the deep supervision list of them, largest first.
        """
        return self.decode(self.fuse(self.encode(x, available)))

    def encode(self, x: Tensor, available: Tensor | None = None) -> Streams:
        """Encode the available modalities; Eq. (1) of MetaKD with shared parameters."""
        mask = resolve(x, available, self.modalities)
        pairs = pairs_of(mask)
        apart = not self.training or not self.shared or self._recomputes()
        chunks = [[pair for pair in pairs if pair[1] == m] for m in range(len(self.modalities))] if apart else [pairs]
        scales: list[list[Tensor]] = [[] for _ in self.fusions]
        for chunk in chunks:
            if chunk:
                encoder = self.encoders[0] if self.shared else self.encoders[chunk[0][1]]
                inputs = torch.stack([x[sample, modality] for sample, modality in chunk])[:, None]
                for scale, features in zip(scales, self._run(encoder, inputs), strict=True):
                    scale.extend(features.unbind(0))
        return Streams(mask, pairs, tuple(tuple(scale) for scale in scales))

    def fuse(
        self, streams: Streams, modality_weights: Tensor | None = None, weighted_scales: str = "bottleneck"
    ) -> list[Tensor]:
        """Fuse the streams at every scale.

        Args:
            streams: what :meth:`encode` returned.
            modality_weights: ``[M]`` factors of the modalities' features, or None.
            weighted_scales: ``"bottleneck"`` or ``"all"``: where the factors apply.

        Returns:
            the decoder's skips, largest first, ``[B, C, *spatial]`` each.
        """
        last = len(self.fusions) - 1
        return [
            fusion(
                features,
                streams.pairs,
                streams.available,
                modality_weights if weighted_scales == "all" or scale == last else None,
            )
            for scale, (fusion, features) in enumerate(zip(self.fusions, streams.scales, strict=True))
        ]

    def decode(self, skips: list[Tensor]) -> Tensor | list[Tensor]:
        """Run the planned decoder on fused skips, largest first."""
        return self.decoder(skips)

    def _recomputes(self) -> bool:
        return self.recomputed_stages > 0 and self.training and torch.is_grad_enabled()

    def _run(self, encoder: Any, x: Tensor) -> list[Tensor]:
        """Run an encoder stage by stage, recomputing the high-resolution ones in backward if asked to."""
        stem = getattr(encoder, "stem", None)
        skips = []
        for number, stage in enumerate(encoder.stages):
            layers = nn.Sequential(stem, stage) if number == 0 and stem is not None else stage
            if self._recomputes() and number < self.recomputed_stages:
                x = checkpoint(layers, x, use_reentrant=False)
            else:
                x = layers(x)
            skips.append(x)
        return skips
