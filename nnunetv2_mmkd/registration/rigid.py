"""Rigid registration of two images of one head: Mattes' mutual information, from coarse to fine, by SimpleITK.

A transform maps points of the fixed image to points of the moving one, in mm left, posterior, superior, as SimpleITK
has it. Everything runs on one thread with a fixed seed: the same images give the same transform, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

SEED = 1234
BINS = 40
_SAMPLES = 40_000  # voxels that the metric looks at, at most, on each level
_MARGIN = 8.0  # mm around the head that the metric looks at, too
_NEAR = 2.0  # mm; centres that are nearer give the same start
_LEAST = 4  # voxels along an axis that can be smoothed


@dataclass(frozen=True)
class Level:
    """One level of the pyramid.

    Attributes:
        spacing: of the isotropic grid that the metric is taken on, mm; the images are smoothed by half of it.
        step: first step of the line searches, mm.
    """

    spacing: float
    step: float


COARSE = Level(6.0, 4.0)
FINE = (Level(3.0, 1.0), Level(1.5, 0.5))


def register(fixed: sitk.Image, moving: sitk.Image, levels: Sequence[Level] = FINE) -> sitk.Euler3DTransform:
    """The rigid motion that brings a moving image onto a fixed one.

    The search begins where the headers say, and with the heads' centres on one another; the better one goes on.

    Args:
        fixed: 3-D, float.
        moving: 3-D, float.
        levels: after the coarse one.

    Returns:
        point of the fixed image -> point of the moving one; its centre is that of the fixed head.
    """
    with one_thread():
        fixed, moving = windowed(fixed), windowed(moving)
        centre = head_centre(fixed)
        found = []
        shifts = [np.zeros(3), np.subtract(head_centre(moving), centre)]
        for shift in shifts if np.linalg.norm(shifts[1]) > _NEAR else shifts[:1]:
            start = sitk.Euler3DTransform()
            start.SetCenter(centre)
            start.SetTranslation(shift.tolist())
            found.append(_optimise(fixed, moving, start, COARSE))
        best, _ = min(found, key=lambda each: each[1])
        finest = min(*fixed.GetSpacing(), *moving.GetSpacing())
        for level in levels:
            if level.spacing > 0.7 * finest:  # below it there is nothing more to see
                best, _ = _optimise(fixed, moving, best, level)
    return best


@contextmanager
def one_thread() -> Iterator[None]:
    """SimpleITK on one thread: sums over several depend on their number and order."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def windowed(image: sitk.Image) -> sitk.Image:
    """An image from 0 (its least value) to 1 (its brightest half per cent)."""
    voxels = sitk.GetArrayFromImage(image)
    low = float(voxels.min())
    inside = voxels[voxels > low]
    high = float(np.quantile(inside, 0.995)) if inside.size else low + 1
    values = sitk.Cast(image, sitk.sitkFloat32)
    result: sitk.Image = sitk.IntensityWindowing(values, low, max(high, low + 1e-6), 0.0, 1.0)
    return result


def head(image: sitk.Image) -> sitk.Image:
    """Mask (uint8) of what is no air: above Otsu's threshold of the smoothed image, dark holes and all."""
    mask: sitk.Image = sitk.OtsuThreshold(sitk.SmoothingRecursiveGaussian(image, 2.0), 0, 1, 128)
    return mask


def head_centre(image: sitk.Image) -> tuple[float, ...]:
    """Centre of the head, in mm."""
    z, y, x = (float(index.mean()) for index in np.nonzero(sitk.GetArrayFromImage(head(image))))
    point: tuple[float, ...] = image.TransformContinuousIndexToPhysicalPoint((x, y, z))
    return point


def isotropic(image: sitk.Image, spacing: float) -> sitk.Image:
    """An image on an isotropic grid of its own orientation, smoothed to it."""
    sizes = image.GetSpacing()
    shape = [max(1, round(length * size / spacing)) for length, size in zip(image.GetSize(), sizes, strict=True)]
    first = image.TransformContinuousIndexToPhysicalPoint([(spacing / size - 1) / 2 for size in sizes])
    smooth = smoothed(image, spacing)
    return sitk.Resample(
        smooth, shape, sitk.Transform(), sitk.sitkLinear, first, [spacing] * 3, image.GetDirection(), 0.0
    )


def smoothed(image: sitk.Image, spacing: float) -> sitk.Image:
    """An image smoothed to a spacing along the axes that are finer."""
    for axis, size in enumerate(image.GetSpacing()):
        if size < spacing and image.GetSize()[axis] >= _LEAST:
            image = sitk.RecursiveGaussian(image, spacing / 2, False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis)
    return image


def _optimise(
    fixed: sitk.Image, moving: sitk.Image, start: sitk.Euler3DTransform, level: Level
) -> tuple[sitk.Euler3DTransform, float]:
    """The motion that maximises mutual information on one level, and the metric there (the lower, the better).

    Where nothing of the images overlaps, the start itself, and infinity.
    """
    coarse = isotropic(fixed, level.spacing)
    mask = sitk.BinaryDilate(head(coarse), [max(1, round(_MARGIN / level.spacing))] * 3)
    inside = int(sitk.GetArrayFromImage(mask).sum())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(mask)
    if inside > _SAMPLES:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(_SAMPLES / inside, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    # Powell's line searches: gradient descent ended early in the narrow valleys between rotation and translation
    method.SetOptimizerAsPowell(20, 50, level.step, 0.01, 1e-5)
    method.SetOptimizerScalesFromPhysicalShift()
    found = sitk.Euler3DTransform(start)
    method.SetInitialTransform(found, inPlace=True)
    try:
        method.Execute(coarse, smoothed(moving, level.spacing))
    except RuntimeError:  # nothing overlaps
        return start, float("inf")
    return found, float(method.GetMetricValue())
