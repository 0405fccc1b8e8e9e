"""Lesions of a mask: connected components, merged by dilation, joined by what they touch."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from nnunetv2_mmkd.evaluation.metrics.masks import Mask

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Lesions:
    """Numbered lesions.

    Attributes:
        labels: number of the lesion in each voxel, 0 outside, from 1 without gaps.
        reach: the same for the dilated lesions (equal to ``labels`` if they were not dilated).
    """

    labels: Labels
    reach: Labels

    @property
    def count(self) -> int:
        """Number of lesions."""
        return int(self.labels.max(initial=0))


def components(mask: Mask) -> Labels:
    """Connected components over 26 neighbours, numbered in C order of their first voxels."""
    if not mask.any():
        return np.zeros(mask.shape, dtype=np.int32)
    return cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26).astype(np.int32)


def dilated(mask: Mask, steps: int = 1) -> Mask:
    """A 3d mask grown by its 18 neighbours (shared face or edge), ``steps`` times, inside the image.

    One step is the union of three squares, one per plane of axes, and a square is a line along one axis, then along
    the other. That is many times quicker than a general dilation.
    """
    for _ in range(steps):
        first, second = _thicker(mask, 0), _thicker(mask, 1)
        mask = _thicker(first, 1) | _thicker(first, 2) | _thicker(second, 2)
    return mask


def _thicker(mask: Mask, axis: int) -> Mask:
    """Grown by one voxel to both sides along an axis."""
    result = mask.copy()
    here, source = result.swapaxes(0, axis), mask.swapaxes(0, axis)
    here[1:] |= source[:-1]
    here[:-1] |= source[1:]
    return result


def merged(mask: Mask, dilation: int) -> Lesions:
    """Lesions of a 3d mask: components whose dilations (18 neighbours, ``dilation`` steps) are connected are one.

    The dilation of a lesion is then one component of the dilated mask, so ``reach`` needs no dilation per lesion.
    """
    if not mask.any():
        return Lesions(components(mask), components(mask))
    reach = components(dilated(mask, dilation))
    return Lesions(np.where(mask, reach, 0), reach)


def separate(mask: Mask) -> Lesions:
    """Lesions of a 3d mask: its components, neither dilated nor merged."""
    labels = components(mask)
    return Lesions(labels, labels)


def without_small(lesions: Lesions, max_voxels: float) -> Lesions:
    """Without lesions of at most ``max_voxels`` voxels."""
    keep = np.bincount(lesions.labels.ravel()) > max_voxels
    keep[0] = False
    return _renumbered(lesions, np.where(keep, np.arange(len(keep)), 0))


def joined(lesions: Lesions, others: Lesions) -> Lesions:
    """Lesions that touch the same lesion of another region are one.

    A lesion that touches several takes the first of them (lowest number), as the official script does; so two lesions
    with a common neighbour stay apart if one of them has a neighbour that comes earlier. Touching: 18 neighbours.
    """
    first = np.arange(lesions.count + 1)
    for number, box in enumerate(find_objects(lesions.labels), start=1):
        around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        near = others.labels[around][dilated(lesions.labels[around] == number)]
        if near.any():
            first[number] = lesions.count + near[near > 0].min()
    return _renumbered(lesions, first)


def _renumbered(lesions: Lesions, number: NDArray[np.integer]) -> Lesions:
    """Lesion i becomes ``number[i]`` (0 removes it), gaps closed."""
    remaining = np.unique(number[number > 0])
    table = np.where(number > 0, np.searchsorted(remaining, number) + 1, 0).astype(np.int32)
    return Lesions(table[lesions.labels], table[lesions.reach])
