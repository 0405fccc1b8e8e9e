"""Online pseudo-Dice under the target distribution of subsets, and with all modalities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch.distributed as dist
from nnunetv2.utilities.collate_outputs import collate_outputs
from torch import Tensor

from nnunetv2_mmkd.modalities import SubsetSampler

VALIDATION_SEED = 20180


class OnlineValidation:
    """Validates each batch of an epoch twice: under a drawn subset, and with all modalities that the cases have.

    The sequence of subsets is the same in every epoch and for every method. ``checkpoint_best`` follows the Dice under
    the subsets; the Dice with all modalities is a second curve.

    Args:
        sampler: draws from the target distribution; seeded the same in every epoch.
    """

    def __init__(self, sampler: SubsetSampler) -> None:
        self.sampler = sampler
        self.full_outputs: list[dict[str, Any]] = []

    def step(
        self, batch: dict[str, Any], full: Tensor, validate: Callable[[dict[str, Any], Tensor], dict[str, Any]]
    ) -> dict[str, Any]:
        """Validate a batch.

        Args:
            batch: of nnU-Net's loader.
            full: what its cases have, ``[B, M]``.
            validate: nnU-Net's validation step of ``(batch, available)``.

        Returns:
            nnU-Net's outputs under the drawn subset.
        """
        target = batch["target"]
        copied = [t.clone() for t in target] if isinstance(target, list) else target.clone()
        outputs = validate({**batch, "target": copied}, full)  # it may change the target in place
        self.full_outputs.append(outputs)
        available = self.sampler(full)
        return outputs if bool((available == full).all()) else validate(batch, available)

    def full_dice(self) -> float:
        """Mean pseudo-Dice of the epoch with all modalities."""
        return mean_dice(self.full_outputs)


def mean_dice(outputs: list[dict[str, Any]]) -> float:
    """Mean over classes or regions of the Dice over all voxels, over all ranks, as nnU-Net's pseudo-Dice."""
    collated = collate_outputs(outputs)
    counts = np.stack([np.sum(collated[key], 0) for key in ("tp_hard", "fp_hard", "fn_hard")])
    if dist.is_available() and dist.is_initialized():
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, counts)
        counts = np.sum(gathered, axis=0)
    tp, fp, fn = counts
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.nanmean(2 * tp / (2 * tp + fp + fn)))
