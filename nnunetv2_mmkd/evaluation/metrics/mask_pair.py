"""A pair of masks, and what several metrics of it share, computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnunetv2_mmkd.evaluation.metrics.empty import EmptyPolicy, empty_policy
from nnunetv2_mmkd.evaluation.metrics.masks import bounding_box, checked_pair, checked_spacing
from nnunetv2_mmkd.evaluation.metrics.surface import Surface, border_voxels, distances, surface_elements

DirectedDistances = tuple[NDArray[np.float64], NDArray[np.float64]]
"""From the prediction's surface to the target's, and the other way, in mm."""


class MaskPair:
    """A prediction and its target, 2d or 3d.

    Surfaces are computed when a metric first asks for them, on the box around both masks. The metrics, and the
    notation, are in :mod:`.overlap` and :mod:`.distance`.

    Args:
        prediction: mask, booleans or 0 and 1.
        target: mask of the same shape.
        spacing: mm per axis, in the order of the array's axes.
        empty: what a metric says where its formula is undefined, see :data:`.empty.EMPTY_POLICIES`.
        voxels: number of voxels of the image if the masks are crops of it (specificity counts the outside).

    Raises:
        InputError: masks or spacing are not what is expected, or the policy is unknown.
    """

    def __init__(
        self,
        prediction: ArrayLike,
        target: ArrayLike,
        spacing: Sequence[float],
        empty: str | EmptyPolicy = "legacy",
        voxels: int | None = None,
    ) -> None:
        predicted, true = checked_pair(prediction, target)
        self.spacing = checked_spacing(spacing, true.ndim)
        self.empty = empty_policy(empty)
        self.voxels = true.size if voxels is None else voxels
        box = bounding_box(predicted | true)
        self.prediction, self.target = predicted[box], true[box]
        self.true_positives = int(np.count_nonzero(self.prediction & self.target))
        self.n_prediction = int(np.count_nonzero(self.prediction))
        self.n_target = int(np.count_nonzero(self.target))

    @property
    def both_empty(self) -> bool:
        """Whether neither mask has a voxel."""
        return not self.n_prediction and not self.n_target

    @property
    def one_empty(self) -> bool:
        """Whether exactly one mask has no voxel."""
        return (not self.n_prediction) != (not self.n_target)

    def ratio(self, part: float, whole: float) -> float:
        """``part / whole``, or what the policy says of 0/0."""
        if whole:
            return part / whole
        return self.empty.both_ratio if self.both_empty else self.empty.one_ratio

    def distance(self, value: Callable[[], float]) -> float:
        """The value in mm, or what the policy says of empty masks."""
        if self.both_empty:
            return self.empty.both_distance
        return self.empty.one_distance if self.one_empty else value()

    def _directed(self, predicted: Surface, true: Surface) -> DirectedDistances:
        return distances(predicted, true, self.spacing), distances(true, predicted, self.spacing)

    @cached_property
    def border_distances(self) -> DirectedDistances:
        """Distances between border voxels."""
        return self._directed(border_voxels(self.prediction), border_voxels(self.target))

    @cached_property
    def elements(self) -> tuple[Surface, Surface]:
        """Surface elements of prediction and target, with their areas."""
        return surface_elements(self.prediction, self.spacing), surface_elements(self.target, self.spacing)

    @cached_property
    def element_distances(self) -> DirectedDistances:
        """Distances between surface elements."""
        return self._directed(*self.elements)
