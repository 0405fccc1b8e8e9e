"""One case of the brain phantom: settings, anatomy, the four images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.phantom import fields
from nnunetv2_mmkd.phantom.brain import MIN_SIZE, draw_brain
from nnunetv2_mmkd.phantom.brain_tissues import BRATS_VALUES, CONCENTRATION, MODALITIES, SEQUENCES, T1W, TISSUES, Label
from nnunetv2_mmkd.phantom.fields import Array, Shape
from nnunetv2_mmkd.phantom.physics import enhanced_t1

FIELD_OF_VIEW = 192.0
"""Of the longest axis, mm, when no spacing is given."""

_POINT_SPREAD = 0.5  # voxels
_LEVEL = 400.0  # mean intensity in the brain, before the scatter between images
_ANATOMY, _IMAGE = 0, 1  # first word of the random streams' keys


@dataclass(frozen=True)
class PhantomConfig:
    """Settings of a phantom data set.

    Attributes:
        size: voxels per axis, one number or three; at least 16. The anatomy fills the field of view at any size.
        spacing: edge of a voxel, mm; None for a field of view of 192 mm along the longest axis.
        exchangeable: every modality has the contrast of the ``enhancing`` one; noise, bias and scale stay independent.
        enhancing: the modality (name or alias) in which enhancing tumour lights up. Anything but ``"t1ce"`` moves the
            tell-tale contrast: that modality's signal in enhancing tumour is raised by the factor that the contrast
            agent has in T1ce, and T1ce looks like T1. A test fixture, not physics.
        noise: standard deviation of the noise in each of the two receiver channels, relative to the mean brain signal.
        bias: strength of the bias field, ``1 ± bias``.
        scale_spread: standard deviation of the logarithm of an image's intensity scale.
        texture: standard deviation of the logarithm of T1 and T2 within a tissue (smooth in space; not in fluid).
        seed: of the whole data set. A case depends on the seed and its index only, not on the number of cases.
    """

    size: int | tuple[int, int, int] = 64
    spacing: float | None = None
    exchangeable: bool = False
    enhancing: str = "t1ce"
    noise: float = 0.04
    bias: float = 0.2
    scale_spread: float = 0.2
    texture: float = 0.07
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = tuple(self.size) if isinstance(self.size, tuple | list) else (self.size,) * 3
        if len(sizes) != 3 or not all(isinstance(length, Integral) and length >= MIN_SIZE for length in sizes):
            raise InputError(f"phantom size must be one or three whole numbers of at least {MIN_SIZE}, not {self.size}")
        object.__setattr__(self, "size", tuple(int(length) for length in sizes))
        object.__setattr__(self, "enhancing", modality_name(self.enhancing))
        if self.spacing is not None and not (math.isfinite(self.spacing) and self.spacing > 0):
            raise InputError(f"phantom spacing must be a positive number of millimetres, not {self.spacing}")
        for name, limit in {"noise": 1.0, "bias": 1.0, "scale_spread": 1.0, "texture": 0.5}.items():
            if not 0 <= getattr(self, name) < limit:
                raise InputError(f"phantom {name} must lie in [0, {limit:g}), not {getattr(self, name)}")
        if not isinstance(self.seed, Integral) or self.seed < 0:
            raise InputError(f"phantom seed must be a whole number, not negative, not {self.seed}")

    @property
    def shape(self) -> Shape:
        """Voxels per axis."""
        return self.size  # type: ignore[return-value]

    @property
    def voxel(self) -> float:
        """Edge of a voxel, mm."""
        return FIELD_OF_VIEW / max(self.shape) if self.spacing is None else float(self.spacing)

    @property
    def affine(self) -> Array:
        """Voxel indices -> scanner millimetres (RAS), oriented like BraTS: indices run left, back, up."""
        affine = np.diag([-self.voxel, -self.voxel, self.voxel, 1.0])
        affine[1, 3] = (self.shape[1] - 1) * self.voxel
        return affine


@dataclass(frozen=True, eq=False)
class PhantomCase:
    """A case.

    Attributes:
        name: ``Brats18_PHANTOM_001_1`` for index 0.
        images: int16 per modality (t1, t1ce, t2, flair); 0 outside the brain and at least 1 within.
        seg: uint8, BraTS 2018 labels 0, 1 (necrotic and non-enhancing core), 2 (edema), 4 (enhancing tumour).
        affine: voxel indices to millimetres, ``[4, 4]``.
        tissue: uint8, values of :class:`~nnunetv2_mmkd.phantom.brain_tissues.Label`.
    """

    name: str
    images: Mapping[str, NDArray[np.int16]]
    seg: NDArray[np.uint8]
    affine: Array
    tissue: NDArray[np.uint8]


def modality_name(name: str) -> str:
    """The phantom's name of a modality given by name or alias.

    Raises:
        InputError: not a modality of the phantom.
    """
    from nnunetv2_mmkd.modalities import canonical  # here: it needs torch, which the workers do without

    if not isinstance(name, str) or canonical(name) not in MODALITIES:
        raise InputError(f"unknown modality {name!r}: the brain phantom has {', '.join(MODALITIES)}")
    return canonical(name)


def case_name(index: int) -> str:
    """Name of the case with an index from 0, in the manner of BraTS 2018."""
    return f"Brats18_PHANTOM_{index + 1:03d}_1"


def make_case(config: PhantomConfig, index: int) -> PhantomCase:
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
    signals = _signals(config, tissue, rng)
    images = {}
    for number, (modality, signal) in enumerate(signals.items()):
        images[modality] = _scan(config, signal, tissue, np.random.default_rng([config.seed, index, _IMAGE, number]))
    values = np.zeros(len(Label), dtype=np.uint8)
    for label, value in BRATS_VALUES.items():
        values[label] = value
    return PhantomCase(case_name(index), images, values[tissue], config.affine, tissue)


def _signals(config: PhantomConfig, tissue: NDArray[np.uint8], rng: np.random.Generator) -> dict[str, Array]:
    """Signed signal per modality, without what the scanner adds."""
    t1, t2, pd = (_lookup(tissue, name) for name in ("t1", "t2", "pd"))
    solid = tissue > Label.CSF
    for times in (t1, t2):
        times *= np.where(solid, np.exp(config.texture * fields.smooth_field(config.shape, 14, rng)), 1.0)
    spread = np.exp(2 * config.texture * fields.smooth_field(config.shape, 10, rng))
    concentration = np.where(tissue == Label.ENHANCING, CONCENTRATION * spread, 0.0)
    rise = T1W.signal(enhanced_t1(t1, concentration), t2, pd) / np.where(solid, T1W.signal(t1, t2, pd), 1.0)
    rise = np.where(tissue == Label.ENHANCING, rise, 1.0)  # signal with over without contrast agent, T1-weighted
    signals = {}
    for modality in MODALITIES:
        shown = config.enhancing if config.exchangeable else modality
        signal = SEQUENCES[shown].signal(t1, t2, pd)
        signals[modality] = np.where(tissue > 0, signal * rise if shown == config.enhancing else signal, 0.0)
    return signals


def _lookup(tissue: NDArray[np.uint8], parameter: str) -> Array:
    """Map of a tissue parameter; 1 in the background, where it is not used."""
    table = np.ones(len(Label))
    for label, properties in TISSUES.items():
        table[label] = getattr(properties, parameter)
    return table[tissue]


def _scan(
    config: PhantomConfig, signal: Array, tissue: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.int16]:
    """What the scanner and skull stripping make of a signal: point spread, bias, noise, scale, background 0."""
    brain = tissue > 0
    signal = fields.blur_inside(signal, brain, _POINT_SPREAD)
    level = np.abs(signal[brain]).mean()
    signal = signal / level * fields.bias_field(config.shape, config.bias, rng)
    image = fields.rician(signal, config.noise, rng) * _LEVEL * np.exp(config.scale_spread * rng.standard_normal())
    return np.where(brain, np.clip(np.rint(image), 1, np.iinfo(np.int16).max), 0).astype(np.int16)
