"""ShaSpec's network: a shared encoder, and one more for each modality.

Legend: B batch, M modalities, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from nnunetv2_mmkd.networks.contracts import SegmentationNetwork
from nnunetv2_mmkd.networks.fusion.base import Fusion
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet
from nnunetv2_mmkd.networks.streams import Streams


class SharedSpecificUNet(MultiStreamUNet):
    """A multi-stream network whose modalities go through a shared encoder and each through one of its own.

    Of the latter the bottleneck alone is used (:attr:`~nnunetv2_mmkd.networks.streams.Streams.specific`).

    Args:
        shared: planned encoder with ``return_skips``.
        specific: M planned encoders.
        fusions: the fusion of all scales.
        decoder: the planned decoder.
        modalities: names of the channels.

    References:
        Wang et al., ShaSpec, CVPR 2023.
    """

    def __init__(
        self,
        shared: nn.Module,
        specific: Sequence[nn.Module],
        fusions: Fusion,
        decoder: nn.Module,
        modalities: Sequence[str],
    ) -> None:
        super().__init__([shared], fusions, decoder, modalities)
        if len(specific) != len(self.modalities):
            raise ValueError(f"{len(specific)} specific encoders for {len(self.modalities)} modalities: give one each")
        self.specific = nn.ModuleList(specific)

    def optional_parameters(self) -> list[nn.Parameter]:
        """The specific encoders: no sample of a batch may have a modality."""
        return list(self.specific.parameters())

    def all_encoders(self) -> list[Any]:
        """The shared encoder and the specific ones."""
        return [*self.encoders, *self.specific]

    def encode(self, x: Tensor, available: Tensor | None = None) -> Streams:
        """Encode the available modalities: r at every scale, and s at the bottleneck."""
        streams = super().encode(x, available)  # r of Eq. (1)
        specific: list[Tensor] = []
        for modality, encoder in enumerate(self.specific):
            inputs = [x[sample, own] for sample, own in streams.pairs if own == modality]
            if inputs:
                specific.extend(self.encoded(encoder, inputs)[-1].unbind(0))  # s of Eq. (1)
        return replace(streams, specific=tuple(specific))


if TYPE_CHECKING:
    _fulfils: type[SegmentationNetwork] = SharedSpecificUNet
