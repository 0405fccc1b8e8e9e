"""Multiple sclerosis: the cross-sectional data of the University of Ljubljana."""

from __future__ import annotations

from nnunetv2_mmkd.editions.spec import Channel, EditionSpec

_MNI = "_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI"

OPEN_MS = EditionSpec(
    name="open-ms",
    title="Open MS (Ljubljana)",
    dataset_id=532,
    dataset_name="OpenMS",
    # patient01/{T1W,T1WKS,T2W,FLAIR,consensus_gt}.nii.gz, in the original archive with patient01_ in front
    case_pattern=r"(?i:patient)\d{2}",
    passed_over=r"^(raw|longitudinal)$",
    label_suffixes=("consensus_gt", "GOLD_STANDARD"),
    channels=(
        Channel("t1", "T1", ("T1W", f"T1{_MNI}")),
        Channel("t1ce", "T1ce", ("T1WKS", f"T1POST{_MNI}")),
        Channel("t2", "T2", ("T2W", f"T2{_MNI}")),
        Channel("flair", "FLAIR", ("FLAIR", f"FLAIR{_MNI}")),
    ),
    label_map={0: 0, 1: 1},
    regions={},
    regions_class_order=(),
    classes={"lesion": 1},
    reference="https://github.com/muschellij2/open_ms_data",
    licence="CC BY",
    citation=("Lesjak et al., Neuroinformatics 2018, doi:10.1007/s12021-017-9348-7",),
    notes=(
        "Give one of the folders cross_sectional/coregistered_resampled, /coregistered or /MNI: they hold the same 30 "
        "patients, and of several the last is taken. Folders raw (every sequence on a grid of its own) and "
        "longitudinal (two time points, labels of change) are passed over.",
        "Only the three patients of /MNI that could be had here (07, 19 and 26) were converted.",
    ),
)

OPEN_MS_EDITIONS = (OPEN_MS,)
"""All of them."""
