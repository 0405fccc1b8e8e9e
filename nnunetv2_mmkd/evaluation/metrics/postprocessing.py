"""Removal of a small region, as papers on missing modalities do with the enhancing tumour."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nnunetv2_mmkd.evaluation.metrics.masks import Mask, as_mask

POSTPROCESSED = "_postprocessed"
"""Ending of a metric's name when small predictions were removed first."""

ET_THRESHOLD = 500
"""Voxels of enhancing tumour below which RFNet, mmFormer and their successors take it for absent."""


def remove_small(mask: ArrayLike, threshold: int = ET_THRESHOLD) -> Mask:
    """The predicted region, or nothing if it has fewer than ``threshold`` voxels altogether.

    It changes Dice by whole points (an absent region predicted absent counts 1 under the legacy policy), so its scores
    are given besides those of the prediction as it is, under names that end in :data:`POSTPROCESSED`.

    Args:
        mask: predicted region.
        threshold: in voxels, of the whole region, not per component.

    Raises:
        InputError: not a mask.

    References:
        Ding et al., RFNet, ICCV 2021, and code of that line (``enhancing_postpro``).
    """
    region = as_mask(mask, "prediction")
    return region if np.count_nonzero(region) >= threshold else np.zeros_like(region)
