"""Expectations over a subset law, and the arithmetic bound.

Legend: M modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from nnunetv2_mmkd.modalities import SubsetLaw, subset_probabilities


def size_probabilities(law: SubsetLaw, n_modalities: int, modalities: Sequence[str] = ()) -> tuple[float, ...]:
    """Probabilities of a complete case keeping 1, 2, ..., M modalities.

    Args:
        law: the subset law.
        n_modalities: M.
        modalities: their names, for a law that names them.
    """
    most = n_modalities
    sizes = range(1, most + 1)
    if law.name == "deployment":
        masks, chances = subset_probabilities(law, modalities)
        return tuple(float(chances[masks.sum(1) == size].sum()) for size in sizes)
    if law.name == "full":
        return tuple(float(size == most) for size in sizes)
    if law.name in ("count_uniform", "count_uniform_incomplete"):
        last = most - (law.name == "count_uniform_incomplete" and most > 1)
        return tuple(1.0 / last if size <= last else 0.0 for size in sizes)
    drop = law.p if law.name == "bernoulli" else 0.5  # uniform and submask: every non-empty subset alike
    return tuple(comb(most, size) * (1 - drop) ** size * drop ** (most - size) / (1 - drop**most) for size in sizes)


def expected(values: Sequence[float], probabilities: Sequence[float]) -> float:
    """Mean over the law of a cost known for 1, 2, ..., M modalities.

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
