"""Pictures of cases: the segmentations of every method over an image, under some of the subsets."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.report import draw_overlay, median_case, overlay_subsets
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.subsets import choose_subsets
from nnunetv2_mmkd.names import channel_suffixes, indices, modality_names
from nnunetv2_mmkd.workflows.evaluate.settings import ReportOptions, SubsetPredictions, Target

log = logging.getLogger(__name__)


def draw_overlays(
    output: Path, table: ResultTable, made: Mapping[str, SubsetPredictions], target: Target, report: ReportOptions
) -> None:
    """Overlays of the cases that were asked for, or of one in the middle if its images are at hand."""
    first = next(iter(made.values()))
    modalities = modality_names(first.dataset_json)
    cases = report.overlay or (median_case(table),)
    for case in cases:
        predicted = dict.fromkeys(name for each in made.values() for name in each.expected.get(case, ()))
        subsets = overlay_subsets(list(predicted), modalities)
        if report.overlay_subsets:
            subsets = [name for name in choose_subsets(report.overlay_subsets, modalities)[::-1] if name in predicted]
        image, reference = _reference(case, first, target, report.reference)
        if image is None:
            log.warning("no overlay of %s: its image of %s was not found (nnUNet_raw, -i)", case, reference)
            continue
        folders = {method: each.folder for method, each in made.items()}
        path = output / "figures" / f"overlay_{case}.png"
        try:
            draw_overlay(
                case, image, reference, first.labels, folders, subsets, first.dataset_json, path,
                report.overlay_brightness,
            )  # fmt: skip
        except InputError as error:
            if report.overlay:
                raise
            log.warning("no overlay of %s: %s", case, error)


def check_overlays(first: SubsetPredictions, target: Target, report: ReportOptions) -> None:
    """Refuse cases that cannot be drawn, and modalities or subsets that are unknown or not predicted."""
    if not 0 < report.overlay_brightness < float("inf"):
        raise InputError(f"--overlay_brightness {report.overlay_brightness}: expected a number above 0")
    predicted = {name for names in first.expected.values() for name in names}
    absent = [
        name
        for name in choose_subsets(report.overlay_subsets, modality_names(first.dataset_json))
        if name not in predicted
    ]
    if absent:
        raise InputError(f"--overlay_subsets: {absent[0]} is not evaluated; add it to --subsets")
    for case in report.overlay:
        if case not in first.expected:
            raise InputError(f"--overlay {case}: no such case; there are {', '.join(list(first.expected)[:5])}, ...")
    for case in report.overlay or list(first.expected)[:1]:
        image, reference = _reference(case, first, target, report.reference)
        if image is None and report.overlay:
            raise InputError(
                f"--overlay {case}: its image of {reference} was not found. Set nnUNet_raw, give the images with -i, "
                "or a file with --reference"
            )


def _reference(case: str, made: SubsetPredictions, target: Target, reference: str | None) -> tuple[Path | None, str]:
    """The image under a case's overlay, if it is found, and its modality."""
    if reference is not None and os.path.isfile(reference):
        return Path(reference), os.path.basename(reference)
    modalities = modality_names(made.dataset_json)
    channel = len(modalities) - 1 if reference is None else indices([reference], modalities)[0]
    return find_image(case, channel, made, target), modalities[channel]


def find_image(case: str, channel: int, made: SubsetPredictions, target: Target) -> Path | None:
    """The image of a channel of a case, in the folder of images or in the raw data set; None: it is not there."""
    image = made.images[case][channel] if case in made.images else None
    if image is not None:
        return Path(image)
    name = f"{case}_{channel_suffixes(made.dataset_json)[channel]:04d}{made.dataset_json['file_ending']}"
    raw, dataset = os.environ.get("nnUNet_raw", ""), made.dataset_name
    folders = [target.images] if target.images else []
    if case not in made.images and raw and dataset:  # a folder's case is not the data set's of the same name
        folders += [os.path.join(raw, dataset, part) for part in ("imagesTr", "imagesTs")]
    return next((Path(folder, name) for folder in folders if Path(folder, name).is_file()), None)
