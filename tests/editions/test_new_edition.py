"""A stranger's edition is one spec: nothing else is written to convert, recognise and submit it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from brats_like import SHAPE, save

from nnunetv2_mmkd.conversion.convert import convert
from nnunetv2_mmkd.editions.catalogue import EDITIONS, by_name
from nnunetv2_mmkd.editions.recognise import recognise
from nnunetv2_mmkd.editions.spec import Channel, EditionSpec, Platform
from nnunetv2_mmkd.submission.write import write_submission

PELVIS = EditionSpec(
    name="pelvis2030",
    title="Pelvis 2030",
    dataset_id=701,
    dataset_name="Pelvis2030",
    case_pattern=r"pelvis\d{4}_visit\d",
    patient_pattern=r"pelvis\d{4}",
    layout="files",
    label_suffixes=("truth",),
    channels=(Channel("t2", "T2", ("t2w",)), Channel("adc", "ADC", ("adc",))),
    label_map={0: 0, 10: 2, 20: 1, 21: 1},  # 21 is a slip for 20
    regions={"gland": (1, 2), "lesion": (2,)},
    regions_class_order=(1, 2),
    classes={"gland": 1, "lesion": 2},
    submission_name="{case}_pred.nii.gz",
    submission_labels={0: 0, 1: 20, 2: 10},
    platform=Platform("the platform", archives=(".tar.gz",), id_pattern=r"(\d{4}_visit\d)_pred\.nii\.gz"),
)


def test_one_spec_is_enough(tmp_path: Path, raw: Path) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:8], labels[8], labels[4:6] = 20, 21, 10
    for visit in (1, 2):
        for suffix in ("t2w", "adc")[:visit]:
            save(tmp_path / "src" / f"pelvis0001_visit{visit}_{suffix}.nii.gz", np.full(SHAPE, 3, np.int16))
        save(tmp_path / "src" / f"pelvis0001_visit{visit}_truth.nii.gz", labels)
    assert recognise([tmp_path / "src"], [*EDITIONS.values(), PELVIS]).spec is PELVIS
    target = convert(PELVIS, [tmp_path / "src"], 701, processes=1, show_progress=False)
    assert json.loads((target / "dataset.json").read_text())["missing_modalities"] == {"pelvis0001_visit1": ["adc"]}
    assert json.loads((target / "case_map.json").read_text())["pelvis0001_visit2"]["patient"] == "pelvis0001"
    shutil.copytree(target / "labelsTr", tmp_path / "predictions")
    archive = write_submission(
        PELVIS, tmp_path / "predictions", [tmp_path / "src"], tmp_path / "out", show_progress=False
    )
    assert archive.name == "pelvis2030_submission.tar.gz"
    submitted = np.asanyarray(nib.load(tmp_path / "out" / "pelvis0001_visit2_pred.nii.gz").dataobj)
    assert np.array_equal(submitted, np.where(labels == 21, 20, labels))


def test_a_year_later_is_one_line(tmp_path: Path) -> None:
    later = replace(EDITIONS["brats2024-gli"], name="brats2031-gli", folder_pattern="2031", sibling_pattern=r".*-2\d\d")
    save(tmp_path / "BraTS-GLI-00001-200" / "BraTS-GLI-00001-200-t1n.nii.gz", np.ones(SHAPE, np.uint8))
    assert recognise([tmp_path], [*EDITIONS.values(), later]).spec is later


@pytest.mark.parametrize("field", ["name", "dataset_id", "dataset_name"])
def test_two_editions_of_one_number_are_named(field: str) -> None:
    first, *_, last = EDITIONS.values()
    twin = replace(last, **{field: getattr(first, field)})
    with pytest.raises(ValueError, match=re.escape(f"{first.title} and {last.title} have the same {field}")):
        by_name([first, twin])
