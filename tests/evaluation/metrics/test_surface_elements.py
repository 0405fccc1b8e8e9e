"""Area of the surface in a cell: closed forms, explicit triangles, cuboids, an independent marching cubes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnunetv2_mmkd.evaluation.metrics.elements import corners, element_areas
from nnunetv2_mmkd.evaluation.metrics.surface import surface_elements

SPACING = (0.5, 2.0, 3.0)

# inside corners, and triangles between middles of cell edges (in half cells), written down by hand
SHAPES = {
    "one": ("111", ["122 212 221"]),
    "edge": ("111 110", ["120 122 210", "122 212 210"]),
    "three": ("111 110 101", ["122 120 102", "120 210 201", "120 201 102"]),
    "face": ("111 110 101 100", ["100 120 122", "100 122 102"]),
    "star": ("111 011 101 110", ["021 012 102", "021 102 201", "021 201 210", "021 210 120"]),
    "chain": ("100 110 111 011", ["100 212 021", "100 201 212", "212 012 021", "021 120 100"]),
    "chain, the other triangle": ("100 110 111 011", ["201 012 120", "201 212 012", "012 021 120", "120 100 201"]),
}


def _code(inside: str) -> int:
    order = corners(len(inside.split()[0]))
    return sum(1 << order.index(tuple(int(digit) for digit in corner)) for corner in inside.split())


def _triangles_area(triangles: list[str], spacing: tuple[float, ...]) -> float:
    area = 0.0
    for triangle in triangles:
        a, b, c = (np.array([int(digit) for digit in point]) / 2 * spacing for point in triangle.split())
        area += float(np.linalg.norm(np.cross(b - a, c - a))) / 2
    return area


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_against_triangles_written_by_hand(shape: str, spacing: tuple[float, ...]) -> None:
    inside, triangles = SHAPES[shape]
    assert element_areas(spacing)[_code(inside)] == pytest.approx(_triangles_area(triangles, spacing))


def test_closed_forms_at_one_millimetre() -> None:
    areas = element_areas((1.0, 1.0, 1.0))
    values = {name: areas[_code(inside)] for name, (inside, _) in SHAPES.items()}
    assert values == pytest.approx(
        {
            "one": math.sqrt(3) / 8,
            "edge": math.sqrt(2) / 2,
            "three": 0.5 + 3 * math.sqrt(3) / 8,
            "face": 1.0,
            "star": 3 * math.sqrt(3) / 4,
            "chain": math.sqrt(3) / 2 + math.sqrt(2) / 2,
            "chain, the other triangle": math.sqrt(3) / 2 + math.sqrt(2) / 2,
        }
    )


def test_separate_corners_add_up_and_the_complement_is_the_same_surface() -> None:
    areas = element_areas(SPACING)
    assert areas[_code("000 111")] == pytest.approx(2 * areas[_code("111")])
    assert areas[_code("000 001 110")] == pytest.approx(areas[_code("000 001")] + areas[_code("110")])
    assert areas == pytest.approx(areas[::-1])
    assert areas[0] == 0
    assert not areas.flags.writeable


def test_against_marching_cubes_of_scikit_image() -> None:
    """Equal for every cell with at most four corners inside; above that scikit-image does not take the complement."""
    measure = pytest.importorskip("skimage.measure")
    areas = element_areas(SPACING)
    compared = 0
    for code in range(1, 255):
        inside = [corner for bit, corner in enumerate(corners(3)) if code >> bit & 1]
        if len(inside) > 4:
            continue
        cell = np.zeros((2, 2, 2))
        cell[tuple(zip(*inside, strict=True))] = 1
        vertices, faces, _, _ = measure.marching_cubes(cell, 0.5, spacing=SPACING, method="lorensen")
        assert measure.mesh_surface_area(vertices, faces) == pytest.approx(areas[code], rel=1e-6), inside
        compared += 1
    assert compared == 8 + 28 + 56 + 70


def test_surface_of_a_cuboid() -> None:
    """Faces, edges and corners of n0 x n1 x n2 voxels: rectangles, half diagonals, corner triangles."""
    size, spacing = (4, 5, 7), SPACING
    elements = surface_elements(np.ones(size, dtype=bool), spacing)
    face = (6.0, 1.5, 1.0)  # of a voxel, perpendicular to axes 0, 1, 2
    flat = 2 * (4 * 6 * face[0] + 3 * 6 * face[1] + 3 * 4 * face[2])
    edges = 4 * (3 * math.hypot(1.5, 1.0) + 4 * math.hypot(6.0, 1.0) + 6 * math.hypot(6.0, 1.5)) / 2
    assert elements.on.shape == (5, 6, 8)
    assert len(elements.area) == 2 * (24 + 18 + 12) + 4 * (3 + 4 + 6) + 8
    assert elements.area.sum() == pytest.approx(flat + edges + math.hypot(*face))
    assert np.isclose(elements.area, face[0]).sum() == 2 * 24  # a plane face: the area of a voxel face per element


def test_contours_in_2d() -> None:
    lengths = element_areas((0.5, 2.0))
    diagonal = math.hypot(0.5, 2.0) / 2
    assert lengths[_code("00")] == pytest.approx(diagonal)
    assert lengths[_code("00 10")] == 0.5  # a pair along axis 0: the contour runs along axis 0
    assert lengths[_code("00 01")] == 2.0
    assert lengths[_code("00 11")] == pytest.approx(2 * diagonal)
    assert lengths[_code("00 01 10")] == pytest.approx(diagonal)
    rectangle = surface_elements(np.ones((3, 4), dtype=bool), (0.5, 2.0))
    assert rectangle.area.sum() == pytest.approx(2 * 2 * 0.5 + 2 * 3 * 2.0 + 4 * diagonal)
