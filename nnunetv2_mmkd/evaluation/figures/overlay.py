"""A case under several subsets and methods, over an image that the models may not have had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.figures.planes import MARGIN, SIDES, Picture, grey_range, read_picture, window
from nnunetv2_mmkd.evaluation.figures.style import NORMAL, SMALL, legend_above, new_figure, png, save, shown, wrapped
from nnunetv2_mmkd.evaluation.label_map import LabelMap, read_label_map
from nnunetv2_mmkd.evaluation.metrics.masks import region_masks
from nnunetv2_mmkd.evaluation.metrics.registry import measure
from nnunetv2_mmkd.evaluation.subsets import SEPARATOR
from nnunetv2_mmkd.names import canonical

REGION_COLOURS = ("#56B4E9", "#F0E442", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#0072B2", "#FFFFFF")
"""Okabe and Ito's palette in the order in which it stands out on grey; regions beyond begin anew."""

SPELLED = {"WT": "whole tumour (WT)", "TC": "tumour core (TC)", "ET": "enhancing tumour (ET)"}
"""Regions -> what the legend calls them."""

_PANEL = 1.45


@dataclass(frozen=True, eq=False)
class _Scene:
    """What all panels share: the image, the slice, and where to look."""

    picture: Picture
    index: int
    window: tuple[slice, slice]
    greys: tuple[float, float]
    regions: Mapping[str, tuple[int, ...]]
    style: str

    def cut(self, values: NDArray[Any]) -> NDArray[Any]:
        return self.picture.plane.slice(values, self.index)[self.window]

    def draw(self, ax: Axes, labels: NDArray[Any] | None) -> None:
        """The image, and the regions of a label map over it."""
        aspect = self.picture.plane.aspect
        low, high = self.greys
        ax.imshow(self.cut(self.picture.voxels), "gray", vmin=low, vmax=high, aspect=aspect, interpolation="bilinear")
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set_visible(False)
        if labels is None:
            return
        masks = {name: self.cut(mask) for name, mask in region_masks(labels, self.regions).items()}
        colours = dict(zip(masks, _colours(len(masks)), strict=True))
        if self.style == "fill":
            painted = np.zeros(next(iter(masks.values())).shape, dtype=int)
            for number, name in _large_first(self.regions):
                painted[masks[name]] = number + 1
            ax.imshow(
                np.ma.masked_equal(painted, 0),
                cmap=ListedColormap(list(colours.values())),
                vmin=1,
                vmax=max(2, len(masks)),
                alpha=0.6,
                aspect=aspect,
                interpolation="nearest",
            )
        for order, (_, name) in enumerate(_large_first(self.regions)):
            if masks[name].any() and min(masks[name].shape) > 1:
                width = 0.5 if self.style == "fill" else max(0.8, 1.3 - 0.25 * order)
                lines = ax.contour(masks[name].astype(float), [0.5], colors=[colours[name]], linewidths=width)
                if self.style == "contour":
                    lines.set_path_effects([withStroke(linewidth=width + 0.7, foreground="black", alpha=0.6)])


def overlays(
    image: Path,
    truth: Path,
    predictions: Mapping[str, Mapping[str, Path]],
    regions: Mapping[str, tuple[int, ...]],
    path: str | Path,
    *,
    reference_name: str,
    case: str = "",
    slice_index: int | None = None,
    style: Literal["fill", "contour"] = "contour",
    crop: Literal["image", "regions"] = "image",
    modalities: Sequence[str] | None = None,
    brightness: float = 1.0,
    empty: str = "legacy",
    ignored: int | None = None,
    title: str = "",
) -> pd.DataFrame:
    """Segmentations of a case over one image: a row per method, a column per subset, the truth in the first column.

    The slice is the one with the largest true area of all regions together (if there is none, the largest predicted
    one, else the middle). Volumes are shown axially, stacks of thick slices in their own plane; the patient's right is
    at the left, and marked. Above each column is what is missing, below each panel the Dice in the whole volume. Panels
    without prediction stay empty. In the first column below the truth is the image by itself.

    Args:
        image: reference modality, on the grid of the truth; the models need not have had it.
        truth: label map.
        predictions: method -> subset -> label map; methods may have different subsets.
        regions: name -> label values. Regions may contain each other; small ones are drawn over large ones.
        path: PNG to write.
        reference_name: modality of ``image``; subsets without it are named in the note.
        case: name, for the note and the CSV.
        slice_index: position along the axis of the file that is sliced, from 0; ``None``: as above.
        style: contours only, or transparent areas with a fine outline. Areas hide what is below them: of a region in
            which others lie, only the rest is seen.
        crop: show the part of the slice where the image is not 0, or that around the regions.
        modalities: of the data set, to name what a subset lacks; None: all that the subsets name.
        brightness: factor; 1 shows the brightest half per cent of the image's voxels as white.
        empty: policy of the Dice for regions empty on both sides, see :mod:`..metrics.empty`.
        ignored: label that does not count in the Dice, if any.
        title: of the figure.

    Returns:
        What the CSV holds: case, method, subset, region, dice (in the volume), slice, plane, background.

    Raises:
        InputError: a file that is absent, damaged or on another grid; no region, method or subset; a slice that the
            image lacks; an unknown style or crop; a brightness that is not positive; or a path that is no PNG or cannot
            be written.
    """
    path = png(path)
    for what, value, known in (("style", style, ("fill", "contour")), ("crop", crop, ("image", "regions"))):
        if value not in known:
            raise InputError(f"{what} {value!r}: expected {known[0]!r} or {known[1]!r}")
    if not 0 < brightness < float("inf"):
        raise InputError(f"brightness {brightness}: expected a number above 0")
    subsets = list(dict.fromkeys(subset for files in predictions.values() for subset in files))
    if not subsets or not regions:
        raise InputError("overlays need at least one method with one prediction, and one region")
    picture, true = read_picture(image), read_label_map(truth)
    picture = picture.on_grid(true.grid)
    segmentations = {
        (method, subset): read_label_map(file).on_grid_of(true)
        for method, files in predictions.items()
        for subset, file in files.items()
    }
    scene = _scene(picture, true, [one.values for one in segmentations.values()], regions, slice_index, style, crop)
    scene = replace(scene, greys=grey_range(picture.voxels, brightness))
    dice = {key: _dice(one, true, regions, empty, ignored) for key, one in segmentations.items()}
    numbers = pd.DataFrame(
        [
            (case, method, subset, region, value, scene.index, picture.plane.name, reference_name)
            for (method, subset), values in dice.items()
            for region, value in values.items()
        ],
        columns=["case", "method", "subset", "region", "dice", "slice", "plane", "background"],
    )
    note = _note(case, scene, subsets, reference_name, bool(numbers["dice"].isna().any()))
    named = modalities or list(dict.fromkeys(name for subset in subsets for name in subset.split(SEPARATOR)))
    heads = [_header(subset, named) for subset in subsets]
    save(
        _figure(scene, true, segmentations, dice, list(predictions), subsets, heads, title, note, reference_name),
        numbers,
        path,
    )
    return numbers


def _figure(
    scene: _Scene,
    true: LabelMap,
    segmentations: Mapping[tuple[str, str], LabelMap],
    dice: Mapping[tuple[str, str], Mapping[str, float]],
    methods: Sequence[str],
    subsets: Sequence[str],
    heads: Sequence[str],
    title: str,
    note: str,
    reference_name: str,
) -> Figure:
    across = 1 + len(subsets)
    rows, columns = scene.cut(scene.picture.voxels).shape
    height = _PANEL * rows * scene.picture.plane.aspect / columns
    scores = {key: _score(values) for key, values in dice.items()}
    lines = max(text.count("\n") for text in scores.values()) + 1
    above = 0.11 * (max(text.count("\n") for text in heads) + 1)
    width = 0.2 + across * (_PANEL + 0.04)
    figure = new_figure(width, len(methods) * (height + 0.03 + 0.1 * lines) + above + 0.26, title, note, 0.015)
    axes = figure.subplots(len(methods), across, squeeze=False)
    for row, method in enumerate(methods):
        for ax, subset in zip(axes[row, 1:], subsets, strict=True):
            one = segmentations.get((method, subset))
            if one is None:
                _blank(ax, "no prediction")
            else:
                scene.draw(ax, one.values)
                ax.set_xlabel(scores[method, subset], fontsize=SMALL - 0.5, labelpad=1.5)
        first = axes[row, 0]
        if row == 0:
            scene.draw(first, true.values)
            first.set_title("Truth", fontsize=NORMAL, pad=2.5, fontweight="bold")
            _mark_sides(first, scene.picture.plane.name)
        elif row == 1:
            scene.draw(first, None)
            first.set_xlabel(f"{shown(reference_name)} alone", fontsize=SMALL, labelpad=1.5)
        else:
            _blank(first, "")
        first.set_ylabel(wrapped(method, height, NORMAL), fontsize=NORMAL, labelpad=3)
    for ax, head in zip(axes[0, 1:], heads, strict=True):
        ax.set_title(head, fontsize=NORMAL, pad=2.5)
    names = min(len(scene.regions), max(1, int(width / 1.3)))
    legend_above(figure, _handles(scene), names)
    return figure


def _scene(
    picture: Picture,
    true: LabelMap,
    predicted: Sequence[NDArray[Any]],
    regions: Mapping[str, tuple[int, ...]],
    index: int | None,
    style: str,
    crop: str,
) -> _Scene:
    plane, labels = picture.plane, sorted({label for values in regions.values() for label in values})
    truth = np.isin(true.values, labels)
    anywhere = np.logical_or.reduce([np.isin(values, labels) for values in predicted])
    areas = plane.areas(truth)
    if index is None:
        areas = areas if areas.any() else plane.areas(anywhere)
        index = int(areas.argmax()) if areas.any() else len(areas) // 2
    elif not 0 <= index < len(areas):
        raise InputError(f"slice {index}: {true.path} has the slices 0 to {len(areas) - 1}")
    page = plane.slice(picture.voxels, index)
    inside = plane.slice(truth | anywhere, index)
    where = inside if crop == "regions" else inside | (page != 0)
    margin = max(page.shape) // 8 if crop == "regions" else MARGIN
    return _Scene(picture, index, window(where, margin), (0.0, 1.0), regions, style)


def _mark_sides(ax: Axes, plane: str) -> None:
    """The patient's right and left, in sagittal slices front and back."""
    for mark, x, side in zip(SIDES.get(plane, ""), (0.02, 0.98), ("left", "right"), strict=False):
        ax.text(x, 0.98, mark, transform=ax.transAxes, ha=side, va="top", fontsize=NORMAL, color="white")


def _dice(
    prediction: LabelMap, true: LabelMap, regions: Mapping[str, tuple[int, ...]], empty: str, ignored: int | None
) -> dict[str, float]:
    counts = np.ones(true.values.shape, dtype=bool) if ignored is None else true.values != ignored
    predicted, truths = region_masks(prediction.values, regions), region_masks(true.values, regions)
    return {
        name: measure(predicted[name] & counts, truths[name] & counts, true.spacing, ("dice",), empty)["dice"]
        for name in regions
    }


def _blank(ax: Axes, text: str) -> None:
    ax.set(xticks=[], yticks=[])
    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=SMALL, color="0.4", transform=ax.transAxes)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _header(subset: str, modalities: Sequence[str]) -> str:
    """What a subset lacks, as it fits above a panel."""
    available = {canonical(name) for name in subset.split(SEPARATOR)}
    missing = [shown(name) for name in modalities if canonical(name) not in available]
    text = f"{', '.join(missing)} missing" if missing else "nothing missing"
    if missing and len(available) == 1:
        text = f"{shown(subset)} alone: {text}"
    return wrapped(text, _PANEL, NORMAL)


def _score(values: Mapping[str, float]) -> str:
    """Dice per region as it fits below a panel."""
    parts = [f"{name}\N{NO-BREAK SPACE}" + ("–" if np.isnan(v) else f"{100 * v:.1f}") for name, v in values.items()]
    return wrapped("  ".join(parts), _PANEL + 0.1, SMALL - 0.5)


def _colours(count: int) -> list[str]:
    return [REGION_COLOURS[number % len(REGION_COLOURS)] for number in range(count)]


def _large_first(regions: Mapping[str, tuple[int, ...]]) -> list[tuple[int, str]]:
    """Position and name of the regions, those of many labels first, so that contained ones are drawn over them."""
    return sorted(enumerate(regions), key=lambda entry: -len(regions[entry[1]]))


def _handles(scene: _Scene) -> list[Patch | Line2D]:
    named = [
        (SPELLED.get(name, name), colour)
        for name, colour in zip(scene.regions, _colours(len(scene.regions)), strict=True)
    ]
    if scene.style == "fill":
        return [Patch(color=colour, label=name) for name, colour in named]
    return [Line2D([], [], color=colour, linewidth=1.5, label=name) for name, colour in named]


def _note(case: str, scene: _Scene, subsets: Sequence[str], reference_name: str, some_nan: bool) -> str:
    plane = scene.picture.plane
    where = f"{plane.name} slice {scene.index}".strip() if plane.axis is not None else ""
    parts = [", ".join(part for part in (case, where) if part)]
    without = [
        subset
        for subset in subsets
        if canonical(reference_name) not in {canonical(name) for name in subset.split(SEPARATOR)}
    ]
    parts.append(f"Background: {shown(reference_name)}")
    if len(without) == len(subsets):
        parts[-1] += ", which the models did not get"
    elif without:
        parts[-1] += ", which the models did not get where it is missing"
    parts.append("Numbers: Dice (%) in the whole " + ("image" if plane.axis is None else "volume"))
    if some_nan:
        parts.append("–: undefined")
    return ". ".join(part for part in parts if part) + "."
