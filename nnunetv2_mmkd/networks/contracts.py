"""What methods may call of a network with a stream per modality.

Legend: B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from nnunetv2_mmkd.networks.streams import Fused, ModalityWeights, Streams


class MultiStreamNetwork(Protocol):
    """``encode`` each available modality, ``fuse`` them, ``decode``: for segmentation and for classification."""

    training: bool

    def encode(self, x: Any, available: Tensor | None = None) -> Streams:
        """Encode the available modalities of a batch."""
        ...

    def fuse(self, streams: Streams, *, weights: ModalityWeights | None = None) -> Fused:
        """Fuse the streams; ``weights`` multiply the modalities' features."""
        ...

    def decode(self, skips: list[Tensor]) -> Any:
        """Fused features -> what the task loss takes."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """All modules, as of ``nn.Module``."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Switch between training and evaluation, as of ``nn.Module``."""
        ...


class SegmentationNetwork(MultiStreamNetwork, Protocol):
    """A multi-stream network with nnU-Net's planned decoder."""

    decoder: nn.Module

    @property
    def predicts_maps(self) -> bool:
        """Whether :meth:`fuse` returns maps of the regions."""
        ...

    def decode_with_features(self, skips: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """The outputs, largest first, and the last feature map before the largest head, ``[B, C, *spatial]``."""
        ...


class GaussianFusion(Protocol):
    """A fusion that multiplies Gaussians (U-HVED)."""

    def gaussians(self, streams: Streams) -> Streams:
        """Each modality's Gaussian at each scale, channels of mean and log variance."""
        ...

    def widen(self, latents: Sequence[Tensor], *, recomputed_scales: int = 0) -> list[Tensor]:
        """What the decoder takes of latent variables of all scales."""
        ...


class VariationalNetwork(SegmentationNetwork, Protocol):
    """A multi-stream network with a fusion that multiplies Gaussians."""

    recomputed_stages: int

    @property
    def fusions(self) -> GaussianFusion:
        """The fusion of all scales."""
        ...
