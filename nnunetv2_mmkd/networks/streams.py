"""Features of the modality streams: only the available (sample, modality) pairs exist.

Legend: B batch, M modalities, P available pairs, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

ModalityWeights = Sequence["Tensor | None"]
"""For each scale, largest first, factors ``[M]`` of the modalities' features; None: 1."""


class Fused(NamedTuple):
    """What a fusion makes of the streams.

    Attributes:
        skips: what the decoder gets, largest scale first, ``[B, C, *spatial]`` each.
        maps: logits ``[B, K, *spatial]`` that the fusion predicts, at the scales of deep supervision, largest first;
            empty for fusions that predict none.
    """

    skips: list[Tensor]
    maps: list[Tensor]


@dataclass(frozen=True)
class Streams:
    """Encoded modalities of a batch.

    Attributes:
        available: bool ``[B, M]`` on the CPU.
        pairs: the P available ``(sample, modality)`` pairs, by modality and then by sample.
        scales: per scale, largest first, the P feature maps ``[C, *spatial]`` in the order of ``pairs``.
        specific: P further maps at the bottleneck, of encoders that each belong to a modality, in a network that has
            them in addition to a shared one (ShaSpec); empty otherwise.
    """

    available: Tensor
    pairs: tuple[tuple[int, int], ...]
    scales: tuple[tuple[Tensor, ...], ...]
    specific: tuple[Tensor, ...] = ()

    @property
    def bottleneck(self) -> tuple[Tensor, ...]:
        """The P feature maps of the last (smallest) scale."""
        return self.scales[-1]

    def by_sample(self, scale: int = -1) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """For each sample: its modalities in ascending order and their features ``[|A|, C, *spatial]``."""
        rows: list[list[int]] = [[] for _ in range(self.available.shape[0])]
        for row, (sample, _) in enumerate(self.pairs):
            rows[sample].append(row)
        for own in rows:
            yield tuple(self.pairs[row][1] for row in own), torch.stack([self.scales[scale][row] for row in own])

    def narrowed(self, available: Tensor) -> Streams:
        """The same features with fewer modalities, as if only those had been encoded.

        Args:
            available: bool ``[M]`` or ``[B, M]``, within :attr:`available`.

        Raises:
            ValueError: a modality is asked for that has not been encoded.
        """
        mask = available.detach().cpu().bool().expand_as(self.available)
        if (mask & ~self.available).any():
            raise ValueError("a modality is asked for that has not been encoded")
        rows = [row for row, (sample, modality) in enumerate(self.pairs) if mask[sample, modality]]
        return self._of(rows, mask, tuple(self.pairs[row] for row in rows))

    def weighted(self, weights: ModalityWeights | None) -> Streams:
        """The features, each multiplied by the factor of its modality at its scale; not :attr:`specific`.

        Args:
            weights: for each scale; None: the features as they are.
        """
        if weights is None:
            return self
        scales = []
        for features, factors in zip(self.scales, weights, strict=True):
            if factors is not None:
                rows = zip(features, self.pairs, strict=True)
                features = tuple(own * factors[modality].to(own.dtype) for own, (_, modality) in rows)
            scales.append(features)
        return replace(self, scales=tuple(scales))

    def samples(self) -> Iterator[Streams]:
        """Each sample as a batch of its own."""
        for sample in range(len(self.available)):
            yield self.of_sample(sample)

    def alone(self, modality: int, samples: Sequence[int]) -> Streams:
        """One modality of some samples, as if nothing else had been encoded.

        Args:
            modality: its position.
            samples: rows of the batch that have it; they become rows 0, 1, ... of the result.

        Raises:
            ValueError: a sample lacks the modality.
        """
        row_of = {pair: row for row, pair in enumerate(self.pairs)}
        if any((sample, modality) not in row_of for sample in samples):
            raise ValueError("a modality is asked for that has not been encoded")
        rows = [row_of[sample, modality] for sample in samples]
        available = torch.zeros(len(rows), self.available.shape[1], dtype=torch.bool)
        available[:, modality] = True
        return self._of(rows, available, tuple((number, modality) for number in range(len(rows))))

    def of_sample(self, sample: int) -> Streams:
        """One sample, as if it were all of the batch."""
        rows = [row for row, (own, _) in enumerate(self.pairs) if own == sample]
        pairs = tuple((0, self.pairs[row][1]) for row in rows)
        return self._of(rows, self.available[sample : sample + 1], pairs)

    def _of(self, rows: Sequence[int], available: Tensor, pairs: tuple[tuple[int, int], ...]) -> Streams:
        """Some rows, under other pairs."""
        scales = tuple(tuple(scale[row] for row in rows) for scale in self.scales)
        return Streams(available, pairs, scales, tuple(self.specific[row] for row in rows if self.specific))


def pairs_of(available: Tensor) -> tuple[tuple[int, int], ...]:
    """The available ``(sample, modality)`` pairs of a mask ``[B, M]``, by modality and then by sample."""
    return tuple((sample, modality) for modality, sample in torch.nonzero(available.T).tolist())
