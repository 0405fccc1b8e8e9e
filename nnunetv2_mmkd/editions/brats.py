"""The editions of BraTS, one declarative spec each.

One value means one tissue in all of them, whatever the value on disk: 1 edema, 2 necrosis and non-enhancing tumour,
3 enhancing tumour, 4 what only some editions have. So a model of one edition can be scored on another. The order is
from large to small, because nnU-Net's region decoding paints in that order.

What rests on little evidence stands in each spec's ``notes``.
"""

from __future__ import annotations

from dataclasses import replace

from nnunetv2_mmkd.editions.spec import Archive, Channel, EditionSpec, Platform

BRATS_CHANNELS = (
    Channel("t1", "T1", ("t1", "t1n")),
    Channel("t1ce", "T1ce", ("t1ce", "t1c", "t1gd")),
    Channel("t2", "T2", ("t2", "t2w")),
    Channel("flair", "FLAIR", ("flair", "t2f")),
)
"""The four sequences of BraTS, in nnU-Net's customary order."""

ENDINGS = ("_t1", "_t1ce", "_t2", "_flair", "_seg")
ENDINGS_2023 = ("-t1n", "-t1c", "-t2w", "-t2f", "-seg")
"""Of the files of a case, until 2022 and since 2023."""

SRI24 = (240, 240, 155)
"""Grid of the SRI24 atlas, 1 mm: that of nearly all editions."""

BRATS_CITATION = (
    "Menze et al., IEEE Transactions on Medical Imaging 2015, doi:10.1109/TMI.2014.2377694",
    "Bakas et al., Scientific Data 2017, doi:10.1038/sdata.2017.117",
    "Bakas et al., arXiv:1811.02629",
)
"""What the page of BraTS 2020 asks to cite; that of 2018 names the first two."""

BRATS2021_CITATION = ("Baid et al., arXiv:2107.02314", *BRATS_CITATION[:2])
"""What the page of BraTS 2021 asks to cite, and for the pre-treatment glioma of 2023 its successor."""

MEDPERF = "Karargyris et al., Nature Machine Intelligence 2023, doi:10.1038/s42256-023-00652-2"
"""What the data agreement of BraTS on Synapse (list of June 2025) asks to cite with any of its data since 2023."""

IPP = Platform("the Image Processing Portal of CBICA")
SYNAPSE_2021 = Platform("Synapse", archives=(".zip", ".tar.gz"), id_pattern=r"(\d{5})\.nii\.gz")
SYNAPSE_2023 = replace(
    SYNAPSE_2021,
    id_pattern=r"(\d{5}-\d{3})\.nii\.gz",
    grid=SRI24,
    qform=((-1, 0, 0, 0), (0, -1, 0, 239), (0, 0, 1, 0), (0, 0, 0, 1)),
)
SYNAPSE_2024 = replace(SYNAPSE_2021, id_pattern=r"(\d{4,5}-\d{1,3})\.nii\.gz", grid=SRI24)


def _archive_2023(task: str) -> Archive:
    folder = f"ASNR-MICCAI-BraTS2023-{task}-Challenge-"
    case = f"BraTS-{task}-{{number:05d}}-000"
    return Archive(f"{folder}TrainingData/{case}", f"{folder}ValidationData/{case}", ENDINGS_2023, first=(90001, 95001))


_REGISTRATION = "registration with the organisers; free for research if the papers are cited; no redistribution"
_SYNAPSE = "registration on Synapse; free for research if the papers are cited"
_CC = "registration on Synapse; CC BY-NC 4.0 unless otherwise indicated, and the papers are to be cited"

BRATS2018 = EditionSpec(
    name="brats2018",
    title="BraTS 2018",
    dataset_id=501,
    dataset_name="BraTS2018",
    case_pattern=r"(?i:brats18)_.+_\d+",
    channels=BRATS_CHANNELS,
    grid=SRI24,
    # On disk: 1 necrosis and non-enhancing core, 2 edema, 4 enhancing tumour.
    label_map={0: 0, 1: 2, 2: 1, 4: 3},
    regions={"whole_tumor": (1, 2, 3), "tumor_core": (2, 3), "enhancing_tumor": (3,)},
    regions_class_order=(1, 2, 3),
    classes={"edema": 1, "necrosis_non_enhancing": 2, "enhancing": 3},
    platform=IPP,
    archive=Archive(
        "MICCAI_BraTS_2018_Data_Training/HGG/Brats18_PHANTOM_{number:03d}_1",
        "MICCAI_BraTS_2018_Data_Validation/Brats18_PHANTOMVAL_{number:03d}_1",
        ENDINGS,
    ),
    reference="https://www.med.upenn.edu/sbia/brats2018/data.html",
    licence=_REGISTRATION,
    citation=BRATS_CITATION[:2],
    notes=("The portal is reported closed, and whether it took one archive or many files is not known for certain.",),
)

BRATS2019 = replace(
    BRATS2018,
    name="brats2019",
    title="BraTS 2019",
    dataset_id=502,
    dataset_name="BraTS2019",
    case_pattern=r"(?i:brats19)_.+_\d+",
    uncertainty={"_unc_whole": "whole_tumor", "_unc_core": "tumor_core", "_unc_enhance": "enhancing_tumor"},
    archive=Archive(
        "MICCAI_BraTS_2019_Data_Training/HGG/BraTS19_PHANTOM_{number:03d}_1",
        "MICCAI_BraTS_2019_Data_Validation/BraTS19_PHANTOMVAL_{number:03d}_1",
        ENDINGS,
    ),
    reference="https://www.med.upenn.edu/cbica/brats2019/data.html",
    citation=BRATS_CITATION,
    notes=(*BRATS2018.notes, "What to cite is taken from the page of 2020."),
)

BRATS2020 = replace(
    BRATS2018,
    name="brats2020",
    title="BraTS 2020",
    dataset_id=503,
    dataset_name="BraTS2020",
    case_pattern=r"(?i:brats20_(training|validation|testing))_\d{3}",
    uncertainty={"_unc_whole": "whole_tumor", "_unc_core": "tumor_core", "_unc_enhance": "enhancing_tumor"},
    archive=Archive(
        "BraTS2020_TrainingData/MICCAI_BraTS2020_TrainingData/BraTS20_Training_{number:03d}",
        "BraTS2020_ValidationData/MICCAI_BraTS2020_ValidationData/BraTS20_Validation_{number:03d}",
        ENDINGS,
        extension=".nii",
    ),
    reference="https://www.med.upenn.edu/cbica/brats2020/data.html",
    citation=BRATS_CITATION,
)

BRATS2021 = replace(
    BRATS2018,
    name="brats2021",
    title="BraTS 2021",
    dataset_id=504,
    dataset_name="BraTS2021",
    case_pattern=r"(?i:brats2021)_\d{5}",
    platform=SYNAPSE_2021,
    archive=Archive(
        "RSNA_ASNR_MICCAI_BraTS2021_TrainingData_16July2021/BraTS2021_{number:05d}",
        "RSNA_ASNR_MICCAI_BraTS2021_ValidationData/BraTS2021_{number:05d}",
        ENDINGS,
        first=(90001, 95001),
    ),
    reference="https://www.synapse.org/Synapse:syn25829067",
    licence=f"{_SYNAPSE}; the copy at The Cancer Imaging Archive is CC BY 4.0",
    citation=BRATS2021_CITATION,
    notes=(),
)

BRATS2023_GLI = replace(
    BRATS2021,
    name="brats2023-gli",
    title="BraTS 2023 GLI",
    dataset_id=505,
    dataset_name="BraTS2023GLI",
    case_pattern=r"(?i:brats-gli)-\d{5}-\d{3}",
    patient_pattern=r"(?i:brats-gli)-\d{5}",
    sibling_pattern=r".*-0\d\d",  # time points of 2024 begin at 100
    folder_pattern=r"(?i)brats[-_ ]?2023",
    # On disk: 1 necrosis and non-enhancing core, 2 edema (SNFH), 3 enhancing tumour.
    label_map={0: 0, 1: 2, 2: 1, 3: 3},
    platform=SYNAPSE_2023,
    archive=_archive_2023("GLI"),
    reference="https://www.synapse.org/Synapse:syn51156910",
    licence=_CC,
    citation=(*BRATS2021_CITATION, MEDPERF),
    notes=("That BraTS-GLI-ddddd-000 is BraTS2021_ddddd rests on several third parties' word.",),
)


def _brats2023(task: str, dataset_id: int, citation: str, notes: tuple[str, ...] = ()) -> EditionSpec:
    """A task that has every case once; its labels are those of the pre-treatment glioma."""
    return replace(
        BRATS2023_GLI,
        name=f"brats2023-{task.lower()}",
        title=f"BraTS 2023 {task}",
        dataset_id=dataset_id,
        dataset_name=f"BraTS2023{task}",
        case_pattern=rf"(?i:brats-{task.lower()})-\d{{5}}-\d{{3}}",
        patient_pattern=rf"(?i:brats-{task.lower()})-\d{{5}}",
        sibling_pattern=r".+",
        archive=_archive_2023(task),
        citation=(citation, MEDPERF),
        notes=notes,
    )


BRATS2023_MEN = _brats2023("MEN", 506, "LaBella et al., arXiv:2305.07642")
BRATS2023_MET = _brats2023(
    "MET",
    507,
    "Moawad et al., arXiv:2306.00838",
    ("Part of the additional training data is said to have only some of the labels.",),
)
BRATS2023_PED = _brats2023("PED", 508, "Kazerooni et al., arXiv:2305.17033")
BRATS2023_SSA = _brats2023("SSA", 509, "Adewole et al., arXiv:2305.19369")

BRATS2024_GLI = replace(
    BRATS2023_GLI,
    name="brats2024-gli",
    title="BraTS 2024 GLI (post-treatment)",
    dataset_id=510,
    dataset_name="BraTS2024GLI",
    grid=(182, 218, 182),
    sibling_pattern=r".*-1\d\d",
    folder_pattern=r"(?i)brats[-_ ]?2024|^training_data|^validation_data",
    # On disk as in 2023, and 4 is the resection cavity, which is not part of the whole tumour.
    label_map={0: 0, 1: 2, 2: 1, 3: 3, 4: 4},
    regions={
        "whole_tumor": (1, 2, 3),
        "tumor_core": (2, 3),
        "enhancing_tumor": (3,),
        "resection_cavity": (4,),
    },
    regions_class_order=(1, 2, 3, 4),
    also_scored={"NETC": (2,), "SNFH": (1,)},
    classes={"edema": 1, "necrosis_non_enhancing": 2, "enhancing": 3, "resection_cavity": 4},
    platform=replace(SYNAPSE_2024, grid=(182, 218, 182)),
    archive=Archive(
        "training_data1_v2/BraTS-GLI-{number:05d}-10{visit}",
        "validation_data/BraTS-GLI-{number:05d}-10{visit}",
        ENDINGS_2023,
        first=(90001, 95001),
        visits=2,
    ),
    reference="https://www.synapse.org/Synapse:syn53708249",
    citation=("de Verdier et al., arXiv:2405.18368", MEDPERF),
    notes=("Three pairs of identical scans under different patients were reported once: a split cannot know of them.",),
)

BRATS2024_MET = replace(
    BRATS2023_MET,
    name="brats2024-met",
    title="BraTS 2024 MET",
    dataset_id=511,
    dataset_name="BraTS2024MET",
    folder_pattern=r"(?i)brats[-_ ]?2024",
    platform=SYNAPSE_2024,
    archive=Archive(
        "MICCAI-BraTS2024-MET-Challenge-TrainingData_1/BraTS-MET-{number:05d}-00{visit}",
        "MICCAI-BraTS2024-MET-Challenge-Validation/BraTS-MET-{number:05d}-00{visit}",
        ENDINGS_2023,
        first=(90001, 95001),
        visits=2,
    ),
    reference=BRATS2024_GLI.reference,
    notes=(
        "The folder '..._2-fixed-cases' replaces cases of '..._2': reported by few.",
        "The data agreement announces a paper and names none; the citation is that of 2023.",
    ),
)

BRATS2024_PED = replace(
    BRATS2023_PED,
    name="brats2024-ped",
    title="BraTS 2024 PED",
    dataset_id=512,
    dataset_name="BraTS2024PED",
    folder_pattern=r"(?i)brats[-_ ]?(peds?[-_ ]?)?2024|^brats-peds-v1",
    # On disk: 1 enhancing, 2 non-enhancing, 3 cystic component, 4 edema; another order than in 2023.
    label_map={0: 0, 1: 3, 2: 2, 3: 4, 4: 1},
    regions={
        "whole_tumor": (1, 2, 3, 4),
        "tumor_core": (2, 3, 4),
        "enhancing_tumor": (3,),
        "cystic_component": (4,),
    },
    regions_class_order=(1, 2, 3, 4),
    also_scored={"NETC": (2,), "ED": (1,)},
    classes={"edema": 1, "necrosis_non_enhancing": 2, "enhancing": 3, "cystic_component": 4},
    platform=SYNAPSE_2024,
    archive=Archive(
        "BraTS-PEDs2024_Training/BraTS-PED-{number:05d}-00{visit}",
        "BraTS_Validation_Data/BraTS-PED-{number:05d}-00{visit}",
        ENDINGS_2023,
        first=(90001, 95001),
        visits=2,
    ),
    reference=BRATS2024_GLI.reference,
    citation=("Kazerooni et al., arXiv:2404.15009", MEDPERF),
)

BRATS2024_SSA = replace(
    BRATS2023_SSA,
    name="brats2024-ssa",
    title="BraTS 2024 SSA",
    dataset_id=513,
    dataset_name="BraTS2024SSA",
    folder_pattern=r"(?i)brats[-_ ]?2024",
    platform=SYNAPSE_2024,
    archive=Archive(
        "BraTS2024-SSA-Challenge-TrainingData/BraTS-SSA-{number:05d}-000",
        "BraTS2024-SSA-Challenge-ValidationData/BraTS-SSA-{number:05d}-000",
        ENDINGS_2023,
        first=(90001, 95001),
    ),
    reference=BRATS2024_GLI.reference,
    notes=("The training cases are those of 2023: only the name of the folder tells the two apart.",),
)

BRATS2024_GOAT = replace(
    BRATS2023_GLI,
    name="brats2024-goat",
    title="BraTS 2024 GoAT",
    dataset_id=514,
    dataset_name="BraTS2024GoAT",
    case_pattern=r"(?i:brats-goat)-\d{5}",
    patient_pattern=r".+",
    sibling_pattern=r".+",
    folder_pattern=r"(?i)^(?!.*2025).*goat",
    platform=replace(SYNAPSE_2021, grid=SRI24),
    archive=Archive(
        "MICCAI2024-BraTS-GoAT-TrainingData-With-GroundTruth/BraTS-GoAT-{number:05d}",
        "MICCAI2024-BraTS-GoAT-ValidationData/BraTS-GoAT-{number:05d}",
        ENDINGS_2023,
        first=(90001, 95001),
    ),
    reference=BRATS2024_GLI.reference,
    notes=(
        "The number of cases is known from one source.",
        "The data agreement names no paper for GoAT; the citations are those of the pre-treatment glioma.",
        "That the platform demands the grid is taken from its other tasks.",
    ),
)

BRATS_EDITIONS = (
    *(BRATS2018, BRATS2019, BRATS2020, BRATS2021),
    *(BRATS2023_GLI, BRATS2023_MEN, BRATS2023_MET, BRATS2023_PED, BRATS2023_SSA),
    *(BRATS2024_GLI, BRATS2024_MET, BRATS2024_PED, BRATS2024_SSA, BRATS2024_GOAT),
)
"""All of them."""
