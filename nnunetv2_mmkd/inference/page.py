"""``mmkd predict --report``: one HTML page about a folder of segmentations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.evaluation.page.case_view import MOST_CASES, NOT_FOUND, CaseFiles, view_cases
from nnunetv2_mmkd.evaluation.page.prediction import SEGMENTATION, prediction_page
from nnunetv2_mmkd.evaluation.page.render import PAGE, write_page
from nnunetv2_mmkd.evaluation.regions import evaluated_regions
from nnunetv2_mmkd.files import within
from nnunetv2_mmkd.inference.cases import Case
from nnunetv2_mmkd.inference.job import PredictionJob
from nnunetv2_mmkd.nnunet_json import read_object


def page_name(report: str) -> str:
    """Name of the page beside a report: parts of a prediction (``-num_parts``) have one each, as their reports do."""
    return PAGE if "_part" not in report else Path(report).with_suffix(".html").name.removeprefix("mmkd_")


def write_prediction_page(
    job: PredictionJob, dataset_json: Mapping[str, Any], *, processes: int = 1, progress: bool = False
) -> None:
    """Write the page of a job that has ended.

    It has all cases of the report, so also those that an earlier run predicted. An image that is not there any more is
    named as such; the segmentation stands.

    Args:
        job: with an output folder.
        dataset_json: of the model, for its regions.
        processes: that draw slices.
        progress: show a progress bar.

    Raises:
        InputError: the page cannot be written.
    """
    if job.report_file is None:
        return
    report, folder = read_object(job.report_file), Path(job.report_file).parent
    regions = evaluated_regions(dataset_json)
    found = {case.identifier: case for case in (*job.found, *job.cases)}
    files = [
        CaseFiles(
            case,
            _images(entry, found.get(case), job.modalities),
            {SEGMENTATION: within(folder, entry["segmentation"])},
            drawn=number < MOST_CASES,
            maps={
                f"Uncertainty of {region}": within(folder, str(numbers["map"]))
                for region, numbers in entry.get("uncertainty", {}).items()
            },
        )
        for number, (case, entry) in enumerate(report["cases"].items())
    ]
    views = view_cases(files, regions, processes=processes, progress=progress)
    page = prediction_page(folder.resolve().name, report, views, list(regions), sum(not each.drawn for each in files))
    write_page(page, folder / page_name(Path(job.report_file).name))


def _images(entry: Mapping[str, Any], case: Case | None, modalities: Sequence[str]) -> dict[str, Path | str]:
    """Modality -> its image, or why there is none to show."""
    files = dict(zip(modalities, case.files if case else [None] * len(modalities), strict=True))
    images: dict[str, Path | str] = {}
    for name in modalities:
        file = files[name]
        images[name] = (
            str(entry["missing"].get(name) or NOT_FOUND) if file is None or name in entry["missing"] else Path(file)
        )
    return images
