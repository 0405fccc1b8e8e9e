"""Small synthetic cases in the layout of every edition: what its archives look like when they are unpacked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from brats_like import AFFINE, SHAPE, save

from nnunetv2_mmkd.dataset_conversion.spec import EditionSpec

OLD = ("_t1", "_t1ce", "_t2", "_flair", "_seg")
NEW = ("-t1n", "-t1c", "-t2w", "-t2f", "-seg")


@dataclass(frozen=True)
class Layout:
    """Where an edition's archives put a training case and a validation case, and how their files end.

    ``label_folder`` is relative to the case's; where a case is no folder, the last part is its name only.
    """

    training: str
    validation: str
    endings: tuple[str, ...] = OLD
    extension: str = ".nii.gz"
    label_folder: str = "."

    def folder(self, label: bool) -> str:
        return self.training if label else self.validation

    def case(self, label: bool) -> str:
        return Path(self.folder(label)).name


LAYOUTS: dict[str, Layout] = {
    "brats2018": Layout(
        "MICCAI_BraTS_2018_Data_Training/HGG/Brats18_TCIA08_167_1",
        "MICCAI_BraTS_2018_Data_Validation/Brats18_CBICA_AAM_1",
    ),
    "brats2019": Layout(
        "MICCAI_BraTS_2019_Data_Training/LGG/BraTS19_TCIA08_167_1",
        "MICCAI_BraTS_2019_Data_Validation/BraTS19_CBICA_AAM_1",
    ),
    "brats2020": Layout(
        "BraTS2020_TrainingData/MICCAI_BraTS2020_TrainingData/BraTS20_Training_001",
        "BraTS2020_ValidationData/MICCAI_BraTS2020_ValidationData/BraTS20_Validation_001",
        extension=".nii",
    ),
    "brats2021": Layout(
        "RSNA_ASNR_MICCAI_BraTS2021_TrainingData_16July2021/BraTS2021_00000",
        "RSNA_ASNR_MICCAI_BraTS2021_ValidationData/BraTS2021_00001",
    ),
    **{
        f"brats2023-{task.lower()}": Layout(
            f"ASNR-MICCAI-BraTS2023-{task}-Challenge-TrainingData/BraTS-{task}-00008-000",
            f"ASNR-MICCAI-BraTS2023-{task}-Challenge-ValidationData/BraTS-{task}-00001-000",
            NEW,
        )
        for task in ("GLI", "MEN", "MET", "PED", "SSA")
    },
    "brats2024-gli": Layout("training_data1_v2/BraTS-GLI-02062-100", "validation_data/BraTS-GLI-02073-101", NEW),
    "brats2024-met": Layout(
        "MICCAI-BraTS2024-MET-Challenge-TrainingData_1/BraTS-MET-00001-000",
        "MICCAI-BraTS2024-MET-Challenge-Validation/BraTS-MET-00805-000",
        NEW,
    ),
    "brats2024-ped": Layout(
        "BraTS-PEDs2024_Training/BraTS-PED-00001-000", "BraTS_Validation_Data/BraTS-PED-00228-000", NEW
    ),
    "brats2024-ssa": Layout(
        "BraTS2024-SSA-Challenge-TrainingData/BraTS-SSA-00002-000",
        "BraTS2024-SSA-Challenge-ValidationData/BraTS-SSA-00126-000",
        NEW,
    ),
    "brats2024-goat": Layout(
        "MICCAI2024-BraTS-GoAT-TrainingData-With-GroundTruth/BraTS-GoAT-00000",
        "MICCAI2024-BraTS-GoAT-ValidationData/BraTS-GoAT-00400",
        NEW,
    ),
    "fets2021": Layout(
        "MICCAI_FeTS2021_TrainingData/FeTS21_Training_001", "MICCAI_FeTS2021_ValidationData/FeTS21_Validation_001"
    ),
    "fets2022": Layout("MICCAI_FeTS2022_TrainingData/FeTS2022_00000", "MICCAI_FeTS2022_ValidationData/FeTS2022_00001"),
    "fets2024": Layout("MICCAI_FeTS2024_TrainingData/FeTS2022_00000", "MICCAI_FeTS2024_ValidationData/FeTS2022_00001"),
    "myops2020": Layout(
        "train25/myops_training_101",
        "test20/myops_test_201",
        ("_C0", "_DE", "_T2", "_gd"),
        label_folder="../train25_myops_gd",
    ),
}
"""By the name of the edition."""


def truth(spec: EditionSpec, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A label map with every value that the edition has on disk, each in a slab of its own."""
    values = np.zeros(shape, np.int16 if max(spec.label_map) > 255 else np.uint8)
    for index, value in enumerate(spec.allowed_labels):
        values[2 * index : 2 * index + 2, 2:10, 2:8] = value
    return values


def write(
    spec: EditionSpec,
    root: Path,
    *,
    label: bool = True,
    missing: Iterable[str] = (),
    shape: tuple[int, ...] = SHAPE,
    folder: str | None = None,
) -> Path:
    """Write one case in the edition's layout below ``root``; returns its folder.

    Args:
        spec: the edition.
        root: where its archives would be unpacked.
        label: a training case, or a validation case (without label).
        missing: canonical names of the modalities that have no file.
        shape: of the images.
        folder: another folder of the case, below ``root``; the case is named after it.
    """
    layout = LAYOUTS[spec.name]
    folder = folder or layout.folder(label)
    case = Path(folder).name
    place = root / (folder if spec.layout == "folders" else Path(folder).parent)
    rng = np.random.default_rng(0)
    for channel, ending in zip(spec.channels, layout.endings, strict=False):
        voxels = rng.integers(1, 1000, shape).astype(np.int16)
        if channel.name not in set(missing):
            save(place / f"{case}{ending}{layout.extension}", voxels, AFFINE)
    if label:
        save(place / layout.label_folder / f"{case}{layout.endings[-1]}{layout.extension}", truth(spec, shape), AFFINE)
    return place
