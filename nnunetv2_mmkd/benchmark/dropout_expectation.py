"""Expectations over a modality dropout distribution, and the arithmetic bound.

Legend: M modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnunetv2_mmkd.modalities import ModalityDropoutConfig, subset_probabilities


def size_probabilities(distribution: ModalityDropoutConfig, modalities: Sequence[str]) -> tuple[float, ...]:
    """Probabilities of a complete case keeping 1, 2, ..., M modalities.

    Args:
        distribution: the modality dropout distribution.
        modalities: M names.
    """
    masks, chances = subset_probabilities(distribution, modalities)
    return tuple(float(chances[masks.sum(1) == size].sum()) for size in range(1, len(modalities) + 1))


def expectation(values: Sequence[float], probabilities: Sequence[float]) -> float:
    """Mean over the distribution of a cost known for 1, 2, ..., M modalities.

    It is exact for batches too, per sample or per batch, because the costs of the samples of a batch add up.
    """
    return sum(p * value for p, value in zip(probabilities, values, strict=True) if p)


@dataclass(frozen=True)
class Bound:
    """What a multi-stream step must cost at least, from the counted cost of the stock network.

    Attributes:
        streams: expected number of streams.
        encoder_share: share of the stock step's FLOPs that its encoder has.
        ratio: :func:`arithmetic_bound` over the stock step.
    """

    streams: float
    encoder_share: float
    ratio: float


def arithmetic_bound(encoder_flops: float, total_flops: float, streams: float) -> Bound:
    """The stock encoder once per stream, the stock decoder unchanged, fusion free.

    Args:
        encoder_flops: of the stock encoder, forward and backward.
        total_flops: of the whole stock step.
        streams: expected number of streams.
    """
    share = encoder_flops / total_flops
    return Bound(streams=streams, encoder_share=share, ratio=streams * share + (1 - share))
