"""Which slices of a case are shown, which part of them, and how they lie in one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunetv2_mmkd.evaluation.figures.planes import Plane, window

LONGEST_SIDE = 320
"""Pixels of a slice; larger ones are made smaller."""

_WIDEST = 8192  # pixels; WebP ends at 16383, and browsers of telephones before that


@dataclass(frozen=True)
class Layout:
    """Slices side by side, row after row, in one image.

    Attributes:
        plane: how to slice.
        slices: their positions along the axis of the file.
        window: rows and columns of a slice that are shown.
        shape: rows and columns of that part.
        size: columns and rows of a slice in the image.
        across: slices side by side.
    """

    plane: Plane
    slices: tuple[int, ...]
    window: tuple[slice, slice]
    shape: tuple[int, int]
    size: tuple[int, int]
    across: int

    @property
    def image_size(self) -> tuple[int, int]:
        """Columns and rows of the whole image."""
        return self.across * self.size[0], -(-len(self.slices) // self.across) * self.size[1]

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """The slices of an array, in one."""
        rows, columns = self.shape
        page = np.zeros((rows * -(-len(self.slices) // self.across), columns * self.across), values.dtype)
        for number, index in enumerate(self.slices):
            row, column = divmod(number, self.across)
            page[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns] = self.plane.slice(
                values, index
            )[self.window]
        return page


def layout_of(plane: Plane, content: NDArray[np.bool_], labels: NDArray[np.bool_], most: int) -> Layout:
    """How to show a case.

    Args:
        plane: how to slice.
        content: where there is anything to see.
        labels: where there is any label; all of it is within the window.
        most: slices.
    """
    content = content | labels
    slices = shown_slices(plane.areas(labels), plane.areas(content), most)
    axis = plane.axis
    page = plane.slice(content if axis is None else np.logical_or.reduce(content, axis=axis, keepdims=True), 0)
    part = window(page)
    shape = page[part].shape
    shrink = max(1.0, max(shape) / LONGEST_SIDE)
    size = (max(1, round(shape[1] / shrink)), max(1, round(shape[0] / shrink)))
    across = max(1, min(int(np.ceil(np.sqrt(len(slices)))), _WIDEST // size[0]))
    return Layout(plane, slices, part, (shape[0], shape[1]), size, across)


def shown_slices(
    labels: Sequence[int] | NDArray[Any], content: Sequence[int] | NDArray[Any], most: int
) -> tuple[int, ...]:
    """Which slices are shown: always the one with the largest labels, evenly more where labels are, some elsewhere.

    >>> shown_slices([0, 0, 3, 5, 4, 0, 0], [1, 1, 1, 1, 1, 1, 0], 10)
    (0, 1, 2, 3, 4, 5)
    >>> shown_slices([0] * 20 + [1, 2, 3, 2, 1] + [0] * 20, [1] * 45, 8)
    (7, 20, 21, 22, 23, 24, 26, 40)

    Args:
        labels: labelled voxels in each slice.
        content: voxels with anything to see in each slice.
        most: slices, at least 1.
    """
    labels, content = np.asarray(labels), np.asarray(content)
    if not content.any():
        return (len(content) // 2,)
    first, last = np.flatnonzero(content)[[0, -1]]
    candidates = range(int(first), int(last) + 1)
    if len(candidates) <= most:
        return tuple(candidates)
    key = int(labels.argmax()) if labels.any() else (candidates[0] + candidates[-1]) // 2
    inside = [index for index in candidates if labels[index]]
    chosen = _every(inside, key, max(1, round(most * 0.75))) if inside else []
    rest = [index for index in candidates if not labels[index]]
    chosen += _every(rest, key, most - len(chosen)) if most > len(chosen) else []
    return tuple(sorted(chosen))


def _every(indices: list[int], key: int, most: int) -> list[int]:
    """At most so many of some slices, evenly; the key one, if it is among them."""
    step = max(1, -(-len(indices) // most))
    start = indices.index(key) % step if key in indices else step // 2
    return indices[start::step]
