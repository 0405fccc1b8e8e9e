"""Which slices of a case are shown, and how they lie in one image."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_mmkd.evaluation.figures.planes import Plane
from nnunetv2_mmkd.evaluation.page.layout import LONGEST_SIDE, layout_of, shown_slices

AXIAL = Plane(axis=2, transposed=True, flip=(True, False), aspect=1.0, name="axial")


@pytest.mark.parametrize(
    ("labels", "content", "most"),
    [
        ([0] * 30 + [1, 5, 9, 4, 1] + [0] * 30, [1] * 65, 10),
        ([0] * 3 + [2] * 50 + [9] + [2] * 46, [1] * 100, 12),
        ([1] * 99 + [2], [1] * 100, 6),
        ([0] * 100, [0] * 10 + [1] * 80 + [0] * 10, 7),
    ],
)
def test_the_largest_slice_is_always_shown(labels: list[int], content: list[int], most: int) -> None:
    chosen = shown_slices(labels, content, most)
    assert 3 <= len(chosen) <= most and list(chosen) == sorted(set(chosen))
    assert not any(labels) or int(np.argmax(labels)) in chosen
    assert all(content[index] for index in chosen)


def test_slices_lie_in_one_image_as_radiologists_see_them() -> None:
    """Row 0 is anterior; where x grows to the patient's left, the patient's left is at the right."""
    values = np.zeros((6, 5, 4), np.int16)
    for index in range(4):
        values[5, 4, index] = 10 + index  # at the greatest x and y
        values[0, 0, index] = 20 + index
    layout = layout_of(AXIAL, values != 0, values != 0, 4)
    page = layout.spread(values)
    assert layout.slices == (0, 1, 2, 3) and layout.across == 2 and page.shape == (2 * 5, 2 * 6)
    for number, index in enumerate(layout.slices):
        tile = page[number // 2 * 5 :, number % 2 * 6 :][:5, :6]
        assert tile[0, 5] == 10 + index and tile[4, 0] == 20 + index


def test_large_slices_are_made_smaller() -> None:
    content = np.ones((800, 600, 2), bool)
    layout = layout_of(AXIAL, content, content, 2)
    assert layout.size == (LONGEST_SIDE, 240) and layout.image_size == (2 * LONGEST_SIDE, 240)
