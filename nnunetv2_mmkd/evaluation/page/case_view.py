"""A case for the viewer of a page: slices of its images, masks of its segmentations, volumes, and what is not there.

What is not there is said in words and never painted: a black picture would pass for an image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.figures.overlay import REGION_COLOURS, SPELLED
from nnunetv2_mmkd.evaluation.figures.planes import SIDES, grey_range, plane_of_labels, read_picture
from nnunetv2_mmkd.evaluation.figures.style import shown
from nnunetv2_mmkd.evaluation.label_map import LabelMap, read_label_map
from nnunetv2_mmkd.evaluation.metrics.masks import region_masks
from nnunetv2_mmkd.evaluation.page.layout import Layout, layout_of
from nnunetv2_mmkd.evaluation.page.pictures import grey_image, mask_image, total_size
from nnunetv2_mmkd.images import is_nifti
from nnunetv2_mmkd.workers import in_processes

_Images = Mapping[str, NDArray[np.float32] | str]

PAGE_BYTES = 50_000_000
"""What a page may have, about: mail servers often refuse more."""

MOST_CASES = 100
"""Cases with images in a page; beyond, there would be too few slices of each."""

_CASE_BYTES = 1_500_000  # a case need not have more: all slices of a BraTS case
_OTHERS = 0.1  # of the page, for tables and figures
_GREY_BYTES, _MASK_BYTES = 0.085, 0.01  # in base64, a pixel, measured on BraTS
_FEWEST = 6  # slices

_CASES_PER_PROCESS = 4  # a process of its own is worth its start for so many

ALL_ZERO = "all zero"
"""Why an image without content is not shown."""

NOT_FOUND = "image not found"
"""Why an image that the case had is not shown."""


@dataclass(frozen=True)
class CaseFiles:
    """What of a case is at hand.

    Attributes:
        case: its name.
        images: modality -> file, or why there is none.
        predictions: name -> segmentation; the first one says where voxels are.
        truth: label map, if there is one.
        drawn: make images for the viewer; else only volumes.
        given: prediction -> the modalities it was made from; for the viewer to say which image it lacked.
        maps: name -> map in whole percents, shown as an image.
    """

    case: str
    images: Mapping[str, Path | str]
    predictions: Mapping[str, Path]
    truth: Path | None = None
    drawn: bool = True
    given: Mapping[str, Sequence[str]] = field(default_factory=dict)
    maps: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseView:
    """A case as a page shows it.

    Attributes:
        case: its name.
        volumes: name of the prediction, or ``""`` for the truth -> region -> millilitres (pixels of a flat image).
        unit: of the volumes: ``"ml"`` or ``"px"``.
        problems: what could not be shown, a sentence each.
        viewer: for the page's script; empty: no images.
    """

    case: str
    volumes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unit: str = "ml"
    problems: tuple[str, ...] = ()
    viewer: Mapping[str, Any] = field(default_factory=dict)


def case_bytes(cases: int) -> int:
    """What the images of a case may take where there are so many cases."""
    return int(min(_CASE_BYTES, PAGE_BYTES * (1 - _OTHERS) / max(1, cases)))


def view_case(files: CaseFiles, regions: Mapping[str, tuple[int, ...]], budget: int) -> CaseView:
    """Read a case and make what the page shows of it. What cannot be read is a problem, not an error.

    Args:
        files: of the case.
        regions: name -> label values.
        budget: bytes that its images may take.
    """
    problems: list[str] = []
    maps: dict[str, LabelMap] = {}
    sources = {**({"": files.truth} if files.truth else {}), **files.predictions}
    for name, file in sources.items():
        try:
            labels = read_label_map(file)
            maps[name] = labels.on_grid_of(next(iter(maps.values()))) if maps else labels
        except InputError as error:
            problems.append(f"{name or 'Truth'}: {_told(error, file)}")
    if not maps:
        return CaseView(files.case, problems=tuple(problems))
    masks = {name: region_masks(labels.values, regions) for name, labels in maps.items()}
    flat = next(iter(maps.values())).values.ndim == 2
    volumes = {
        name: {region: _volume(mask, maps[name].spacing, flat) for region, mask in of.items()}
        for name, of in masks.items()
    }
    view = CaseView(files.case, volumes, "px" if flat else "ml")
    if not files.drawn:
        return CaseView(files.case, volumes, view.unit, tuple(problems))
    reference = next(iter(maps.values()))
    images = _read_images(files.images, reference, problems)
    percents = _read_images(files.maps, reference, problems)
    viewer = _viewer(files, images, percents, masks, regions, reference, budget)
    return CaseView(files.case, volumes, view.unit, tuple(problems), viewer)


def view_cases(
    files: Sequence[CaseFiles], regions: Mapping[str, tuple[int, ...]], *, processes: int = 1, progress: bool = False
) -> list[CaseView]:
    """:func:`view_case` for many, in so many processes; the drawn ones share what a page may have.

    Raises:
        InputError: a process was killed.
    """
    run = partial(view_case, regions=dict(regions), budget=case_bytes(sum(each.drawn for each in files)))
    processes = max(1, min(processes, len(files) // _CASES_PER_PROCESS))
    views = in_processes(run, files, processes)
    made = {view.case: view for view in tqdm(views, "page", len(files), unit="case", disable=not progress)}
    return [made[each.case] for each in files]


def _volume(mask: NDArray[np.bool_], spacing: Sequence[float], flat: bool) -> float:
    """Millilitres; pixels of a flat image, whose spacing says nothing of its thickness."""
    count = int(np.count_nonzero(mask))
    return float(count) if flat else count * math.prod(spacing) / 1000


def _read_images(files: Mapping[str, Path | str], labels: LabelMap, problems: list[str]) -> _Images:
    """Modality -> its voxels on the grid of the segmentation, or why they are not shown."""
    images: dict[str, NDArray[np.float32] | str] = {}
    for name, file in files.items():
        if isinstance(file, str):
            images[name] = file
            continue
        try:
            picture = read_picture(file).on_grid(labels.grid)
            same_axes = is_nifti(file) == is_nifti(labels.path)
            voxels = (picture.voxels if same_axes else picture.voxels.T).reshape(labels.values.shape)
        except (InputError, ValueError) as error:
            images[name] = "cannot be shown" if file.exists() else NOT_FOUND
            problems.append(f"{shown(name)}: {_told(error, file)}")
            continue
        images[name] = voxels if voxels.any() else ALL_ZERO
    return images


def _told(error: Exception, file: Path) -> str:
    """What is wrong with a file, without the folders of this machine: pages are sent around."""
    text = str(error) if isinstance(error, InputError) else f"{file} has another shape than the segmentation"
    return text.replace(str(file), file.name)


def _viewer(
    files: CaseFiles,
    images: _Images,
    percents: _Images,
    masks: Mapping[str, Mapping[str, NDArray[np.bool_]]],
    regions: Mapping[str, tuple[int, ...]],
    reference: LabelMap,
    budget: int,
) -> dict[str, Any]:
    """All that the page's script needs, within the budget."""
    labelled = np.logical_or.reduce([mask for of in masks.values() for mask in of.values()])
    real = {name: each for name, each in {**images, **percents}.items() if not isinstance(each, str)}
    content = np.logical_or.reduce([labelled, *[real[name] != 0 for name in images if name in real]])
    plane = plane_of_labels(reference)
    depth = 1 if plane.axis is None else content.shape[plane.axis]
    layout = layout_of(plane, content, labelled, depth)
    ranges = {name: (0.0, 100.0) if name in percents else grey_range(voxels) for name, voxels in real.items()}
    pixels = layout.size[0] * layout.size[1]
    expected = pixels * (_GREY_BYTES * len(real) + _MASK_BYTES * sum(map(len, masks.values())))
    most = max(_FEWEST, min(len(layout.slices), int(budget / expected)))
    while True:
        if most < len(layout.slices):
            layout = layout_of(plane, content, labelled, most)
        greys = {name: grey_image(layout.spread(each), ranges[name], layout.image_size) for name, each in real.items()}
        painted = {name: _painted(layout, of) for name, of in masks.items()}
        size = total_size([*greys.values(), *(source for each in painted.values() for source in each)])
        if size <= budget or most <= _FEWEST:
            break
        most = max(_FEWEST, min(most - 1, int(0.95 * most * budget / size)))
    areas = plane.areas(labelled)
    key = int(areas.argmax()) if labelled.any() else layout.slices[len(layout.slices) // 2]
    return {
        "case": files.case,
        "plane": plane.name,
        "sides": SIDES.get(plane.name, ""),
        "aspect": layout.plane.aspect * (layout.shape[0] / layout.size[1]) / (layout.shape[1] / layout.size[0]),
        "size": list(layout.size),
        "across": layout.across,
        "slices": list(layout.slices),
        "depth": depth,
        "start": layout.slices.index(key),
        "images": [
            {
                "name": name if name in percents else shown(name),
                "source": greys.get(name),
                "missing": each if isinstance(each, str) else "",
                "map": name in percents,
            }
            for name, each in {**images, **percents}.items()
        ],
        "regions": [
            {
                "name": name,
                "title": SPELLED.get(name, name),
                "colour": REGION_COLOURS[index % len(REGION_COLOURS)],
                "labels": len(values),
            }
            for index, (name, values) in enumerate(regions.items())
        ],
        "truth": painted.get(""),
        "predictions": [
            {"name": name, "masks": each, "lacked": _lacked(files, name)} for name, each in painted.items() if name
        ],
    }


def _lacked(files: CaseFiles, prediction: str) -> list[str]:
    given = files.given.get(prediction)
    return [] if given is None else [shown(name) for name in files.images if name not in given]


def _painted(layout: Layout, masks: Mapping[str, NDArray[np.bool_]]) -> list[str | None]:
    """A mask of each region; None where there is nothing in the slices."""
    pages = [layout.spread(mask) for mask in masks.values()]
    return [
        mask_image(page, REGION_COLOURS[index % len(REGION_COLOURS)], layout.image_size) if page.any() else None
        for index, page in enumerate(pages)
    ]
