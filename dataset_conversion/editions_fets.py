"""The editions of FeTS: data of BraTS with the institution each case comes from."""

from __future__ import annotations

from dataclasses import replace

from nnunetv2_mmkd.dataset_conversion.editions_brats import BRATS2021, SYNAPSE_2021
from nnunetv2_mmkd.dataset_conversion.spec import Platform

CITATION = (
    "Pati et al., arXiv:2105.05874",
    "Pati et al., Nature Communications 2022, doi:10.1038/s41467-022-33407-5",
    *BRATS2021.citation,
)
"""What FeTS asks to cite."""

FETS2021 = replace(
    BRATS2021,
    name="fets2021",
    title="FeTS 2021",
    dataset_id=515,
    dataset_name="FeTS2021",
    case_pattern=r"(?i:fets21_(training|validation))_\d{3}",
    folder_pattern=r"(?i)fets[-_ ]?2021",
    platform=Platform("the organisers"),
    reference="https://fets-ai.github.io/Challenge/",
    licence="data use agreement with the organisers; no redistribution",
    citation=CITATION,
    notes=("FeTS scored programs, not files: nothing is known of a format of submissions.",),
)

FETS2022 = replace(
    FETS2021,
    name="fets2022",
    title="FeTS 2022",
    dataset_id=516,
    dataset_name="FeTS2022",
    case_pattern=r"(?i:fets2022)_\d{5}",
    folder_pattern=r"(?i)fets[-_ ]?2022",
)

FETS2024 = replace(
    FETS2022,
    name="fets2024",
    title="FeTS 2024",
    dataset_id=517,
    dataset_name="FeTS2024",
    folder_pattern=r"(?i)fets[-_ ]?2024",
    # On disk 4 is the enhancing tumour, but the scorer takes it to be 3.
    submission_labels={0: 0, 1: 2, 2: 1, 3: 3},
    platform=SYNAPSE_2021,
    reference="https://www.synapse.org/Synapse:syn54079892",
    notes=(
        "The data are those of FeTS 2022.",
        "That the enhancing tumour is 3 in a submission is read from the scorer's code, not from instructions; "
        "where the organisers ask for 4, submit as fets2022.",
    ),
)

FETS_EDITIONS = (FETS2021, FETS2022, FETS2024)
"""All of them."""
