"""The multi-stream U-Net: one stream per modality, a fusion block per scale, nnU-Net's planned decoder.

Legend: B batch, M modalities, P available pairs, C channels, K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunetv2_mmkd.networks.contracts import SegmentationNetwork
from nnunetv2_mmkd.networks.decoder import run_decoder
from nnunetv2_mmkd.networks.fusion.base import Fusion, check_fused
from nnunetv2_mmkd.networks.masking import resolve
from nnunetv2_mmkd.networks.streams import Fused, ModalityWeights, Streams, pairs_of

GRAPHS_OF_A_PART = 8
"""Of a compiled part: training or not, a batch of one, of a fixed size and of any."""


class MultiStreamUNet(nn.Module):
    """``encode`` each available modality, ``fuse`` them at every scale, ``decode``.

    Streams of missing modalities cost nothing: only the available (sample, modality) pairs are encoded, whatever
    stands in a missing channel is never read. In eval mode each modality is encoded in a call of its own and each
    sample fused by itself, so a subset's result does not depend on what else was computed.

    Args:
        encoders: one encoder for all modalities, or M of them; planned encoders with ``return_skips``. The M may share
            parameters (:func:`~nnunetv2_mmkd.networks.tied.tied_encoders`).
        fusions: the fusion of all scales.
        decoder: the planned decoder (it may hold the first encoder as a child, as nnU-Net's does).
        modalities: names of the channels.

    Attributes:
        recomputed_stages: number of high-resolution encoder stages that are recomputed in backward instead of stored
            (gradient checkpointing). 0 stores all. Fusions of all scales recompute theirs at the same scales.
    """

    def __init__(
        self,
        encoders: Sequence[nn.Module],
        fusions: Fusion,
        decoder: nn.Module,
        modalities: Sequence[str],
    ) -> None:
        super().__init__()
        if len(encoders) not in (1, len(modalities)):
            raise ValueError(f"{len(encoders)} encoders for {len(modalities)} modalities: give one, or one for each")
        self.modalities = tuple(modalities)
        self.encoders = nn.ModuleList(encoders)
        self.fusions = fusions
        self.decoder = decoder
        self.recomputed_stages = 0
        self._run_decoder = run_decoder

    @property
    def shared(self) -> bool:
        """Whether all modalities go through one encoder."""
        return len(self.encoders) == 1

    @property
    def n_scales(self) -> int:
        """Number of scales, the bottleneck included."""
        encoder: Any = self.encoders[0]
        return len(encoder.stages)

    @property
    def width(self) -> int:
        """Number of channels of a stream at the bottleneck."""
        encoder: Any = self.encoders[0]
        return int(encoder.output_channels[-1])

    @property
    def predicts_maps(self) -> bool:
        """Whether :meth:`fuse` returns maps."""
        return self.fusions.predicts_maps

    def optional_parameters(self) -> list[nn.Parameter]:
        """Parameters that a step may leave unused.

        With separate streams no sample of the batch may have a modality, and with it what a fusion learns of it; a
        warm-up of the streams alone leaves the decoder unused. A shared stream is used in every step.
        """
        return [] if self.shared else list(self.parameters())

    def all_encoders(self) -> list[Any]:
        """Every encoder of the network."""
        return list(self.encoders)

    def compile_parts(self, **options: Any) -> None:
        """Compile what has no mask in it, in place: the encoders' stages and the decoder.

        Gathering by mask would break the graph of the whole. State-dict keys stay as they are.

        Args:
            options: of ``torch.compile``.
        """
        found = [part for encoder in self.all_encoders() for part in (getattr(encoder, "stem", None), *encoder.stages)]
        compile_modules([self.decoder, *(part for part in found if part is not None)], **options)
        self._run_decoder = torch.compile(run_decoder, **options)

    def forward(self, x: Tensor, available: Tensor | None = None) -> Tensor | list[Tensor]:
        """Segment with the available modalities.

        Args:
            x: ``[B, M, *spatial]``.
            available: bool ``[B, M]`` or ``[M]``; None: the environment variable, else detection.

        Returns:
            logits ``[B, K, *spatial]``, or the deep supervision list of them, largest first.
        """
        return self.decode(self.fuse(self.encode(x, available)).skips)

    def encode(self, x: Tensor, available: Tensor | None = None) -> Streams:
        """Encode the available modalities; Eq. (1) of MetaKD with shared parameters."""
        mask = resolve(x, available, self.modalities)
        pairs = pairs_of(mask)
        apart = not self.training or not self.shared or self._recomputes()
        chunks = [[pair for pair in pairs if pair[1] == m] for m in range(len(self.modalities))] if apart else [pairs]
        scales: list[list[Tensor]] = [[] for _ in range(self.n_scales)]
        for chunk in chunks:
            if chunk:
                encoder = self.encoders[0] if self.shared else self.encoders[chunk[0][1]]
                encoded = self.encoded(encoder, [x[sample, modality] for sample, modality in chunk])
                for scale, features in zip(scales, encoded, strict=True):
                    scale.extend(features.unbind(0))
        return Streams(mask, pairs, tuple(tuple(scale) for scale in scales))

    def fuse(self, streams: Streams, *, weights: ModalityWeights | None = None) -> Fused:
        """Fuse the streams at every scale.

        Args:
            streams: what :meth:`encode` returned.
            weights: factors of the modalities' features, by scale, or None.
        """
        fused: Fused = self.fusions(
            streams, weights=weights, recomputed_scales=self.recomputed_stages if self._recomputes() else 0
        )
        check_fused(self.fusions, fused, streams)
        return fused

    def decode(self, skips: list[Tensor]) -> Tensor | list[Tensor]:
        """Run the planned decoder on fused skips, largest first."""
        result: Tensor | list[Tensor] = self.decoder(skips)
        return result

    def decode_with_features(self, skips: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Run the decoder, and keep what its last stage makes.

        Args:
            skips: fused, largest first.

        Returns:
            the outputs, largest first (one without deep supervision), and the last feature map before the largest
            head, ``[B, C, *spatial]``.
        """
        outputs, features = self._run_decoder(self.decoder, skips)
        return outputs, features[-1]

    def _recomputes(self) -> bool:
        return self.recomputed_stages > 0 and self.training and torch.is_grad_enabled()

    def encoded(self, encoder: Any, images: Sequence[Tensor]) -> list[Tensor]:
        """Run an encoder stage by stage, recomputing the high-resolution ones in backward if asked to.

        Args:
            encoder: planned, for one channel.
            images: ``[*spatial]`` each.

        Returns:
            the features, largest first, ``[number of images, C, *spatial]`` each.
        """
        x = torch.stack(list(images))[:, None]
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


def compile_modules(parts: Sequence[Any], **options: Any) -> None:
    """Compile modules in place.

    PyTorch's limit of graphs, beyond which it silently stops compiling, holds for all modules together: it is raised.

    Args:
        parts: without masks in them.
        options: of ``torch.compile``.
    """
    config: Any = torch._dynamo.config
    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    setattr(config, name, max(getattr(config, name), GRAPHS_OF_A_PART * (len(parts) + 1)))
    for part in parts:
        part.compile(**options)


if TYPE_CHECKING:
    _fulfils: type[SegmentationNetwork] = MultiStreamUNet
