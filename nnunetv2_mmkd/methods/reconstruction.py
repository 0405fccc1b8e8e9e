"""Reconstruction of every modality's images, shared by the methods that do so.

Legend: B batch, M modalities, R samples of the batch that have a modality.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nnunetv2_mmkd.losses.reconstruction import reconstruction_error
from nnunetv2_mmkd.methods.base import Batch
from nnunetv2_mmkd.methods.modality_table import ModalityTables
from nnunetv2_mmkd.modalities import index_of

Reconstruct = Callable[[int, list[int]], Tensor]
"""``(modality, samples that have it) -> images [R, 1, *spatial]``."""


def samples_with(present: Tensor) -> list[tuple[int, list[int]]]:
    """Each modality that occurs in a mask ``[B, M]``, with the samples that have it."""
    found = [(m, torch.nonzero(column).flatten().tolist()) for m, column in enumerate(present.T)]
    return [(m, samples) for m, samples in found if samples]


def images_of(batch: Batch, modality: int, samples: Sequence[int]) -> Tensor:
    """A modality's images of some samples, ``[R, 1, *spatial]``."""
    return torch.stack([batch.images[number, modality] for number in samples])[:, None]


def reconstruction_errors(batch: Batch, reconstruct: Reconstruct, *, p: int) -> Tensor:
    """How far reconstructed images are from the real ones of all modalities that the cases have.

    Args:
        batch: images, the modalities that cases have (not only those of the step), voxels that count.
        reconstruct: makes a modality's images of some samples.
        p: 1 for the mean absolute, 2 for the mean squared error.

    Returns:
        ``[B, M]``; 0 where a case lacks the modality.
    """
    table = ModalityTables(1, len(batch.present), batch.present.shape[1], batch.images.device)
    for m, samples in samples_with(batch.present):
        valid = None if batch.valid is None else batch.valid[index_of(samples, batch.valid.device)]
        error = reconstruction_error(reconstruct(m, samples), images_of(batch, m, samples), p, valid)
        table.put(m, samples, [error])
    return table.read()[0]


def error_by_modality(errors: Tensor, present: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Means of a table ``[B, M]`` over the samples that have a modality, detached; those that none has are left out."""
    return {names[m]: errors.detach()[:, m].sum() / len(samples) for m, samples in samples_with(present)}
