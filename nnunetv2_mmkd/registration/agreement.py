"""Whether a sequence, brought onto the reference, shows the same head.

Contrasts differ, edges do not: where both images have an edge, their gradients are parallel or opposite (normalised
gradient fields, Haber and Modersitzki, MICCAI 2006). The measure is the mean squared cosine of the angle between the
gradients, weighted by both lengths, in the inside of the head; an outline alone fits any other head, too. It is divided
by what it is where the sequence does not belong, 8 mm away in six directions: 1 is chance, whatever contrast, noise and
slice thickness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from nnunetv2_mmkd.registration.rigid import head, isotropic, one_thread, windowed

LEAST_AGREEMENT = 1.2
"""On real cases 23 sequences of another patient reached 0.99 to 1.16, those of the same one 1.22 to 1.99, one 1.06."""
LEAST_OVERLAP = 0.3
"""Share of the reference's head that a sequence must cover; a slab of slices may be small."""

_SPACING = 2.0  # mm
_SMOOTH = 1.0  # voxels
_DEPTH = 6.0  # mm below the surface of the head
_AWAY = 8.0  # mm
_FEWEST = 500  # voxels that say something


@dataclass(frozen=True)
class Agreement:
    """How well a sequence fits the reference.

    Attributes:
        value: 1 is chance.
        overlap: share of the reference's head that the sequence covers.
    """

    value: float
    overlap: float

    def objection(self) -> str:
        """Why it is not taken for an image of the same head; empty: it is."""
        if self.overlap < LEAST_OVERLAP:
            return f"it covers {self.overlap:.0%} of the head, expected at least {LEAST_OVERLAP:.0%}"
        if self.value < LEAST_AGREEMENT:
            return (
                f"its edges follow those of the reference {self.value:.2f} times as well as by chance, expected at "
                f"least {LEAST_AGREEMENT}"
            )
        return ""


def agreement(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> Agreement:
    """How well a registered sequence fits the reference.

    Args:
        fixed: the reference, float.
        moving: the sequence, float.
        transform: point of the reference -> point of the sequence.
    """
    with one_thread():
        reference, other = isotropic(windowed(fixed), _SPACING), isotropic(windowed(moving), _SPACING)
        whole = ndimage.binary_fill_holes(sitk.GetArrayFromImage(head(reference)) > 0)
        inside = ndimage.binary_erosion(whole, iterations=round(_DEPTH / _SPACING))
        edges = _gradient(sitk.GetArrayFromImage(reference))
        here, overlap = _cosine(edges, _placed(other, reference, transform), inside)
        away = []
        for shift in (*(_AWAY * np.eye(3)), *(-_AWAY * np.eye(3))):
            moved = sitk.CompositeTransform([transform, sitk.TranslationTransform(3, shift.tolist())])
            away.append(_cosine(edges, _placed(other, reference, moved), inside)[0])
    chance = float(np.mean(away))
    return Agreement(here / chance if chance > 0 else 0.0, overlap)


def _placed(image: sitk.Image, grid: sitk.Image, transform: sitk.Transform) -> np.ndarray:
    """The image on a grid; -1 where it has no voxels."""
    voxels: np.ndarray = sitk.GetArrayFromImage(sitk.Resample(image, grid, transform, sitk.sitkLinear, -1.0))
    return voxels


def _gradient(voxels: np.ndarray) -> np.ndarray:
    """``[3, z, y, x]``."""
    return np.stack(np.gradient(ndimage.gaussian_filter(voxels, _SMOOTH)))


def _cosine(edges: np.ndarray, voxels: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Weighted mean of the squared cosine, and the share of the inside that the voxels cover."""
    covered = inside & (voxels >= 0)
    share = float(covered.sum() / max(1, inside.sum()))
    where = inside & ndimage.binary_erosion(voxels >= 0, iterations=3)
    if where.sum() < _FEWEST:
        return 0.0, share
    first, second = edges[:, where], _gradient(voxels)[:, where]
    product = np.linalg.norm(first, axis=0) * np.linalg.norm(second, axis=0)
    dot = (first * second).sum(axis=0)
    total = float(product.sum())
    return float((dot**2 / np.maximum(product, 1e-12)).sum()) / total if total > 0 else 0.0, share
