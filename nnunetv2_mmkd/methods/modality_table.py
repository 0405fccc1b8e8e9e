"""Values of single modalities in the samples of a batch, shared by the methods that look at each modality alone.

Legend: B batch, M modalities, P available pairs, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nnunetv2_mmkd.modalities import index_of
from nnunetv2_mmkd.networks.streams import Streams


class ModalityTables:
    """Several tables ``[B, M]``, filled a modality at a time; 0 where nothing was put.

    Args:
        number: of tables.
        samples: B.
        modalities: M.
        device: of the values.
    """

    def __init__(self, number: int, samples: int, modalities: int, device: torch.device) -> None:
        self._shape = samples, modalities
        self._entries = [[torch.zeros((), device=device)] * (samples * modalities) for _ in range(number)]

    def put(self, modality: int, samples: Sequence[int], values: Sequence[Tensor]) -> None:
        """Enter one value for each sample into each table.

        Args:
            modality: column.
            samples: rows.
            values: for each table, one value for each of the samples.
        """
        for entries, own in zip(self._entries, values, strict=True):
            for sample, value in zip(samples, own, strict=True):
                entries[sample * self._shape[1] + modality] = value

    def read(self) -> list[Tensor]:
        """The tables."""
        return [torch.stack(entries).reshape(self._shape) for entries in self._entries]


def finite_or_nothing(*step: Tensor) -> list[Tensor]:
    """What a step adds to sums of an epoch: zeros if it overflowed in half precision, as its update is skipped, too."""
    finite = torch.stack([each.isfinite().all() for each in step]).all()
    return [torch.where(finite, each, 0) for each in step]


def by_modality(streams: Streams, scale: int) -> dict[int, tuple[list[int], Tensor]]:
    """Modality -> the samples that have it, and their features ``[B, C, *spatial]``."""
    rows: dict[int, list[int]] = {}
    for row, (_, modality) in enumerate(streams.pairs):
        rows.setdefault(modality, []).append(row)
    return {
        modality: ([streams.pairs[row][0] for row in own], torch.stack([streams.scales[scale][row] for row in own]))
        for modality, own in rows.items()
    }


def rows_of(target: Any, samples: Sequence[int]) -> Any:
    """The targets of some samples: ``[B, ...]``, or the deep supervision list of such."""
    if isinstance(target, (list, tuple)):
        return [rows_of(each, samples) for each in target]
    return target[index_of(samples, target.device)]


def supervised(outputs: Sequence[Tensor], target: Any) -> Any:
    """What the task loss takes: all outputs where the target is a deep supervision list, else the largest."""
    return outputs if isinstance(target, (list, tuple)) else outputs[0]
