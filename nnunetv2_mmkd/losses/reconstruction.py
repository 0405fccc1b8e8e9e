"""Reconstructed images compared with the real ones, in float32, outside autocast.

Legend: B batch, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def reconstruction_error(prediction: Tensor, image: Tensor, p: int, valid: Tensor | None = None) -> Tensor:
    r"""Mean over the voxels of each sample.

    .. math:: \frac{1}{|V|} \sum_{v \in V} |\hat x_v - x_v|^p

    Example:
        >>> prediction, image = torch.zeros(1, 1, 4), torch.tensor([[[0.0, 0.0, 2.0, 9.0]]])
        >>> reconstruction_error(prediction, image, 2, torch.tensor([[[True, True, True, False]]]))  # 4 / 3
        tensor([1.3333])

    Args:
        prediction: ``[B, C, *spatial]``.
        image: the same shape.
        p: 1 for the absolute, 2 for the squared error.
        valid: bool ``[B, 1, *spatial]``, False where a voxel does not count (ignore label); None if all count.

    Returns:
        ``[B]``; 0 where no voxel counts.

    Raises:
        ValueError: p is neither 1 nor 2.
    """
    if p not in (1, 2):
        raise ValueError(f"p must be 1 (absolute) or 2 (squared error), not {p}")
    with torch.autocast(prediction.device.type, enabled=False):
        difference = prediction.float() - image.float()
        values = (difference.abs() if p == 1 else difference.square()).mean(1, keepdim=True)
        if valid is None:
            return values.flatten(1).mean(1)
        counted = torch.where(valid, values, 0).flatten(1).sum(1)
        return counted / valid.flatten(1).sum(1).clamp_min(1)
