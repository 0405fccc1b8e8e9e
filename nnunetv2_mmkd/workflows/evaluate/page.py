"""The page of an evaluation: which cases and segmentations it shows, and where their images are."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nnunetv2_mmkd.evaluation.page.case_view import ALL_ZERO, MOST_CASES, NOT_FOUND, CaseFiles, view_cases
from nnunetv2_mmkd.evaluation.page.evaluation import Evaluated, evaluation_page, subset_label
from nnunetv2_mmkd.evaluation.page.render import PAGE, write_page
from nnunetv2_mmkd.evaluation.regions import evaluated_regions
from nnunetv2_mmkd.evaluation.report import overlay_subsets
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.subsets import choose_subsets
from nnunetv2_mmkd.names import modality_names
from nnunetv2_mmkd.nnunet_json import missing_modalities
from nnunetv2_mmkd.workflows.evaluate.overlays import find_image
from nnunetv2_mmkd.workflows.evaluate.settings import ReportOptions, SubsetPredictions, Target

log = logging.getLogger(__name__)

MOST_PREDICTIONS = 12
"""Segmentations of a case in the page: more methods, fewer subsets of each."""


def write_evaluation_page(
    output: Path,
    table: ResultTable,
    made: Mapping[str, SubsetPredictions],
    together: Mapping[str, str],
    target: Target,
    report: ReportOptions,
    *,
    processes: int = 1,
    progress: bool = False,
) -> None:
    """Write ``report.html`` of what was scored. An image that is not found is named as such; the scores stand.

    Args:
        output: folder with the figures.
        table: the results.
        made: segmentations of each method.
        together: method -> the name that it has in the table, where that is another one.
        target: where images may be.
        report: which subsets to show.
        processes: that draw slices.
        progress: show a progress bar.

    Raises:
        InputError: the page cannot be written.
    """
    first = next(iter(made.values()))
    regions, modalities = evaluated_regions(first.dataset_json), modality_names(first.dataset_json)
    declared = missing_modalities(first.dataset_json, modalities)
    drawn = set(_chosen(table))
    names: dict[str, tuple[str, str]] = {}
    files, missing = [], {}
    for case in table.cases:
        images = {name: _image(case, channel, first, target, declared) for channel, name in enumerate(modalities)}
        missing[case] = {
            name: each
            for name, each in images.items()
            if isinstance(each, str) and (each != NOT_FOUND or target.images)
        }
        predictions, given = {}, {}
        for method, subset in _shown(case, made, modalities, report):
            called = together.get(method, method)
            label = subset_label(subset, modalities)
            name = f"{called}: {label}" if len(table.methods) > 1 else label
            names[name] = (called, subset)
            predictions[name] = made[method].folder / subset / (case + str(first.dataset_json["file_ending"]))
            given[name] = subset.split("+")
        truth = first.labels / (case + str(first.dataset_json["file_ending"]))
        files.append(CaseFiles(case, images, predictions, truth, case in drawn, given))
    views = view_cases(files, regions, processes=processes, progress=progress)
    for view in views:
        for name, image in zip(modalities, view.viewer.get("images", ()), strict=False):
            if image["missing"] == ALL_ZERO:
                missing[view.case][name] = ALL_ZERO
    notes = []
    if len(drawn) < len(table.cases):
        notes.append(
            f"Images of {len(drawn)} of the {len(table.cases)} cases are shown, evenly from the worst to the best."
        )
    lost = [view.case for view in views if view.viewer and not any(each["source"] for each in view.viewer["images"])]
    if lost:
        log.warning("no images of %d cases in the page: they were not found (nnUNet_raw, -i)", len(lost))
    page = evaluation_page(
        Evaluated(
            first.dataset_name or first.labels.name,
            table,
            list(regions),
            names,
            missing,
            views,
            output / "figures",
            notes,
        )
    )
    if lost:
        line = (
            f"The images of {len(lost)} of {len(drawn)} cases were not found: only segmentations are shown of them. "
            "Set nnUNet_raw, or give the images with -i, and run `mmkd evaluate` again; nothing is predicted twice."
        )
        page = replace(page, warnings=(line, *page.warnings))
    write_page(page, output / PAGE)


def _chosen(table: ResultTable) -> Sequence[str]:
    """The cases that are drawn: all, or evenly chosen from the worst to the best."""
    metric = "dice" if "dice" in table.metrics else table.metrics[0]
    rows = table.select(metric=metric).rows
    ranked = list(rows.groupby("case")["value"].mean().sort_values(kind="stable").index)
    if len(ranked) <= MOST_CASES:
        return ranked
    return [ranked[round(place * (len(ranked) - 1) / (MOST_CASES - 1))] for place in range(MOST_CASES)]


def _image(
    case: str, channel: int, made: SubsetPredictions, target: Target, declared: Mapping[str, Sequence[str]]
) -> Path | str:
    """A case's image of a channel, or why there is none."""
    if modality_names(made.dataset_json)[channel] in declared.get(case, ()):
        return "missing in the data set"
    return find_image(case, channel, made, target) or ("no file" if target.images else NOT_FOUND)


def _shown(
    case: str, made: Mapping[str, SubsetPredictions], modalities: Sequence[str], report: ReportOptions
) -> list[tuple[str, str]]:
    """Method and subset of the segmentations of a case that the page shows."""
    most = max(1, MOST_PREDICTIONS // len(made))
    pairs = []
    for method, each in made.items():
        predicted = each.expected.get(case, ())
        if report.overlay_subsets:
            chosen = [name for name in choose_subsets(report.overlay_subsets, modalities)[::-1] if name in predicted]
        else:
            chosen = overlay_subsets(predicted, modalities)
        pairs += [(method, subset) for subset in chosen[:most]]
    return pairs
