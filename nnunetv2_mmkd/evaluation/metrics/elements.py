r"""Area of the piece of surface between neighbouring voxel centres: 3d cells of 2x2x2 voxels, 2d cells of 2x2.

A cell has a voxel centre at each corner; some corners are inside the mask. The surface cuts a cell edge in the middle
wherever its ends differ. Which piece of surface runs through the cell depends on the inside corners only:

* corners joined by cell edges belong together, others are wrapped one by one;
* where more than half of the corners are inside, the outside corners are wrapped instead (same surface, seen from the
  other side), so a code and its complement have the same area.

So no table of 256 codes is needed: at most four joined corners have six shapes. With :math:`a_i` the area of a voxel
face perpendicular to axis i, and :math:`|a|` the Euclidean norm of :math:`(a_0, a_1, a_2)`:

===============================================  ==============================================================
corners                                          area
===============================================  ==============================================================
one                                              :math:`|a|/8`, a triangle
two, edge along i                                :math:`\sqrt{a_j^2 + a_k^2}/2`, a rectangle
three, in the plane perpendicular to k           :math:`a_k/2 + 3|a|/8`, a triangle in that plane and a trapezoid
four, a face perpendicular to k                  :math:`a_k`, a rectangle
four, one joined to the other three              :math:`3|a|/4`, a plane hexagon
four in a chain, edges along i, then k, then j   :math:`|a|/2 + (\sqrt{a_i^2 + a_k^2} + \sqrt{a_j^2 + a_k^2})/4`
===============================================  ==============================================================

The last one is a hexagon that is not plane: a triangle through every other corner of it, and three flaps. Both choices
of the triangle give the same area.

References:
    Lorensen and Cline, Marching cubes, SIGGRAPH 1987 (the shapes and the rule of the complement).
    Nikolov et al., JMIR 2021, arXiv:1809.04430 (areas as weights of surface distances).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, ...]


@lru_cache(maxsize=64)
def element_areas(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Area of the surface in a cell for each neighbour code.

    Args:
        spacing: mm per axis, two or three axes.

    Returns:
        ``[256]`` in mm² (3d) or ``[16]`` in mm (2d: length of the contour), read-only. Bit b of a code is set where
        the b-th corner in the order of :func:`corners` is inside.
    """
    order = corners(len(spacing))
    areas = np.zeros(2 ** len(order))
    for code in range(len(areas)):
        inside = [corner for bit, corner in enumerate(order) if code >> bit & 1]
        if len(inside) * 2 > len(order):
            inside = [corner for corner in order if corner not in inside]
        areas[code] = sum(_wrapped(part, spacing) for part in _joined(inside))
    areas.setflags(write=False)
    return areas


def corners(ndim: int) -> tuple[Corner, ...]:
    """Corners of a cell in the order of the bits of a code, last axis fastest."""
    return tuple(itertools.product((0, 1), repeat=ndim))


def _differing(one: Corner, other: Corner) -> list[int]:
    return [axis for axis in range(len(one)) if one[axis] != other[axis]]


def _joined(inside: Iterable[Corner]) -> list[list[Corner]]:
    """Groups of corners that cell edges connect."""
    groups: list[list[Corner]] = []
    for corner in inside:
        near = [group for group in groups if any(len(_differing(corner, member)) == 1 for member in group)]
        groups = [group for group in groups if group not in near]
        groups.append([corner, *(member for group in near for member in group)])
    return groups


def _wrapped(group: list[Corner], spacing: tuple[float, ...]) -> float:
    """Area of the surface around one group, see the table above; in 2d the length of the contour."""
    edges = [pair for pair in itertools.combinations(group, 2) if len(_differing(*pair)) == 1]
    axes = [_differing(*pair)[0] for pair in edges]
    if len(spacing) == 2:
        return math.hypot(*spacing) / 2 if len(group) == 1 else spacing[axes[0]]
    face = [spacing[1] * spacing[2], spacing[0] * spacing[2], spacing[0] * spacing[1]]
    norm = math.hypot(*face)
    unused = [face[axis] for axis in range(3) if axis not in axes]
    if len(group) == 1:
        return norm / 8
    if len(group) == 2:
        return math.hypot(*unused) / 2
    if len(group) == 3:
        return unused[0] / 2 + 3 * norm / 8
    if len(edges) == 4:
        return unused[0]
    ends = [pair for pair in edges if any(sum(corner in other for other in edges) == 1 for corner in pair)]
    if len(ends) == 3:  # a star: each edge ends in a corner of its own
        return 3 * norm / 4
    middle = face[next(axis for axis, pair in zip(axes, edges, strict=True) if pair not in ends)]
    return norm / 2 + sum(math.hypot(face[_differing(*pair)[0]], middle) for pair in ends) / 4
