"""The prostate: PI-CAI (cancer) and task 5 of the Medical Segmentation Decathlon (zones)."""

from __future__ import annotations

from nnunetv2_mmkd.editions.spec import Channel, EditionSpec

PICAI = EditionSpec(
    name="picai",
    title="PI-CAI",
    dataset_id=530,
    dataset_name="PICAI",
    # <patient>/<patient>_<study>_{t2w,adc,hbv}.mha, labels <patient>_<study>.nii.gz from another repository
    case_pattern=r"\d{5}_\d{7}",
    patient_pattern=r"\d{5}",
    layout="files",
    label_suffixes=("",),
    label_folder=r"^(?i:resampled|pooch25)$",
    channels=(
        Channel("t2", "T2", ("t2w",)),
        Channel("adc", "ADC", ("adc",)),
        Channel("hbv", "HBV", ("hbv",)),
    ),
    onto="t2",
    # On disk: ISUP grade groups 2 to 5, or 1 where a network drew the lesion; all are clinically significant.
    label_map={0: 0, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1},
    regions={},
    regions_class_order=(),
    classes={"csPCa": 1},
    submission_labels={0: 0, 1: 1},
    reference="https://pi-cai.grand-challenge.org/DATA/",
    licence="CC BY-NC 4.0",
    citation=("Saha et al., doi:10.5281/zenodo.6522364",),
    notes=(
        "ADC and HBV lie on grids of their own and are resampled onto the T2's, as the organisers' preparation does "
        "it; in a part of the cases they are not registered to the T2, which the organisers say, too.",
        "Labels are those of picai_labels: csPCa_lesion_delineations/human_expert/resampled (1295 cases), and the 205 "
        "of 2025 in human_expert/Pooch25, which were not looked at. Give the folder of the images and that of the "
        "labels; cases without a label go to imagesTs.",
        "All grade groups become one label. Most cases have an empty label: they are free of such cancer.",
        "The sagittal and coronal T2 are not used. The challenge took programs and detection maps, not segmentations.",
    ),
)

MSD_PROSTATE = EditionSpec(
    name="msd-prostate",
    title="MSD task 5 (prostate)",
    dataset_id=531,
    dataset_name="MSDProstate",
    case_pattern=r"(?i:prostate)_\d{2,3}",
    layout="files",
    stacked=True,
    label_suffixes=("",),
    label_folder=r"^labelsT[rs]$",
    channels=(Channel("t2", "T2", ("t2",)), Channel("adc", "ADC", ("adc",))),
    label_map={0: 0, 1: 1, 2: 2},
    regions={},
    regions_class_order=(),
    classes={"peripheral_zone": 1, "transition_zone": 2},
    reference="http://medicaldecathlon.com",
    licence="CC BY-SA 4.0",
    citation=(
        "Antonelli et al., Nature Communications 2022, doi:10.1038/s41467-022-30695-9",
        "Simpson et al., arXiv:1902.09063",
    ),
    notes=(
        "Files are 4-D, with T2 and ADC in this order; nnU-Net's own nnUNetv2_convert_MSD_dataset makes the same "
        "images.",
        "The Decathlon takes the predictions of all its ten tasks in one archive: mmkd submit writes the files of this "
        "task only.",
    ),
)

PROSTATE_EDITIONS = (PICAI, MSD_PROSTATE)
"""All of them."""
