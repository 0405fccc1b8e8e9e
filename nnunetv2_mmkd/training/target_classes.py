"""Classes of voxels from nnU-Net's targets: of regions, voxels of equal region membership are a class.

Legend: B batch, R regions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def membership_classes(target: Tensor | list[Tensor], *, label_manager: Any) -> tuple[Tensor, int]:
    """The class of each voxel.

    Args:
        target: as nnU-Net's loaders give it, or the deep supervision list of them, largest first: label map
            ``[B, 1, *spatial]``, or regions ``[B, R, *spatial]``, followed by the ignore mask where there is an
            ignore label.
        label_manager: nnU-Net's.

    Returns:
        long ``[B, *spatial]``, -1 where voxels are ignored; and the number of possible classes: of labels
        background included, of regions 2^R memberships (nested regions use R + 1 of them).
    """
    finest = target[0] if isinstance(target, list) else target
    if not label_manager.has_regions:
        labels = finest[:, 0].long()
        if label_manager.has_ignore_label:
            labels = torch.where(labels == label_manager.ignore_label, -1, labels)
        return labels, len(label_manager.all_labels)
    regions = len(label_manager.foreground_regions)
    powers = 2 ** torch.arange(regions, device=finest.device)
    codes = (finest[:, :regions].long() * powers.reshape(1, -1, *[1] * (finest.ndim - 2))).sum(1)
    if label_manager.has_ignore_label:
        codes = torch.where(finest[:, -1].bool(), -1, codes)
    return codes, 2**regions


def task_labels(label_manager: Any) -> dict[str, tuple[int, ...]]:
    """Names and labels of the K tasks, in the order of the heads: foreground regions, or foreground classes."""
    names = {key: value for key, value in label_manager.label_dict.items() if key != "ignore"}
    if label_manager.has_regions:
        foreground = label_manager.foreground_regions
    else:
        foreground = label_manager.foreground_labels
    tasks = {}
    for labels in foreground:
        task = _as_tuple(labels)
        name = next((name for name, value in names.items() if _as_tuple(value) == task), str(labels))
        tasks[name] = task
    return tasks


def _as_tuple(labels: Any) -> tuple[int, ...]:
    return tuple(int(label) for label in labels) if isinstance(labels, (list, tuple)) else (int(labels),)
