"""ISLES: stroke lesions in diffusion-weighted imaging and FLAIR."""

from __future__ import annotations

from nnunetv2_mmkd.editions.spec import Channel, EditionSpec

ISLES2022 = EditionSpec(
    name="isles2022",
    title="ISLES 2022",
    dataset_id=529,
    dataset_name="ISLES2022",
    # BIDS: sub-strokecase0001/ses-0001/{anat,dwi}/..., labels in derivatives/; also rawdata/ without anat and dwi.
    case_pattern=r"(?i:sub-strokecase\d{4}_ses-\d{4})",
    patient_pattern=r"(?i:sub-strokecase\d{4})",
    layout="files",
    label_suffixes=("msk",),
    channels=(
        Channel("dwi", "DWI", ("dwi",)),
        Channel("adc", "ADC", ("adc",)),
        Channel("flair", "FLAIR", ("FLAIR",)),
    ),
    onto="dwi",
    label_map={0: 0, 1: 1},
    regions={},
    regions_class_order=(),
    classes={"lesion": 1},
    reference="https://doi.org/10.5281/zenodo.7960856",
    licence="CC BY-SA 4.0 by the organisers' repository; see the page of the data",
    citation=("Hernandez Petzsche et al., Scientific Data 2022, doi:10.1038/s41597-022-01875-5",),
    notes=(
        "FLAIR lies on a grid of its own and is resampled onto the DWI's by its header. It is not registered: the "
        "winning entries register it or do without it.",
        "That ADC and label are on the DWI's grid is third parties' word; a label elsewhere is refused.",
        "The challenge took programs; how files would be named for it is not known.",
    ),
)

ISLES_EDITIONS = (ISLES2022,)
"""All of them."""
