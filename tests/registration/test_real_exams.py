"""Real BraTS cases at 2 mm, their sequences moved by known motions: exactness, and another patient's sequence."""

from __future__ import annotations

from pathlib import Path

import pytest
import SimpleITK as sitk
from moved_exams import mean_surface_distance, moved

from nnunetv2_mmkd.registration.agreement import agreement
from nnunetv2_mmkd.registration.rigid import register

pytestmark = pytest.mark.slow

ONE, OTHER = "HGG/Brats18_TCIA01_201_1", "HGG/Brats18_TCIA02_370_1"
SPACING = (1.6, 1.6, 4.0)


def image(data: Path, case: str, name: str) -> sitk.Image:
    file = data / case / f"{Path(case).name}_{name}.nii.gz"
    kind = sitk.sitkUInt8 if name == "seg" else sitk.sitkFloat32
    whole = sitk.ReadImage(str(file), kind)
    return whole[::2, ::2, ::2] if name == "seg" else sitk.BinShrink(whole, [2, 2, 2])


def test_label_on_a_moved_t2(brats2018_data: Path) -> None:
    reference, label = (image(brats2018_data, ONE, name) for name in ("t1ce", "seg"))
    other = moved(image(brats2018_data, ONE, "t2"), label, SPACING, 5)
    found = register(reference, other.image)
    mapped = sitk.Resample(label, other.image, found.GetInverse(), sitk.sitkNearestNeighbor, 0.0, sitk.sitkUInt8)
    voxels = [sitk.GetArrayFromImage(each).T for each in (mapped, other.label)]
    assert mean_surface_distance(*voxels, SPACING) < min(SPACING) / 2
    assert not agreement(reference, other.image, found).objection()


def test_another_patient(brats2018_data: Path) -> None:
    reference, label = (image(brats2018_data, ONE, name) for name in ("t1ce", "seg"))
    other = moved(image(brats2018_data, OTHER, "t2"), label, SPACING, 5)
    found = register(reference, other.image)
    assert "as well as by chance" in agreement(reference, other.image, found).objection()
