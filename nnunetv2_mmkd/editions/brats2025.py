"""BraTS 2025 ("Lighthouse"): the tasks of 2023 and 2024 again, with more cases and other rules of scoring.

Much of the data is that of earlier years, under the same names of cases: only the names of folders tell them apart, so
``mmkd convert auto`` may ask for the edition. What the organisers' programs of 2025 say (repositories brats-infra and
BraTS-2024-Metrics) is taken for a fact; what only users of the data say stands in ``notes``.
"""

from __future__ import annotations

from dataclasses import replace

from nnunetv2_mmkd.editions.brats import (
    BRATS2021,
    BRATS2023_GLI,
    BRATS2023_MEN,
    BRATS2024_GLI,
    BRATS2024_GOAT,
    BRATS2024_MET,
    BRATS2024_PED,
    BRATS2024_SSA,
    ENDINGS_2023,
    MEDPERF,
    SYNAPSE_2021,
)
from nnunetv2_mmkd.editions.spec import Archive, EditionSpec, Platform

SYNAPSE_2025 = replace(SYNAPSE_2021, id_pattern=r"(\d{5}-\d{3})\.nii\.gz")
"""Any grid of three dimensions is taken; a case without a file gets the worst scores."""

_PAGE = "https://www.synapse.org/Synapse:syn64153130"
_PLATFORM = "What the platform takes is read from the organisers' programs of July 2025."


def _archive(training: str, validation: str, case: str, visits: int = 1) -> Archive:
    return Archive(f"{training}/{case}", f"{validation}/{case}", ENDINGS_2023, first=(90001, 95001), visits=visits)


def _brats2025(
    spec: EditionSpec, task: str, dataset_id: int, archive: Archive, *, notes: tuple[str, ...], platform: Platform
) -> EditionSpec:
    """An edition of an earlier year, with the data of 2025."""
    return replace(
        spec,
        name=f"brats2025-{task.lower()}",
        title=f"BraTS 2025 {task}",
        dataset_id=dataset_id,
        dataset_name=f"BraTS2025{task.replace('-', '')}",
        folder_pattern=r"(?i)brats[-_ ]?2025",
        repeats=(spec.name,),
        lesion_task=f"brats2025-{task.lower()}",
        platform=platform,
        archive=archive,
        reference=_PAGE,
        notes=(*notes, _PLATFORM),
    )


_PRE = "BraTS2025-GLI-PRE-Challenge-"

BRATS2025_GLI_PRE = replace(
    _brats2025(
        BRATS2023_GLI,
        "GLI-PRE",
        522,
        _archive(f"{_PRE}TrainingData", f"{_PRE}ValidationData", "BraTS-GLI-{number:05d}-000"),
        notes=("The 1251 training cases are said to be those of 2023.",),
        platform=SYNAPSE_2025,
    ),
    title="BraTS 2025 GLI (pre-treatment only)",
    dataset_name="BraTS2025GLIPre",
    folder_pattern=r"(?i)brats[-_ ]?2025.*pre",
    lesion_task="",  # the rules of GLI need the resection cavity
)

BRATS2025_GLI = replace(
    _brats2025(
        BRATS2024_GLI,
        "GLI",
        523,
        _archive("BraTS2025-GLI-TrainingData", "BraTS2025-GLI-ValidationData", "BraTS-GLI-{number:05d}-10{visit}", 2),
        notes=(
            "One task scores both: give the folders of the pre-treatment (BraTS2025-GLI-PRE-...) and of the "
            "post-treatment cases; these are distributed as in 2024 (training_data1_v2, ...).",
            "Pre-treatment cases have the grid of 2023, post-treatment cases that of 2024, and no resection cavity is "
            "labelled before treatment.",
            "Whether a number stands for the same patient before and after treatment is not known; a split keeps such "
            "cases together.",
            *BRATS2024_GLI.notes,
        ),
        platform=SYNAPSE_2025,
    ),
    title="BraTS 2025 GLI (pre- and post-treatment)",
    grid=None,
    sibling_pattern=r".*-[01]\d\d",
    repeats=(BRATS2023_GLI.name, BRATS2024_GLI.name),
    folder_pattern=r"(?i)brats[-_ ]?2025(?!.*pre)",
)

BRATS2025_MEN = _brats2025(
    BRATS2023_MEN,
    "MEN",
    524,
    _archive("BraTS2025-MEN-TrainingData", "BraTS2025-MEN-ValidationData", "BraTS-MEN-{number:05d}-000"),
    notes=(
        "The pre-treatment meningiomas; the radiotherapy task (MEN-RT) has one sequence and is not converted.",
        "Data and labels are taken to be those of 2023; the name of the folder is not known.",
    ),
    platform=SYNAPSE_2025,
)

_MET = "MICCAI-LH-BraTS2025-MET-Challenge-"

BRATS2025_MET = replace(
    _brats2025(
        BRATS2024_MET,
        "MET",
        525,
        _archive(f"{_MET}Training", f"{_MET}Validation", "BraTS-MET-{number:05d}-00{visit}", 2),
        notes=(
            "The values 6 and 8 occur in labels of a few cases; users take them for the resection cavity, and so they "
            "are here.",
            "Labels in a folder '...corrected-labels' replace those of the same cases.",
            "Part of the cases (folder 'UCSD - Training') is said to have other grids than the atlas'.",
        ),
        platform=SYNAPSE_2025,
    ),
    grid=None,
    # On disk as in the post-treatment glioma of 2024.
    label_map=BRATS2024_GLI.label_map,
    slips={6: 4, 8: 4},
    corrections=r"(?i)corrected[-_ ]labels",
    regions=BRATS2024_GLI.regions,
    regions_class_order=BRATS2024_GLI.regions_class_order,
    classes=BRATS2024_GLI.classes,
    also_scored={"NETC": (2,)},
    citation=("Maleki et al., arXiv:2504.12527", MEDPERF),
)

BRATS2025_PED = _brats2025(
    BRATS2024_PED,
    "PED",
    526,
    _archive("BraTS2025-PED-TrainingData", "BraTS2025-PED-ValidationData", "BraTS-PED-{number:05d}-00{visit}", 2),
    notes=("Labels are those of 2024, as the scoring program has them; the name of the folder is not known.",),
    platform=SYNAPSE_2025,
)

BRATS2025_SSA = _brats2025(
    BRATS2024_SSA,
    "SSA",
    527,
    _archive("BraTS2025-SSA-TrainingData", "BraTS2025-SSA-ValidationData", "BraTS-SSA-{number:05d}-000"),
    notes=("The name of the training folder is one user's word.",),
    platform=SYNAPSE_2025,
)

BRATS2025_GOAT = _brats2025(
    BRATS2024_GOAT,
    "GoAT",
    528,
    _archive("BraTS2025-GoAT-TrainingData", "BraTS2025-GoAT-ValidationData", "BraTS-GoAT-{number:05d}"),
    notes=("Data and labels are taken to be those of 2024; the name of the folder is not known.",),
    platform=BRATS2021.platform,
)

BRATS2025_EDITIONS = (
    *(BRATS2025_GLI_PRE, BRATS2025_GLI, BRATS2025_MEN, BRATS2025_MET, BRATS2025_PED, BRATS2025_SSA, BRATS2025_GOAT),
)
"""All of them."""
