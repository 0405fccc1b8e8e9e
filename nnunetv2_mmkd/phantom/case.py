"""One case of the brain phantom: settings, anatomy, the four images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunetv2_mmkd.editions.brats import BRATS2018
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.names import canonical
from nnunetv2_mmkd.phantom import fields
from nnunetv2_mmkd.phantom.brain import BRAIN_MIN_SIZE, draw_brain, hollow
from nnunetv2_mmkd.phantom.brain_tissues import (
    BRAIN_CONCENTRATION,
    BRAIN_MODALITIES,
    BRAIN_SEQUENCES,
    BRAIN_TISSUES,
    BRAIN_VALUES,
    T1W,
    BrainLabel,
)
from nnunetv2_mmkd.phantom.fields import Array, Shape
from nnunetv2_mmkd.phantom.physics import enhanced_t1

BRAIN_FIELD_OF_VIEW = 192.0
"""Of the longest axis, mm, when no spacing is given."""

_ANATOMY, _IMAGE = 0, 1  # first word of the random streams' keys


@dataclass(frozen=True)
class PhantomConfig(fields.ScannerConfig):
    """Settings of a data set of brain phantoms, besides the scanner's.

    Attributes:
        size: voxels per axis, one number or three; at least 16. The anatomy fills the field of view at any size.
        spacing: edge of a voxel, mm; None for a field of view of 192 mm along the longest axis.
        exchangeable: every modality has the contrast of the ``enhancing`` one; noise, bias and scale stay independent.
        enhancing: the modality (name or alias) in which enhancing tumour lights up. Anything but ``"t1ce"`` moves the
            tell-tale contrast: that modality's signal in enhancing tumour is raised by the factor that the contrast
            agent has in T1ce, and T1ce looks like T1. A test fixture, not physics.
        cavity: the tumour has a resection cavity or cyst inside.
        grid: voxels per axis that the finished images are padded to with background, or None.
    """

    size: int | tuple[int, int, int] = 64
    spacing: float | None = None
    exchangeable: bool = False
    enhancing: str = "t1ce"
    cavity: bool = False
    grid: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        sizes = tuple(self.size) if isinstance(self.size, tuple | list) else (self.size,) * 3
        if len(sizes) != 3 or not all(
            isinstance(length, Integral) and BRAIN_MIN_SIZE <= length <= fields.LARGEST_SIZE for length in sizes
        ):
            raise InputError(
                f"phantom size: one or three whole numbers from {BRAIN_MIN_SIZE} to {fields.LARGEST_SIZE}, not "
                f"{self.size}"
            )
        object.__setattr__(self, "size", tuple(int(length) for length in sizes))
        object.__setattr__(self, "enhancing", modality_name(self.enhancing))
        fields.check_spacing(self.spacing)
        if self.grid is not None and any(large < small for large, small in zip(self.grid, sizes, strict=True)):
            raise InputError(f"a phantom of {sizes} voxels does not fit into a grid of {self.grid}: use a smaller size")
        super().__post_init__()

    @property
    def shape(self) -> Shape:
        """Voxels per axis."""
        return self.size  # type: ignore[return-value]

    @property
    def voxel(self) -> float:
        """Edge of a voxel, mm."""
        return BRAIN_FIELD_OF_VIEW / max(self.shape) if self.spacing is None else float(self.spacing)

    @property
    def affine(self) -> Array:
        """Voxel indices -> scanner millimetres (RAS), oriented like BraTS: indices run left, back, up."""
        affine = np.diag([-self.voxel, -self.voxel, self.voxel, 1.0])
        affine[1, 3] = ((self.grid or self.shape)[1] - 1) * self.voxel
        return affine


@dataclass(frozen=True, eq=False)
class PhantomCase:
    """A case, of the brain phantom (:func:`make_brain_case`) or another.

    Attributes:
        name: ``Brats18_PHANTOM_001_1`` for index 0.
        images: int16 per modality (t1, t1ce, t2, flair); 0 outside the brain and at least 1 within.
        seg: BraTS 2018 labels 0, 1 (necrotic and non-enhancing core), 2 (edema), 4 (enhancing tumour), uint8.
        affine: voxel indices to millimetres, ``[4, 4]``.
        tissue: uint8, values of :class:`~nnunetv2_mmkd.phantom.brain_tissues.BrainLabel`.
    """

    name: str
    images: Mapping[str, NDArray[np.int16]]
    seg: NDArray[np.integer]
    affine: Array
    tissue: NDArray[np.uint8]


def modality_name(name: str) -> str:
    """The phantom's name of a modality given by name or alias.

    Raises:
        InputError: not a modality of the phantom.
    """
    if not isinstance(name, str) or canonical(name) not in BRAIN_MODALITIES:
        raise InputError(f"unknown modality {name!r}: the brain phantom has {choices(name, BRAIN_MODALITIES)}")
    return canonical(name)


def case_name(index: int) -> str:
    """Name of the case with an index from 0, in the manner of BraTS 2018."""
    return f"Brats18_PHANTOM_{index + 1:03d}_1"


def make_brain_case(config: PhantomConfig, index: int) -> PhantomCase:
    """Make one case; the same settings and index give the same case, bit for bit.

    Args:
        config: settings.
        index: number of the case, from 0.

    Raises:
        InputError: a negative index.
    """
    if index < 0:
        raise InputError(f"phantom cases are numbered from 0, not {index}")
    rng = np.random.default_rng([config.seed, index, _ANATOMY])
    tissue = draw_brain(config.shape, rng)
    if config.cavity:
        tissue = hollow(tissue)
    signals = _signals(config, tissue, rng)
    images = {}
    for number, (modality, signal) in enumerate(signals.items()):
        scanner = np.random.default_rng([config.seed, index, _IMAGE, number])
        image = fields.acquire(signal, tissue > 0, config, scanner)
        images[modality] = _padded(image, config.grid)
    tissue = _padded(tissue, config.grid)
    labels = labels_on_disk(tissue, BRAIN_VALUES, BRATS2018)
    return PhantomCase(case_name(index), images, labels, config.affine, tissue)


def labels_on_disk(tissue: NDArray[np.uint8], values: Mapping[Any, int], spec: EditionSpec) -> NDArray[np.integer]:
    """A tissue map as an edition's label file.

    Args:
        tissue: values of :class:`~.brain_tissues.BrainLabel` or :class:`~.heart_tissues.HeartLabel`.
        values: tissue -> nnU-Net's label; others are background, as are labels that the edition lacks.
        spec: the edition.
    """
    on_disk = spec.to_edition()
    dtype = np.uint8 if max(on_disk.values()) <= np.iinfo(np.uint8).max else np.int16
    table: NDArray[np.integer] = np.zeros(int(tissue.max()) + 1, dtype=dtype)
    for each in np.unique(tissue).tolist():
        table[each] = on_disk.get(values.get(each, 0), 0)
    return table[tissue]


def _padded(volume: NDArray[Any], grid: Shape | None) -> NDArray[Any]:
    """A volume in the middle of a larger grid of zeros."""
    before = [(large - small) // 2 for large, small in zip(grid or volume.shape, volume.shape, strict=True)]
    padded = np.zeros(grid or volume.shape, volume.dtype)
    padded[tuple(slice(start, start + length) for start, length in zip(before, volume.shape, strict=True))] = volume
    return padded


def _signals(config: PhantomConfig, tissue: NDArray[np.uint8], rng: np.random.Generator) -> dict[str, Array]:
    """Signed signal per modality, without what the scanner adds."""
    t1, t2, pd = (_lookup(tissue, name) for name in ("t1", "t2", "pd"))
    solid = (tissue > BrainLabel.CSF) & (tissue != BrainLabel.CAVITY)
    for times in (t1, t2):
        times *= np.where(solid, np.exp(config.texture * fields.smooth_field(config.shape, 14, rng)), 1.0)
    spread = np.exp(2 * config.texture * fields.smooth_field(config.shape, 10, rng))
    concentration = np.where(tissue == BrainLabel.ENHANCING, BRAIN_CONCENTRATION * spread, 0.0)
    rise = T1W.signal(enhanced_t1(t1, concentration), t2, pd) / np.where(solid, T1W.signal(t1, t2, pd), 1.0)
    rise = np.where(tissue == BrainLabel.ENHANCING, rise, 1.0)  # signal with over without contrast agent, T1-weighted
    signals = {}
    for modality in BRAIN_MODALITIES:
        shown = config.enhancing if config.exchangeable else modality
        signal = BRAIN_SEQUENCES[shown].signal(t1, t2, pd)
        signals[modality] = np.where(tissue > 0, signal * rise if shown == config.enhancing else signal, 0.0)
    return signals


def _lookup(tissue: NDArray[np.uint8], parameter: str) -> Array:
    """Map of a tissue parameter; 1 in the background, where it is not used."""
    table = np.ones(len(BrainLabel))
    for label, properties in BRAIN_TISSUES.items():
        table[label] = getattr(properties, parameter)
    return table[tissue]
