"""Anatomy of the heart phantom: short-axis slices with rings of blood pool and myocardium, an infarct in the wall.

Coordinates are relative to the field of view (-1 to 1 within a slice, x to the patient's left, y to the back), so that
hearts look alike at every resolution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.phantom.fields import Array, Shape, smooth_field
from nnunetv2_mmkd.phantom.heart_tissues import HEART_VALUES, HeartLabel

HEART_MIN_SIZE = 32
"""Voxels along the edges of a slice below which the wall of the heart is lost."""

CAVITY, WALL = 0.28, 0.15
"""Radius of the left blood pool and thickness of its wall at the base, relative to half the field of view."""

_MIN_VOXELS = 4
_ATTEMPTS = 50


def draw_heart(shape: Shape, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the slices of a heart with an infarct, from the base to the apex.

    Args:
        shape: voxels per axis ``[x, y, slices]``; at least :data:`HEART_MIN_SIZE` within a slice.
        rng: random generator.

    Returns:
        Tissue map, values of :class:`~nnunetv2_mmkd.phantom.heart_tissues.HeartLabel`; every tissue occurs.

    Raises:
        InputError: the slices are too small, or there is none.
    """
    if min(shape[:2]) < HEART_MIN_SIZE or shape[2] < 1:
        raise InputError(f"a heart phantom of {shape} voxels is too small: at least {HEART_MIN_SIZE} along each edge")
    for _ in range(_ATTEMPTS):  # an infarct that is lost between voxels is drawn again
        tissue = _draw(shape, rng)
        counts = np.bincount(tissue.ravel(), minlength=len(HeartLabel))
        if all(counts[label] >= _MIN_VOXELS for label in HEART_VALUES):
            return tissue
    raise InputError(f"no heart with all its parts fits a phantom of {shape} voxels: use a larger size")


def _draw(shape: Shape, rng: np.random.Generator) -> NDArray[np.uint8]:
    axes = [(np.arange(length) + 0.5) / length * 2 - 1 for length in shape[:2]]
    level = np.linspace(0, 1, shape[2]) if shape[2] > 1 else np.array([0.5])  # 0 base, 1 apex
    x, y, z = np.meshgrid(*axes, level, indexing="ij")
    body_x, body_y = x, y
    x = x + 0.02 * smooth_field(shape, 3, rng) - rng.uniform(0.0, 0.15) - 0.05 * z
    y = y + 0.02 * smooth_field(shape, 3, rng) - rng.uniform(-0.1, 0.1)
    size = rng.uniform(0.9, 1.1) * (1 - 0.3 * z)
    radius, angle = np.hypot(x, y) / size, np.arctan2(y, x)
    outer = CAVITY + WALL * rng.uniform(0.85, 1.15)

    tissue = _body(body_x, body_y, shape, rng)
    right = np.hypot(x + 0.42 * size, (y + 0.05 * size) * 0.8) < 0.38 * size
    heart = np.minimum(radius - outer, np.hypot(x + 0.42 * size, y * 0.8) / size - 0.38)
    tissue[heart < 0.08] = HeartLabel.FAT  # around the heart
    tissue[right] = HeartLabel.RIGHT_BLOOD
    tissue[radius < outer + 0.03] = HeartLabel.MUSCLE  # keeps the right blood pool off the ring
    wall = radius < outer
    tissue[wall] = HeartLabel.MYOCARDIUM
    tissue[radius < CAVITY] = HeartLabel.LEFT_BLOOD

    depth = (radius - CAVITY) / (outer - CAVITY)  # 0 inside, 1 outside
    away = np.abs((angle - rng.uniform(-np.pi, np.pi) + np.pi) % (2 * np.pi) - np.pi)
    extent = 1 - 0.5 * np.abs(z - rng.uniform(0, 1))
    scar = np.deg2rad(rng.uniform(30, 50)) * extent
    edema = scar + np.deg2rad(rng.uniform(12, 25))
    ring = wall & (radius >= CAVITY)
    tissue[ring & (away < edema)] = HeartLabel.EDEMA
    reach = rng.uniform(0.6, 1.0) + 0.1 * smooth_field(shape, 8, rng)  # infarcts grow from the inside of the wall
    tissue[ring & (away < scar) & (depth < reach)] = HeartLabel.SCAR
    return tissue


def _body(x: Array, y: Array, shape: Shape, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Lungs, the chest wall in front, the liver beside the heart."""
    tissue = np.full(shape, HeartLabel.LUNG, dtype=np.uint8)
    edge = 0.05 * smooth_field(shape, 4, rng)
    tissue[(y > 0.62 + edge) & (x < 0.2)] = HeartLabel.MUSCLE
    tissue[y < -0.72 + edge] = HeartLabel.MUSCLE
    tissue[y < -0.88 + edge] = HeartLabel.FAT
    return tissue
