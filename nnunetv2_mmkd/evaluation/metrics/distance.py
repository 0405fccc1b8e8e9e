"""Metrics of surface distance. A new one: a function of a :class:`MaskPair` here, an entry in :data:`DISTANCE_METRICS`,
a test.
"""

from __future__ import annotations

import numpy as np

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.mask_pair import MaskPair
from nnunetv2_mmkd.evaluation.metrics.spec import MetricParameter, MetricSpec
from nnunetv2_mmkd.evaluation.metrics.surface import area_percentile


def hausdorff(pair: MaskPair) -> float:
    """Hausdorff distance in mm: the largest distance of a border voxel of one mask to the other's border.

    Empty regions: both empty NaN or 0; one empty infinity or 373.1287 (``legacy``).

    >>> hausdorff(MaskPair([[1, 0, 0, 0]], [[0, 0, 0, 1]], (1.0, 2.0)))
    6.0
    """
    return pair.distance(lambda: max(float(values.max()) for values in pair.border_distances))


def hd95(pair: MaskPair) -> float:
    """HD95 in mm, pooled: 95th percentile (linear) of both directed sets of border distances put together.

    The definition of medpy, nnU-Net v1 and most papers on missing modalities.

    Empty regions: both empty NaN or 0; one empty infinity or 373.1287 (``legacy``).

    >>> hd95(MaskPair([[1, 0, 0, 0]], [[0, 0, 0, 1]], (1.0, 2.0)))
    6.0
    """
    return pair.distance(lambda: float(np.percentile(np.concatenate(pair.border_distances), 95)))


def hd95_area(pair: MaskPair) -> float:
    """HD95 in mm, weighted by area: the larger of the two directed 95th percentiles of the surface.

    The definition of DeepMind's surface-distance, which BraTS 2023 and 2024 use. Elements and areas: see
    :mod:`.elements`.

    Empty regions: both empty NaN or 0; one empty infinity or 373.1287 (``legacy``).

    Deviations:
        surface-distance gives infinity for two empty masks; here the policy decides.

    References:
        Nikolov et al., JMIR 2021, arXiv:1809.04430.

    >>> hd95_area(MaskPair([[1, 0, 0, 0]], [[0, 0, 0, 1]], (1.0, 2.0)))
    6.0
    """

    def larger() -> float:
        areas = (surface.area for surface in pair.elements)
        return max(area_percentile(d, a, 95) for d, a in zip(pair.element_distances, areas, strict=True))

    return pair.distance(larger)


def nsd(pair: MaskPair, tolerance: float = 1.0) -> float:
    r"""Normalised surface Dice: share of both surfaces that lies within ``tolerance`` mm of the other.

    .. math:: \frac{|S_P \cap B_G^\tau| + |S_G \cap B_P^\tau|}{|S_P| + |S_G|}

    DeepMind's definition (areas of surface elements), not that of nnU-Net v1, panoptica and BraTS 2025 (mean of two
    shares of border voxels): the two are not comparable.

    Empty regions: both empty NaN or 1; one empty 0.

    Raises:
        InputError: the tolerance is negative or not a number.

    >>> nsd(MaskPair([[1, 0, 0, 0]], [[0, 0, 0, 1]], (1.0, 2.0)), tolerance=6.0)
    1.0
    """
    if not tolerance >= 0:
        raise InputError(f"tolerance {tolerance}: expected a distance in mm, 0 or more")
    if pair.both_empty:
        return pair.empty.both_ratio
    areas = [surface.area for surface in pair.elements]
    near = sum(area[d <= tolerance].sum() for d, area in zip(pair.element_distances, areas, strict=True))
    return float(near / sum(area.sum() for area in areas))


def nsd_border(pair: MaskPair, tolerance: float) -> float:
    r"""Normalised surface Dice of border voxels: mean of the two shares that lie within ``tolerance`` mm of the other.

    .. math:: \frac{1}{2}\left(\frac{|B_P \cap \{d \le \tau\}|}{|B_P|} + \frac{|B_G \cap \{d \le \tau\}|}{|B_G|}\right)

    The definition of nnU-Net v1, panoptica and BraTS 2025.

    Empty regions: both empty NaN or 1; one empty 0.

    >>> nsd_border(MaskPair([[1, 0, 0, 0]], [[0, 0, 0, 1]], (1.0, 2.0)), tolerance=6.0)
    1.0
    """
    if pair.both_empty:
        return pair.empty.both_ratio
    if pair.one_empty:
        return 0.0
    return float(np.mean([np.mean(values <= tolerance) for values in pair.border_distances]))


DISTANCE_METRICS = (
    MetricSpec.distance("hausdorff", "Hausdorff distance", hausdorff),
    MetricSpec.distance("hd95", "HD95", hd95),
    MetricSpec.distance("hd95_area", "HD95 (area-weighted)", hd95_area),
    MetricSpec.ratio("nsd", "NSD", nsd, MetricParameter("tolerance", 1.0, "mm", "of the NSD")),
)
"""All of them."""
