"""Where the voxels of an image are, and how images of one case get onto one grid.

Headers are believed. Two images are on one grid if one is the other with axes permuted or flipped (it is reoriented,
which loses nothing) or if they differ by less than :data:`ROUNDING`. Anything else is refused: nothing here resamples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from nnunetv2_mmkd.errors import InputError, first_few

ROUNDING = 0.1
"""Largest displacement of a corner voxel, in voxels, that is taken for rounding of the header."""

SAME = 1e-3
"""The same, up to which two grids count as the same."""

REMEDY = "resample it to that grid, or register it if its header is wrong (`mmkd align` does so for images)"

UPRIGHT = 30.0
"""Largest angle, in degrees, between the axes of a grid and those of the body, up to which its orientation is beyond
doubt; an oblique stack, as of the heart, has one orientation or another by chance."""

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a file are.

    Attributes:
        path: the file.
        shape: voxels per axis ``[x, y, z]``, in the order of the file.
        affine: voxel -> mm right, anterior, superior, ``[4, 4]``.
    """

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray

    @property
    def orientation(self) -> str:
        """Where the axes point to, e.g. LPS: to the left, posterior, superior."""
        return "".join(nib.orientations.aff2axcodes(self.affine))

    @property
    def upright(self) -> bool:
        """Whether the axes are about those of the body (:data:`UPRIGHT`), so that the orientation means something."""
        along = np.abs(self.affine[:3, :3]).max(axis=0) / np.linalg.norm(self.affine[:3, :3], axis=0)
        return bool(along.min() > np.cos(np.radians(UPRIGHT)))

    @property
    def spacing(self) -> tuple[float, ...]:
        """mm per axis."""
        return tuple(nib.affines.voxel_sizes(self.affine).tolist())


@dataclass(frozen=True, eq=False)
class Alignment:
    """How an image gets onto a grid.

    Attributes:
        axes: nibabel's orientation, ``[3, 2]``: axis of the grid and direction, for each axis of the image.
        displacement: largest displacement of a corner voxel that remains, in voxels.
    """

    axes: np.ndarray
    displacement: float

    @classmethod
    def none(cls) -> Alignment:
        """Of an image that is on the grid."""
        return cls(np.array([[0, 1], [1, 1], [2, 1]]), 0.0)

    @classmethod
    def turning(cls, start: str, end: str) -> Alignment:
        """From one orientation to another, e.g. RAS to LPS."""
        ornt = nib.orientations
        return cls(ornt.ornt_transform(ornt.axcodes2ornt(tuple(start)), ornt.axcodes2ornt(tuple(end))), 0.0)

    @property
    def reoriented(self) -> bool:
        """Whether axes are permuted or flipped."""
        return not np.array_equal(self.axes, Alignment.none().axes)

    @property
    def same(self) -> bool:
        """Whether the image is on the very grid as it is."""
        return not self.reoriented and self.displacement <= SAME

    def sizes(self, spacing: Sequence[float]) -> list[float]:
        """Voxel sizes ``[x, y, z]`` of the image in the order of the grid."""
        return [spacing[axis] for axis in np.argsort(self.axes[:, 0])]

    def apply(self, voxels: np.ndarray) -> np.ndarray:
        """The voxels ``[x, y, z]`` of the image, or more axes, in the order of the grid; values are not touched."""
        result: np.ndarray = nib.orientations.apply_orientation(voxels, self.axes) if self.reoriented else voxels
        return result

    def apply_reversed(self, voxels: np.ndarray) -> np.ndarray:
        """As :meth:`apply`, for arrays ``[..., z, y, x]``, the order of SimpleITK and nnU-Net."""
        return self.apply(voxels.T).T if self.reoriented else voxels


def itk_grid(
    path: Path, size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]
) -> Grid:
    """The grid of an image from what SimpleITK says of it; two dimensions count as one slice.

    Raises:
        InputError: it has more than three.
    """
    if len(size) > 3:
        raise InputError(f"{path}: {len(size)} dimensions {tuple(size)}; expected a 3-D image: give one file per image")
    flat = len(size)
    affine = np.eye(4)
    affine[:flat, :flat] = np.reshape(direction, (flat, flat)) @ np.diag(spacing)
    affine[:flat, 3] = origin
    return Grid(path, (*map(int, size), *[1] * (3 - flat)), _LPS @ affine)


def itk_geometry(affine: np.ndarray) -> tuple[list[float], list[float], list[float]]:
    """Spacing, origin and direction, as SimpleITK has them, of an affine; rounding of the direction is taken out."""
    lps = _LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    left, _, right = np.linalg.svd(lps[:3, :3] / spacing)
    return spacing.tolist(), lps[:3, 3].tolist(), (left @ right).ravel().tolist()


def displacement(affine: np.ndarray, grid: Grid) -> float:
    """How far the corner voxels of a grid lie from where another affine of the same shape says, in voxels."""
    corners = np.array([[*corner, 1] for corner in product(*[(0, length - 1) for length in grid.shape])]).T
    moved = np.linalg.solve(grid.affine, affine @ corners) - corners
    return float(np.linalg.norm(moved[:3], axis=0).max())


def align(image: Grid, reference: Grid, case: str = "") -> Alignment:
    """How an image gets onto the grid of another one.

    Args:
        image: of the image.
        reference: that it is to be on.
        case: how messages begin, e.g. ``"case x: "``.

    Raises:
        InputError: they are not on one grid; the message says what was found and what was expected.
    """
    axes = nib.orientations.io_orientation(np.linalg.solve(reference.affine, image.affine))
    order = np.argsort(axes[:, 0]).astype(int)
    shape = tuple(image.shape[axis] for axis in order)
    name = reference.path.name
    if shape != reference.shape:
        raise _refused(image, case, f"has shape {image.shape}, but {name} has {reference.shape}")
    affine = image.affine @ nib.orientations.inv_ornt_aff(axes, image.shape)
    moved = displacement(affine, reference)
    if moved < ROUNDING:
        return Alignment(axes, moved)
    sizes, expected = np.asarray(image.spacing)[order], np.asarray(reference.spacing)
    if (np.abs(sizes / expected - 1) * np.maximum(np.asarray(shape) - 1, 1)).max() >= ROUNDING:
        raise _refused(image, case, f"has voxel size {_mm(sizes)} mm, but {name} has {_mm(expected)} mm")
    first, other = affine[:3, 3], reference.affine[:3, 3]
    how = f"its first voxel is at {_mm(first)} mm, expected {_mm(other)} mm"
    if np.allclose(first, other, rtol=0, atol=ROUNDING * expected.min()):
        how = "its axes are rotated"
    raise _refused(image, case, f"lies up to {moved:.3g} voxels away from the grid of {name}: {how}")


def coverage(image: Grid, reference: Grid) -> float:
    """Share of a grid, 0 to 1, that lies within another image, from the headers (of 16 points along each axis)."""
    axes = [np.linspace(0, length - 1, min(length, 16)) for length in reference.shape]
    points = np.stack([each.ravel() for each in np.meshgrid(*axes, indexing="ij")])
    there = np.linalg.solve(image.affine, reference.affine @ np.vstack([points, np.ones(points.shape[1])]))[:3].T
    inside = (there >= -0.5) & (there <= np.asarray(image.shape) - 0.5)
    return float(inside.all(axis=1).mean())


def reference_of(grids: Sequence[Grid]) -> int:
    """Which image the others of a case are brought onto: the first whose grid most of them have."""

    def shared(grid: Grid) -> int:
        return sum(other.shape == grid.shape and displacement(other.affine, grid) < ROUNDING for other in grids)

    counts = [shared(grid) for grid in grids]
    return counts.index(max(counts))


def note(image: Grid, reference: Grid, alignment: Alignment, case: str = "") -> str | None:
    """What to say about an image that was changed to get onto a grid; None: it was on it."""
    name, of = image.path.name, reference.path.name
    if alignment.reoriented:
        return (
            f"{case}{name} is stored as {image.orientation}, {of} as {reference.orientation}; it is reoriented to "
            f"{reference.orientation}, no value is changed"
        )
    if alignment.displacement > SAME:
        return (
            f"{case}origin or direction of {name} differs from that of {of} by up to {alignment.displacement:.2g} "
            f"voxels, which is taken for rounding; the geometry of {of} is used"
        )
    return None


def orientation_of(grids: Iterable[Grid]) -> str | None:
    """The orientation that all grids have beyond doubt, e.g. LPS; None if there are several, or oblique ones."""
    found: set[str | None] = {grid.orientation if grid.upright and min(grid.shape) > 1 else None for grid in grids}
    return found.pop() if len(found) == 1 else None


def other_orientations(orientations: Mapping[str, str]) -> list[str]:
    """What to say where cases are stored in different orientations: nnU-Net takes their axes as they are.

    Args:
        orientations: case -> how it is stored, e.g. LPS.
    """
    counts = Counter(orientations.values()).most_common()
    return [
        f"{count} case{'s are' if count > 1 else ' is'} stored as {orientation} "
        f"({first_few((case for case, other in orientations.items() if other == orientation), 3)}), most as "
        f"{counts[0][0]}: each keeps its own, and nnU-Net does not reorient"
        for orientation, count in counts[1:]
    ]


def _refused(image: Grid, case: str, what: str) -> InputError:
    return InputError(f"{case}{image.path} {what}; all images and the label of a case must be on one grid: {REMEDY}")


def _mm(values: Any) -> str:
    return str(np.round(np.asarray(values, dtype=float), 4).tolist())
