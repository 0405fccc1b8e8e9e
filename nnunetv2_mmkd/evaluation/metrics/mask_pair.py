"""All metrics of one pair of masks, computing what they share once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.empty import EmptyPolicy, empty_policy
from nnunetv2_mmkd.evaluation.metrics.masks import bounding_box, checked_pair, checked_spacing
from nnunetv2_mmkd.evaluation.metrics.surface import (
    Surface,
    area_percentile,
    border_voxels,
    distances,
    surface_elements,
)

Directed = tuple[NDArray[np.float64], NDArray[np.float64]]


class Comparison:
    r"""A prediction beside the truth, 2d or 3d.

    Notation: P prediction, G truth, TP = |P∩G|, FP = |P∖G|, FN = |G∖P|, TN the rest of the image.

    Ratios lie in 0..1, distances are in mm. Surfaces are computed when a metric first asks for them, on the box around
    both masks.

    Empty regions: each metric follows ``empty`` where its formula is undefined, and says what that means.

    Args:
        prediction: mask, booleans or 0 and 1.
        truth: mask of the same shape.
        spacing: mm per axis, in the order of the array's axes.
        empty: policy for empty regions, see :data:`.empty.EMPTY_POLICIES`.
        voxels: number of voxels of the image if the masks are crops of it (specificity counts the outside).

    Raises:
        InputError: masks or spacing are not what is expected, or the policy is unknown.
    """

    def __init__(
        self,
        prediction: ArrayLike,
        truth: ArrayLike,
        spacing: Sequence[float],
        empty: str | EmptyPolicy = "legacy",
        voxels: int | None = None,
    ) -> None:
        predicted, true = checked_pair(prediction, truth)
        self.spacing = checked_spacing(spacing, true.ndim)
        self.empty = empty_policy(empty)
        self.voxels = true.size if voxels is None else voxels
        box = bounding_box(predicted | true)
        self.prediction, self.truth = predicted[box], true[box]
        self.true_positives = int(np.count_nonzero(self.prediction & self.truth))
        self.n_prediction = int(np.count_nonzero(self.prediction))
        self.n_truth = int(np.count_nonzero(self.truth))

    @property
    def both_empty(self) -> bool:
        """Whether neither mask has a voxel."""
        return not self.n_prediction and not self.n_truth

    @property
    def one_empty(self) -> bool:
        """Whether exactly one mask has no voxel."""
        return (not self.n_prediction) != (not self.n_truth)

    def _ratio(self, part: float, whole: float) -> float:
        if whole:
            return part / whole
        return self.empty.both_ratio if self.both_empty else self.empty.one_ratio

    def dice(self) -> float:
        """Dice: 2TP / (2TP + FP + FN).

        Empty regions: both empty NaN (``nan``) or 1 (``legacy``); one empty 0.
        """
        return self._ratio(2 * self.true_positives, self.n_prediction + self.n_truth)

    def sensitivity(self) -> float:
        """Sensitivity (recall): TP / (TP + FN).

        Empty regions: both empty NaN or 1; only the truth empty NaN (``nan``: 0/0) or 0 (``legacy``, the challenges'
        TP / (TP + FN + tiny)); only the prediction empty 0.
        """
        return self._ratio(self.true_positives, self.n_truth)

    def specificity(self) -> float:
        """Specificity: TN / (TN + FP) over the whole image.

        Empty regions: the truth empty: the formula (1 if the prediction is empty too). A truth that fills the image:
        NaN or 0.
        """
        negatives = self.voxels - self.n_truth
        return self._ratio(negatives - (self.n_prediction - self.true_positives), negatives)

    def precision(self) -> float:
        """Precision (positive predictive value): TP / (TP + FP).

        Empty regions: both empty NaN or 1; only the prediction empty NaN (``nan``: 0/0) or 0 (``legacy``); only the
        truth empty 0.
        """
        return self._ratio(self.true_positives, self.n_prediction)

    def hausdorff(self) -> float:
        """Hausdorff distance in mm: the largest distance of a border voxel of one mask to the other's border.

        Empty regions: both empty NaN or 0; one empty infinity or 373.1287 (``legacy``).
        """
        return self._distance(lambda: max(float(values.max()) for values in self._border_distances))

    def hd95(self) -> float:
        """HD95 in mm, pooled: 95th percentile (linear) of both directed sets of border distances put together.

        The definition of medpy, nnU-Net v1 and most papers on missing modalities.

        Empty regions: both empty NaN or 0; one empty infinity or 373.1287 (``legacy``).
        """
        return self._distance(lambda: float(np.percentile(np.concatenate(self._border_distances), 95)))

    def hd95_area(self) -> float:
        """HD95 in mm, weighted by area: the larger of the two directed 95th percentiles of the surface.

        The definition of DeepMind's surface-distance, which BraTS 2023 and 2024 use. Elements and areas: see
        :mod:`.elements`.

        Empty regions: both empty NaN or 0; one empty infinity or 373.1287 (``legacy``).

        Deviations:
            surface-distance gives infinity for two empty masks; here the policy decides.

        References:
            Nikolov et al., JMIR 2021, arXiv:1809.04430.
        """

        def larger() -> float:
            surfaces = (self._elements[0].area, self._elements[1].area)
            return max(area_percentile(d, a, 95) for d, a in zip(self._element_distances, surfaces, strict=True))

        return self._distance(larger)

    def nsd(self, tolerance: float = 1.0) -> float:
        r"""Normalised surface Dice: share of both surfaces that lies within ``tolerance`` mm of the other.

        .. math:: \frac{|S_P \cap B_G^\tau| + |S_G \cap B_P^\tau|}{|S_P| + |S_G|}

        DeepMind's definition (areas of surface elements), not that of nnU-Net v1, panoptica and BraTS 2025 (mean of two
        shares of border voxels): the two are not comparable.

        Empty regions: both empty NaN or 1; one empty 0.

        Raises:
            InputError: the tolerance is negative or not a number.
        """
        if not tolerance >= 0:
            raise InputError(f"tolerance {tolerance}: expected a distance in mm, 0 or more")
        if self.both_empty:
            return self.empty.both_ratio
        areas = [surface.area for surface in self._elements]
        near = sum(area[d <= tolerance].sum() for d, area in zip(self._element_distances, areas, strict=True))
        return float(near / sum(area.sum() for area in areas))

    def _distance(self, value: Callable[[], float]) -> float:
        if self.both_empty:
            return self.empty.both_distance
        return self.empty.one_distance if self.one_empty else value()

    def _directed(self, predicted: Surface, true: Surface) -> Directed:
        return distances(predicted, true, self.spacing), distances(true, predicted, self.spacing)

    @cached_property
    def _border_distances(self) -> Directed:
        return self._directed(border_voxels(self.prediction), border_voxels(self.truth))

    @cached_property
    def _elements(self) -> tuple[Surface, Surface]:
        return surface_elements(self.prediction, self.spacing), surface_elements(self.truth, self.spacing)

    @cached_property
    def _element_distances(self) -> Directed:
        return self._directed(*self._elements)
