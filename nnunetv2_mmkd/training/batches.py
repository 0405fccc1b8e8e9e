"""From a batch of nnU-Net's loaders to what methods take.

Legend: B batch, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from numpy.typing import NDArray
from torch import Tensor

from nnunetv2_mmkd.methods.base import Batch
from nnunetv2_mmkd.modalities import SubsetSampler


def prepare_batch(
    host: nnUNetTrainer, batch: dict[str, Any], present: Mapping[str, NDArray[np.bool_]], sampler: SubsetSampler
) -> Batch:
    """Move a batch of nnU-Net's loaders to the device and draw its subsets.

    Args:
        host: the trainer.
        batch: ``data``, ``target`` and ``keys`` (identifiers of the cases).
        present: case -> what it has, ``[M]``.
        sampler: draws what of it may be used.
    """

    def to_device(tensor: Tensor) -> Tensor:
        return tensor.to(host.device, non_blocking=True)

    masks = torch.from_numpy(np.stack([present[str(key)] for key in batch["keys"]]))
    target = batch["target"]
    target = [to_device(t) for t in target] if isinstance(target, list) else to_device(target)
    return Batch(to_device(batch["data"]), sampler(masks), masks, target, _valid(target, host.label_manager))


def _valid(target: Tensor | list[Tensor], label_manager: Any) -> Tensor | None:
    """Voxels that count, ``[B, 1, *spatial]``; None without an ignore label."""
    if not label_manager.has_ignore_label:
        return None
    finest = target[0] if isinstance(target, list) else target
    return ~finest[:, -1:].bool() if label_manager.has_regions else finest != label_manager.ignore_label
