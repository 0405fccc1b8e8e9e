"""MyoPS: myocardial pathology from three sequences of cardiac magnetic resonance."""

from __future__ import annotations

from dataclasses import replace

from nnunetv2_mmkd.editions.spec import Archive, Channel, EditionSpec

MYOPS2020 = EditionSpec(
    name="myops2020",
    title="MyoPS 2020",
    dataset_id=520,
    dataset_name="MyoPS2020",
    case_pattern=r"(?i:myops_(training|test))_\d+",
    layout="files",
    label_suffixes=("gd",),
    channels=(
        Channel("bssfp", "bSSFP", ("C0", "bSSFP")),
        Channel("lge", "LGE", ("DE", "LGE")),
        Channel("t2", "T2", ("T2",)),
    ),
    configuration="2d",  # two to six slices, 12 to 23 mm apart
    # On disk: 200 normal myocardium, 500 blood pool of the left, 600 of the right ventricle, 1220 edema, 2221 scar.
    label_map={0: 0, 200: 1, 500: 2, 600: 3, 1220: 4, 2221: 5},
    regions={"LV": (2,), "RV": (3,), "MYO": (1, 4, 5), "edema_scar": (4, 5), "scar": (5,)},
    regions_class_order=(2, 3, 1, 4, 5),
    classes={"normal_myocardium": 1, "LV_pool": 2, "RV_pool": 3, "edema": 4, "scar": 5},
    submission_dtype="int16",
    archive=Archive(
        "train25/myops_training_{number}",
        "test20/myops_test_{number}",
        ("_C0", "_DE", "_T2", "_gd"),
        label_folder="../train25_myops_gd",
        first=(101, 201),
    ),
    reference="https://zmiclab.github.io/zxh/0/myops20/",
    licence="registration with the organisers; non-commercial research; no redistribution",
    citation=(
        "Zhuang, IEEE Transactions on Pattern Analysis and Machine Intelligence 2019, doi:10.1109/TPAMI.2018.2869576",
        "Zhuang, Multivariate mixture model for cardiac segmentation from multi-sequence MRI, MICCAI 2016, 581-588",
    ),
    notes=(
        "The name of a submitted file is '<case>.nii.gz' by one entry and '<case>_seg.nii.gz' by another.",
        "That the three sequences of a case are on one grid is third parties' word; other cases are refused.",
        "That only non-commercial research is allowed is third parties' word.",
    ),
)

MYOPS_PLUS = replace(
    MYOPS2020,
    name="myops-plus",
    title="MyoPS++ (CARE 2024)",
    dataset_id=521,
    dataset_name="MyoPSPlus",
    case_pattern=r"(?i:case)\d{4}",
    archive=Archive(
        "MyoPS_train/CenterC/Case{number}/Case{number}",
        "MyoPS_test/Case{number}/Case{number}",
        ("_C0", "_LGE", "_T2", "_gd"),
        first=(3001, 4001),
    ),
    reference="http://zmic.org.cn/care_2024/track4/",
    citation=(
        *MYOPS2020.citation,
        "Li et al., Medical Image Analysis 2023, doi:10.1016/j.media.2023.102808",
    ),
    notes=(
        "The folders of the centres (CenterA, ...) may be there or not.",
        "Read in a copy: 45 cases, Case3001 to Case3045, all sequences of a case on one grid. Other centres are said "
        "to lack sequences: those are missing. Sequences on other grids are refused.",
        "The label values are those of MyoPS 2020; what a submission must look like is taken from there.",
    ),
)

MYOPS_EDITIONS = (MYOPS2020, MYOPS_PLUS)
"""All of them."""
