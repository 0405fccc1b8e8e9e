"""Surfaces of masks as points, and distances from each point of one to the nearest of another.

Two surfaces are in use: voxels at the border (medpy; nnU-Net v1), and surface elements between voxels with their area
(DeepMind surface-distance). All points are integer grid positions; distances are exact for the spacing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt
from scipy.spatial import cKDTree

from nnunetv2_mmkd.evaluation.metrics.elements import corners, element_areas
from nnunetv2_mmkd.evaluation.metrics.masks import Mask

DENSE = 0.05
"""Share of grid positions in the surface above which a distance map is quicker than a search tree."""


class Surface(NamedTuple):
    """A surface as points.

    Attributes:
        on: boolean grid, True where a point is.
        area: weight of each point in C order of the grid: area in mm² (3d) or length in mm (2d); 1 for border voxels.
    """

    on: Mask
    area: NDArray[np.float64]


def border_voxels(mask: Mask) -> Surface:
    """Voxels of the mask that have a face (2d: edge) neighbour outside it; outside the image nothing is set."""
    border = mask & ~binary_erosion(mask)
    return Surface(border, np.ones(np.count_nonzero(border)))


def surface_elements(mask: Mask, spacing: tuple[float, ...]) -> Surface:
    """Cells between voxel centres that the surface runs through, with the area in them.

    Args:
        mask: of shape ``[n, ...]``; outside nothing is set.
        spacing: mm per axis.

    Returns:
        Points on the grid of cells ``[n + 1, ...]``: cell i lies between voxels i - 1 and i.
    """
    padded = np.pad(mask, 1).view(np.uint8)
    code = np.zeros([length - 1 for length in padded.shape], dtype=np.uint8)
    order = corners(mask.ndim)
    for bit, corner in enumerate(order):
        cell = tuple(slice(start, start + length) for start, length in zip(corner, code.shape, strict=True))
        code |= padded[cell] << bit
    on = (code != 0) & (code != 2 ** len(order) - 1)
    return Surface(on, element_areas(spacing)[code[on]])


def distances(source: Surface, target: Surface, spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Distance in mm from each point of ``source`` to the nearest of ``target``, in C order of the source's grid.

    All are infinite if the target has no point.
    """
    if not target.on.any():
        return np.full(len(source.area), np.inf)
    if len(target.area) > DENSE * target.on.size:
        result: NDArray[np.float64] = distance_transform_edt(~target.on, sampling=spacing)[source.on]
        return result
    start, end = np.argwhere(source.on), np.argwhere(target.on)
    _, nearest = cKDTree(end * spacing, balanced_tree=False, compact_nodes=False).query(start * np.array(spacing))
    # anew from whole numbers: the tree's own distances carry rounding of coordinates and may miss a tolerance by it
    lengths: NDArray[np.float64] = np.sqrt((((start - end[nearest]) * spacing) ** 2).sum(1))
    return lengths


def area_percentile(values: NDArray[np.float64], areas: NDArray[np.float64], percent: float) -> float:
    r"""Smallest value below or at which at least ``percent`` % of the area lies.

    .. math:: \min \{ d_i : \sum_{d_j \le d_i} a_j \ge \tfrac{p}{100} \sum_j a_j \}
    """
    order = np.lexsort((areas, values))
    share = np.cumsum(areas[order]) / areas.sum()
    position = int(np.searchsorted(share, percent / 100))
    return float(values[order][min(position, len(values) - 1)])
