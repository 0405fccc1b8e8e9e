"""Anatomy of the brain phantom: a tissue map from smooth random shapes.

Coordinates are relative to the field of view (-1 to 1 along each axis, x to the patient's left, y to the back, z to
the head, as BraTS stores its arrays), so that heads look alike at every resolution; the tumour of a seed is another
one at another resolution, though.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.phantom.brain_tissues import BrainLabel
from nnunetv2_mmkd.phantom.fields import Array, Shape, smooth_field

BRAIN_MIN_SIZE = 16
"""Voxels per axis below which a tumour with all its parts does not fit."""

SEMI_AXES = (0.72, 0.88, 0.76)
"""Of the brain, relative to half the field of view (of 192 mm: a brain of 138 x 169 x 146 mm)."""

_TUMOUR = (BrainLabel.EDEMA, BrainLabel.CORE, BrainLabel.ENHANCING)
_MIN_VOXELS = 4
_ATTEMPTS = 50

Mask = NDArray[np.bool_]


def draw_brain(shape: Shape, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a head with a tumour.

    Args:
        shape: voxels per axis, at least :data:`BRAIN_MIN_SIZE` each.
        rng: random generator.

    Returns:
        Tissue map, values of :class:`~.brain_tissues.BrainLabel`; every tissue but the cavity occurs.

    Raises:
        InputError: an axis is shorter than :data:`BRAIN_MIN_SIZE`.
    """
    if min(shape) < BRAIN_MIN_SIZE:
        raise InputError(f"a brain phantom of {shape} voxels is too small: at least {BRAIN_MIN_SIZE} along each axis")
    position = _warped_coordinates(shape, rng)
    radius = np.sqrt(sum((axis / length) ** 2 for axis, length in zip(position, SEMI_AXES, strict=True)))
    healthy = _healthy(shape, position, radius, rng)
    for _ in range(_ATTEMPTS):  # a tumour too small for all of its parts is drawn again
        tissue = _with_tumour(healthy, position, radius, rng)
        counts = np.bincount(tissue.ravel(), minlength=len(BrainLabel))
        if all(counts[label] >= _MIN_VOXELS for label in _TUMOUR):
            return tissue
    raise InputError(f"no tumour with all its parts fits a brain phantom of {shape} voxels: use a larger size")


def hollow(tissue: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A tissue map whose tumour's innermost third of the non-enhancing core is a cavity (one voxel at least)."""
    core = np.flatnonzero(tissue == BrainLabel.CORE)
    depth = ndimage.distance_transform_edt(tissue == BrainLabel.CORE).ravel()[core]
    inner = core[np.argsort(-depth, kind="stable")[: max(1, len(core) // 3)]]
    hollowed = tissue.copy()
    hollowed.ravel()[inner] = BrainLabel.CAVITY
    return hollowed


def _warped_coordinates(shape: Shape, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Coordinates of a head: each axis bent by a smooth random displacement."""
    axes = [(np.arange(length) + 0.5) / length * 2 - 1 for length in shape]
    x, y, z = (grid + 0.03 * smooth_field(shape, 3, rng) for grid in np.meshgrid(*axes, indexing="ij"))
    return x, y, z


def _ellipsoid(position: tuple[Array, Array, Array], centre: tuple[float, float, float], axes: tuple[Any, ...]) -> Mask:
    """Inside of an ellipsoid."""
    result: Mask = sum(((p - c) / a) ** 2 for p, c, a in zip(position, centre, axes, strict=True)) < 1
    return result


def _healthy(
    shape: Shape, position: tuple[Array, Array, Array], radius: Array, rng: np.random.Generator
) -> NDArray[Any]:
    """Tissue map without tumour: white matter, folded cortex, deep grey matter, ventricles and outer fluid."""
    x, y, z = position
    voxel = 2.0 / min(shape)
    side = np.abs(x)  # both hemispheres from one description
    brain = radius < 1
    folds = smooth_field(shape, min(11, min(shape) / 4), rng)
    depth = 0.70 + 0.07 * smooth_field(shape, 5, rng)
    fluid = radius > 1 - np.maximum(0.03, voxel)
    fluid |= (np.abs(folds) < 0.13) & (radius > depth)  # sulci
    fluid |= (side < max(0.018, 0.4 * voxel)) & (radius > 0.62) & (z > -0.3)  # between the hemispheres
    outside = ndimage.distance_transform_edt(~(fluid | ~brain), sampling=[2.0 / n for n in shape])
    grey = outside < max(0.06, 1.05 * voxel)  # the cortex follows outer surface and sulci

    size = rng.uniform(0.85, 1.3)
    bend = side - 0.10 - 0.30 * y**2  # the horns of the lateral ventricles spread
    ventricles = (bend / (0.065 * size)) ** 2 + (y / 0.42) ** 2 + ((z - 0.10) / (0.15 * size)) ** 2 < 1
    ventricles |= _ellipsoid((side, y, z), (0.0, 0.08, -0.10), (max(0.03, voxel), 0.17, 0.15))  # third ventricle
    grey |= _ellipsoid((side, y, z), (0.14, 0.14, -0.06), (0.10, 0.17, 0.14))  # thalamus
    grey |= _ellipsoid((side, y, z), (0.31, -0.08, -0.02), (0.07, 0.21, 0.15))  # putamen
    grey |= _ellipsoid((side, y, z), (0.19, -0.26, 0.08), (0.05, 0.14, 0.13))  # head of the caudate

    tissue = np.full(shape, BrainLabel.WHITE, dtype=np.uint8)
    tissue[grey] = BrainLabel.GREY
    tissue[fluid | ventricles] = BrainLabel.CSF
    tissue[~brain] = BrainLabel.BACKGROUND
    return tissue


def _with_tumour(
    healthy: NDArray[Any], position: tuple[Array, Array, Array], radius: Array, rng: np.random.Generator
) -> NDArray[Any]:
    """Copy of a tissue map with one tumour, or a tumour and a satellite: edema around core and enhancing parts.

    The enhancing part lies outwards of the core but its rim is uneven and broken, and its share differs from case to
    case: where it is cannot be read off the outline of the tumour alone.
    """
    shape = healthy.shape
    spots = np.flatnonzero((healthy == BrainLabel.WHITE) & (radius > 0.3) & (radius < 0.65))
    spot = rng.choice(spots) if len(spots) else int(np.argmin(np.abs(radius - 0.5)))
    centre = np.array([axis.flat[spot] for axis in position])
    core_radius = rng.uniform(0.20, 0.30)
    nodules = [(centre, core_radius)]
    if rng.random() < 0.4:
        direction = rng.standard_normal(3)
        reach = core_radius * rng.uniform(1.3, 1.9)
        nodules.append((centre + reach * direction / np.linalg.norm(direction), core_radius * rng.uniform(0.45, 0.65)))
    distance = np.min(
        [np.sqrt(sum((p - c) ** 2 for p, c in zip(position, mid, strict=True))) / size for mid, size in nodules], axis=0
    )
    core_level = distance / np.clip(1 + 0.22 * smooth_field(shape, 8, rng), 0.5, 1.6)
    edema_level = distance / np.clip(rng.uniform(1.4, 1.9) * (1 + 0.22 * smooth_field(shape, 6, rng)), 0.6, 3.0)
    rim_level = core_level + 0.4 * smooth_field(shape, 7, rng)
    share = rng.uniform(0.4, 0.7)  # of the core in core and enhancing tumour together

    within = (radius < 0.96) & (healthy != BrainLabel.BACKGROUND)
    tumour = (core_level < 1) & within
    # Edema follows white matter.
    spared = (healthy == BrainLabel.CSF) | ((healthy == BrainLabel.GREY) & (edema_level > 0.75))
    edema = (edema_level < 1) & within & ~spared
    tissue = healthy.copy()
    tissue[edema] = BrainLabel.EDEMA
    if tumour.any():
        inner = tumour & (rim_level < np.quantile(rim_level[tumour], share))
        tissue[tumour] = BrainLabel.ENHANCING
        tissue[inner] = BrainLabel.CORE
    return tissue
