"""One case of the heart phantom: settings, and the three images."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from nnunetv2_mmkd.editions.myops import MYOPS2020
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.phantom import fields
from nnunetv2_mmkd.phantom.case import PhantomCase, labels_on_disk
from nnunetv2_mmkd.phantom.fields import Array
from nnunetv2_mmkd.phantom.heart import HEART_MIN_SIZE, draw_heart
from nnunetv2_mmkd.phantom.heart_tissues import (
    HEART_CONCENTRATION,
    HEART_SEQUENCES,
    HEART_TISSUES,
    HEART_VALUES,
    LEFT_IN_T2,
    HeartLabel,
)
from nnunetv2_mmkd.phantom.physics import enhanced_t1

HEART_FIELD_OF_VIEW = 160.0
"""Of a slice, mm, when no spacing is given."""

SLICES = (2, 6)
"""Fewest and most slices of a case; as in MyoPS 2020."""

DISTANCE = (12.0, 23.0)
"""Smallest and largest distance of slices, mm; as in MyoPS 2020."""

_BLUR = (0.5, 0.5, 0.0)  # slices are far apart
_ANATOMY, _IMAGE = 0, 1  # first word of the random streams' keys
_TURN = np.deg2rad((-35.0, 25.0))  # a short axis lies oblique in the scanner


@dataclass(frozen=True)
class HeartConfig(fields.ScannerConfig):
    """Settings of a data set of heart phantoms, besides the scanner's.

    Attributes:
        size: voxels along the edges of a slice, at least 32. The anatomy fills the field of view at any size.
        spacing: edge of a voxel within a slice, mm; None for a field of view of 160 mm.
        slices: number of slices; None: drawn for each case, 2 to 6.
    """

    size: int = 96
    spacing: float | None = None
    slices: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.size, Integral) or not HEART_MIN_SIZE <= self.size <= fields.LARGEST_SIZE:
            raise InputError(
                f"heart phantom size: a whole number from {HEART_MIN_SIZE} to {fields.LARGEST_SIZE}, not {self.size}"
            )
        if self.slices is not None and (not isinstance(self.slices, Integral) or self.slices < 1):
            raise InputError(f"the number of slices must be a positive whole number, not {self.slices}")
        fields.check_spacing(self.spacing)
        super().__post_init__()

    @property
    def voxel(self) -> float:
        """Edge of a voxel within a slice, mm."""
        return HEART_FIELD_OF_VIEW / self.size if self.spacing is None else float(self.spacing)


def make_heart_case(config: HeartConfig, index: int) -> PhantomCase:
    """Make one case; the same settings and index give the same case, bit for bit.

    Args:
        config: settings.
        index: number of the case, from 0.

    Returns:
        a case with the images bssfp, lge, t2 and the labels of MyoPS 2020 (0, 200, 500, 600, 1220, 2221; int16).

    Raises:
        InputError: a negative index.
    """
    if index < 0:
        raise InputError(f"phantom cases are numbered from 0, not {index}")
    rng = np.random.default_rng([config.seed, index, _ANATOMY])
    slices = int(rng.integers(SLICES[0], SLICES[1] + 1))
    distance = round(float(rng.uniform(*DISTANCE)), 1)
    shape = (config.size, config.size, config.slices or slices)
    tissue = draw_heart(shape, rng)
    inside = np.ones(shape, dtype=bool)
    images = {}
    for number, (modality, signal) in enumerate(_signals(config, tissue, rng).items()):
        scanner = np.random.default_rng([config.seed, index, _IMAGE, number])
        images[modality] = fields.acquire(signal, inside, config, scanner, _BLUR)
    labels = labels_on_disk(tissue, HEART_VALUES, MYOPS2020)
    return PhantomCase(f"myops_training_{101 + index}", images, labels, _affine(config.voxel, distance), tissue)


def _signals(config: HeartConfig, tissue: NDArray[np.uint8], rng: np.random.Generator) -> dict[str, Array]:
    """Signed signal per modality, without what the scanner adds."""
    table = np.array(
        [[HEART_TISSUES[label].t1, HEART_TISSUES[label].t2, HEART_TISSUES[label].pd] for label in HeartLabel],
        dtype=float,
    )
    t1, t2, pd = (table[tissue, column] for column in range(3))
    blood = (tissue == HeartLabel.LEFT_BLOOD) | (tissue == HeartLabel.RIGHT_BLOOD)
    for times in (t1, t2):
        times *= np.where(blood, 1.0, np.exp(config.texture * fields.smooth_field(tissue.shape, 14, rng)))
    agent = np.array([HEART_CONCENTRATION.get(label, 0.0) for label in HeartLabel])[tissue]
    prepared = np.array([LEFT_IN_T2.get(label, 1.0) for label in HeartLabel])[tissue]
    return {
        "bssfp": HEART_SEQUENCES["bssfp"].signal(t1, t2, pd),
        "lge": HEART_SEQUENCES["lge"].signal(enhanced_t1(t1, agent), t2, pd),
        "t2": HEART_SEQUENCES["t2"].signal(t1, t2, pd) * prepared,
    }


def _affine(voxel: float, distance: float) -> Array:
    """Voxel indices -> scanner millimetres (RAS): an oblique short-axis stack."""
    (sin_z, sin_x), (cos_z, cos_x) = np.sin(_TURN), np.cos(_TURN)
    about_z = np.array([[cos_z, -sin_z, 0], [sin_z, cos_z, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cos_x, -sin_x], [0, sin_x, cos_x]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag([-voxel, -voxel, distance])
    return affine
