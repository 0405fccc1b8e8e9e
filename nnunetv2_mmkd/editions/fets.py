"""The editions of FeTS: data of BraTS with the institution each case comes from."""

from __future__ import annotations

from dataclasses import replace

from nnunetv2_mmkd.editions.brats import BRATS2021, ENDINGS, SYNAPSE_2021
from nnunetv2_mmkd.editions.spec import Archive, Platform

FETS_CITATION = (
    "Pati et al., arXiv:2105.05874",
    "Reina et al., arXiv:2105.06413",
    "Bakas et al., Scientific Data 2017, doi:10.1038/sdata.2017.117",
)
"""What the pages of FeTS 2021 and 2022 ask to cite."""

FETS2021 = replace(
    BRATS2021,
    name="fets2021",
    title="FeTS 2021",
    dataset_id=515,
    dataset_name="FeTS2021",
    case_pattern=r"(?i:fets21_(training|validation))_\d{3}",
    folder_pattern=r"(?i)fets[-_ ]?2021",
    sites_file="partitioning_1.csv",
    archive=Archive(
        "MICCAI_FeTS2021_TrainingData/FeTS21_Training_{number:03d}",
        "MICCAI_FeTS2021_ValidationData/FeTS21_Validation_{number:03d}",
        ENDINGS,
    ),
    platform=Platform("the organisers"),
    reference="https://fets-ai.github.io/Challenge/",
    licence="registration with the organisers; free for research if the papers are cited",
    citation=FETS_CITATION,
    notes=("FeTS scored programs, not files: nothing is known of a format of submissions.",),
)


def _archive(year: int) -> Archive:
    folder, case = f"MICCAI_FeTS{year}_", "FeTS2022_{number:05d}"
    return Archive(
        f"{folder}TrainingData/{case}",
        f"{folder}ValidationData/{case}",
        ENDINGS,
        first=(90001, 95001),
        sites=("Partition_ID", "Subject_ID"),
    )


FETS2022 = replace(
    FETS2021,
    name="fets2022",
    title="FeTS 2022",
    dataset_id=516,
    dataset_name="FeTS2022",
    case_pattern=r"(?i:fets2022)_\d{5}",
    folder_pattern=r"(?i)fets[-_ ]?2022",
    archive=_archive(2022),
)

FETS2024 = replace(
    FETS2022,
    name="fets2024",
    title="FeTS 2024",
    dataset_id=517,
    dataset_name="FeTS2024",
    folder_pattern=r"(?i)fets[-_ ]?2024",
    archive=_archive(2024),
    # On disk 4 is the enhancing tumour, but the scorer takes it to be 3.
    submission_labels={0: 0, 1: 2, 2: 1, 3: 3},
    platform=SYNAPSE_2021,
    reference="https://www.synapse.org/Synapse:syn54079892",
    notes=(
        "The data are those of FeTS 2022; what to cite is taken from there.",
        "That the enhancing tumour is 3 in a submission is read from the scorer's code, not from instructions; "
        "where the organisers ask for 4, submit as fets2022.",
    ),
)

FETS_EDITIONS = (FETS2021, FETS2022, FETS2024)
"""All of them."""
