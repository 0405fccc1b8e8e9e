"""The multi-modal classifier: an encoder per modality, mean filling, concatenation, a head.

The three steps that methods call are those of the multi-stream U-Net: ``encode``, ``fuse``, ``decode``.

Legend: B batch, M modalities, P available pairs, W width of the features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.networks.contracts import MultiStreamNetwork
from nnunetv2_mmkd.networks.streams import Fused, ModalityWeights, Streams, pairs_of


class MultiModalClassifier(nn.Module):
    """``encode`` each available modality, ``fuse`` by mean filling and concatenation, ``decode`` to logits.

    Only available (subject, modality) pairs are encoded: the content of a missing input is never read.

    Args:
        encoders: modality -> encoder ``[B, *shape] -> [B, W]`` with the attribute ``width``.
        classes: K.
        hidden: width of the head's hidden layer (64 in SMIL).
        dropout: before the last layer.

    Raises:
        InputError: encoders of unequal width (a missing feature is filled with the mean of the others').

    References:
        Wang et al., MetaKD, Eqs. (1) to (3); §8: features before the fully connected layers, two of them with dropout.

    Deviations from the paper:
        Encoders are not shared: an image and a sound have no encoder in common. Each ends in a linear layer to the
        common width.
    """

    def __init__(
        self, encoders: Mapping[str, nn.Module], classes: int, *, hidden: int = 64, dropout: float = 0.5
    ) -> None:
        super().__init__()
        widths = {name: int(getattr(encoder, "width", 0)) for name, encoder in encoders.items()}
        if len(set(widths.values())) != 1:
            raise InputError(f"the encoders' features must be of equal width to be averaged, not {widths}")
        self.modalities = tuple(encoders)
        self.width = next(iter(widths.values()))
        self.encoders = nn.ModuleDict(encoders)
        self.head = nn.Sequential(
            nn.Linear(len(encoders) * self.width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
        )

    def forward(self, x: Mapping[str, Tensor], available: Tensor | None = None) -> Tensor:
        """Classify with the available modalities.

        Args:
            x: modality -> ``[B, *shape]``.
            available: bool ``[B, M]`` or ``[M]``; None: all.

        Returns:
            logits ``[B, K]``.
        """
        return self.decode(self.fuse(self.encode(x, available)).skips)

    def encode(self, x: Mapping[str, Tensor], available: Tensor | None = None) -> Streams:
        """Features ``[W, 1]`` of the available pairs: one scale, one position; Eq. (1).

        Raises:
            InputError: a modality is not among the inputs, or a subject has no modality.
        """
        absent = [name for name in self.modalities if name not in x]
        if absent:
            raise InputError(f"the input lacks {absent[0]!r}; this network has {', '.join(self.modalities)}")
        mask = self._mask(len(x[self.modalities[0]]), available)
        features: list[Tensor] = []
        for modality, name in enumerate(self.modalities):
            rows = torch.nonzero(mask[:, modality]).flatten()
            if len(rows):
                inputs = x[name]
                encoded = self.encoders[name](inputs[rows.to(inputs.device)])
                features.extend(encoded[..., None].unbind(0))
        return Streams(mask, pairs_of(mask), (tuple(features),))

    def _mask(self, count: int, available: Tensor | None) -> Tensor:
        if available is None:
            return torch.ones(count, len(self.modalities), dtype=torch.bool)
        mask = available.detach().cpu().bool().expand(count, len(self.modalities))
        if not mask.any(dim=1).all():
            raise InputError("a subject has no modality at all: at least one must be available")
        return mask

    def fuse(self, streams: Streams, *, weights: ModalityWeights | None = None) -> Fused:
        """Real or filled features of all modalities, Eq. (2).

        Args:
            streams: what :meth:`encode` returned.
            weights: factors of the real or filled features (the meta-objective, Eq. 4) at the one scale, or None.

        Returns:
            one skip, ``[B, M, W]``.
        """
        table = self.table(streams)
        return self.weighted(fill(table, streams.available.to(table.device)), weights)

    def table(self, streams: Streams) -> Tensor:
        """Features ``[B, M, W]``, 0 where missing."""
        rows = torch.stack(streams.bottleneck)[..., 0]
        subjects, modalities = torch.tensor(streams.pairs, device=rows.device).T
        count = len(streams.available)
        return rows.new_zeros(count, len(self.modalities), self.width).index_put((subjects, modalities), rows)

    @staticmethod
    def weighted(features: Tensor, weights: ModalityWeights | None) -> Fused:
        """Features ``[B, M, W]`` as the one skip, times the factors of the modalities."""
        (factors,) = weights or [None]
        return Fused([features if factors is None else features * factors[:, None]], [])

    def decode(self, skips: list[Tensor]) -> Tensor:
        """Concatenate and classify, Eq. (3): one skip ``[B, M, W]`` -> ``[B, K]``."""
        result: Tensor = self.head(skips[0].flatten(1))
        return result


def build_classifier(
    make_encoder: Callable[[str], nn.Module],
    modalities: Sequence[str],
    classes: int,
    seed: int,
    kind: type[MultiModalClassifier] = MultiModalClassifier,
) -> MultiModalClassifier:
    """A classifier with initial weights drawn from a seed; the caller's random state stays as it is.

    Args:
        make_encoder: modality -> a new encoder.
        modalities: names of the M modalities.
        classes: K.
        seed: of the weights.
        kind: class of the network, which takes encoders and classes.
    """
    with seeded(seed):
        return kind({name: make_encoder(name) for name in modalities}, classes)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed; the caller's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def fill(features: Tensor, available: Tensor) -> Tensor:
    """Missing features become the mean of the subject's available ones; gradients flow through the mean.

    Args:
        features: ``[B, M, W]``, 0 where missing.
        available: bool ``[B, M]``, no row empty.

    Returns:
        ``[B, M, W]``.

    References:
        Wang et al., MetaKD, Eq. (2).
    """
    mean = features.sum(1, keepdim=True) / available.sum(1)[:, None, None]  # Eq. (2)
    return torch.where(available[..., None], features, mean)


if TYPE_CHECKING:
    _fulfils: type[MultiStreamNetwork] = MultiModalClassifier
