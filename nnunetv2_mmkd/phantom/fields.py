"""Smooth random fields, and what a scanner adds to an image: bias field, Rician noise, arbitrary units.

Pure functions of arrays and a random generator, without anatomy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunetv2_mmkd.errors import InputError

Shape = tuple[int, int, int]
Array = NDArray[np.float64]

LEVEL = 400.0
"""Mean intensity inside, before the scatter between images."""


@dataclass(frozen=True)
class ScannerConfig:
    """Settings that all phantoms share.

    Attributes:
        noise: standard deviation of the noise in each of the two receiver channels, relative to the mean signal.
        bias: strength of the bias field, ``1 ± bias``.
        scale_spread: standard deviation of the logarithm of an image's intensity scale.
        texture: standard deviation of the logarithm of T1 and T2 within a tissue (smooth in space; not in fluid).
        seed: of the whole data set. A case depends on the seed and its index only, not on the number of cases.
    """

    noise: float = 0.04
    bias: float = 0.2
    scale_spread: float = 0.2
    texture: float = 0.07
    seed: int = 0

    def __post_init__(self) -> None:
        for name, limit in {"noise": 1.0, "bias": 1.0, "scale_spread": 1.0, "texture": 0.5}.items():
            if not 0 <= getattr(self, name) < limit:
                raise InputError(f"phantom {name} must lie in [0, {limit:g}), not {getattr(self, name)}")
        if not isinstance(self.seed, Integral) or self.seed < 0:
            raise InputError(f"phantom seed must be a whole number, not negative, not {self.seed}")


LARGEST_SIZE = 512
"""Voxels along an axis: a case of this size takes several gigabytes of memory."""


def check_spacing(spacing: float | None) -> None:
    """Check the edge of a voxel, mm, where one is given.

    Raises:
        InputError: it is not positive.
    """
    if spacing is not None and not (math.isfinite(spacing) and spacing > 0):
        raise InputError(f"phantom spacing must be a positive number of millimetres, not {spacing}")


def smooth_field(shape: Shape, cells: float, rng: np.random.Generator) -> Array:
    """Smooth random field, zero mean and unit standard deviation over the grid.

    Gaussian noise on a coarse grid over the field of view, interpolated with cubic splines. The draw depends on
    ``cells`` only, so that the same seed gives the same field at every resolution.

    Args:
        shape: voxels per axis.
        cells: coarse cells per axis, i.e. about how many independent bumps fit along the field of view.
        rng: random generator.
    """
    nodes = int(np.ceil(cells)) + 3  # one node beyond each border, for the spline
    coarse = rng.standard_normal((nodes, nodes, nodes))
    field = ndimage.spline_filter(coarse, order=3)
    for axis, length in enumerate(shape):  # separable: one axis after the other
        at = 1.0 + (np.arange(length) + 0.5) / length * cells
        field = _resample(field, at, axis)
    result: Array = (field - field.mean()) / field.std()
    return result


def _resample(coefficients: Array, at: Array, axis: int) -> Array:
    """Cubic B-spline values at positions ``at`` along one axis of an array of spline coefficients."""
    base = np.floor(at).astype(int)
    t = at - base
    weights = ((1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6)
    matrix = np.zeros((len(at), coefficients.shape[axis]))
    for offset, weight in enumerate(weights):
        node = np.clip(base + offset - 1, 0, coefficients.shape[axis] - 1)
        np.add.at(matrix, (np.arange(len(at)), node), weight)
    values: Array = np.asarray(np.tensordot(matrix, coefficients, axes=(1, axis)), dtype=np.float64)
    return np.moveaxis(values, 0, axis)


def bias_field(shape: Shape, strength: float, rng: np.random.Generator) -> Array:
    """Multiplicative receive-coil inhomogeneity, ``1 ± strength`` over the field of view.

    A strength of 0.2 is what BrainWeb calls 40 % intensity non-uniformity (Kwan et al., IEEE TMI 18 (1999) 1085).
    """
    field = smooth_field(shape, 2, rng)
    result: Array = 1.0 + strength * field / np.abs(field).max()
    return result


def rician(signal: Array, sigma: float, rng: np.random.Generator) -> Array:
    """Magnitude of a signed signal with complex Gaussian noise: ``sqrt((S + n1)^2 + n2^2)``, n of deviation sigma.

    Source: Gudbjartsson and Patz, MRM 34 (1995) 910. The noise is drawn also for ``sigma = 0``, so that the noise
    level does not change what is drawn afterwards.
    """
    real = signal + sigma * rng.standard_normal(signal.shape)
    return np.hypot(real, sigma * rng.standard_normal(signal.shape))


def acquire(
    signal: Array,
    inside: NDArray[np.bool_],
    scanner: ScannerConfig,
    rng: np.random.Generator,
    blur: float | tuple[float, float, float] = 0.5,
) -> NDArray[np.int16]:
    """What a scanner (and skull stripping) makes of a signal: point spread, bias, noise, scale, background 0.

    Args:
        signal: signed, of any unit.
        inside: voxels that are imaged; others become 0, these at least 1.
        scanner: settings.
        rng: random generator.
        blur: of the point spread, voxels; one number or one per axis.
    """
    signal = blur_inside(signal, inside, blur)
    level = np.abs(signal[inside]).mean()
    signal = signal / level * bias_field(signal.shape, scanner.bias, rng)
    image = rician(signal, scanner.noise, rng) * LEVEL * np.exp(scanner.scale_spread * rng.standard_normal())
    return np.where(inside, np.clip(np.rint(image), 1, np.iinfo(np.int16).max), 0).astype(np.int16)


def blur_inside(signal: Array, mask: NDArray[np.bool_], sigma: float | tuple[float, float, float]) -> Array:
    """Point-spread function: Gaussian blur (sigma in voxels) of the signal within a mask, nothing leaking across."""
    weight = ndimage.gaussian_filter(mask.astype(np.float64), sigma)
    blurred = ndimage.gaussian_filter(np.where(mask, signal, 0.0), sigma)
    return np.where(mask, blurred / np.maximum(weight, 1e-12), 0.0)
