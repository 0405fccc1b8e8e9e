"""What the demo writes about its predictions: Dice by hand, the report of ``mmkd evaluate``, a picture."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.workflows.demo.report import write_demo_report

NAMES = {"t1+t1ce+t2+flair": "full", "t1+t2+flair": "T1ce missing"}
DATASET = {
    "channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"},
    "file_ending": ".nii.gz",
    "labels": {"background": 0, "whole_tumor": [1, 2, 3], "tumor_core": [2, 3], "enhancing_tumor": [3]},
    "regions_class_order": [1, 2, 3],
}


def save(file: Path, values: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0])), file)


def test_dice_report_and_picture(tmp_path: Path) -> None:
    truth = np.zeros((16, 16, 4), np.uint8)
    truth[4:12, 4:12, 1:3] = 1
    half = truth.copy()
    half[8:] = 0
    for case in ("a", "b"):
        save(tmp_path / "raw" / "labelsTr" / f"{case}.nii.gz", truth)
        save(tmp_path / "raw" / "imagesTr" / f"{case}_0003.nii.gz", np.ones(truth.shape, np.float32) + truth)
        for subset, values in zip(NAMES, (truth, half), strict=True):
            save(tmp_path / "predictions" / subset / f"{case}.nii.gz", values)
    (tmp_path / "raw" / "dataset.json").write_text(json.dumps(DATASET))
    lines = write_demo_report(tmp_path / "raw", "MetaKD", tmp_path / "predictions", NAMES, tmp_path / "out")
    assert [line.split() for line in lines] == [
        ["mean", "Dice", "|", "WT", "|", "TC", "|", "ET"],
        ["full", "|", "1.000", "|", "nan", "|", "nan"],
        ["T1ce", "missing", "|", "0.667", "|", "nan", "|", "nan"],
    ]
    dice = pd.read_csv(tmp_path / "out" / "dice.csv")
    assert list(dice.columns) == ["prediction", "case", "region", "dice"]
    assert list(dice["prediction"]) == ["full"] * 6 + ["T1ce missing"] * 6
    assert dice[dice["region"] == "WT"]["dice"].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3])
    report = tmp_path / "out" / "report"
    assert len(pd.read_csv(report / "results.csv")) == 12 and "66.67" in (report / "tables" / "dice.md").read_text()
    overlay = (report / "figures" / "overlay_a.png").read_bytes()
    assert (tmp_path / "out" / "demo.png").read_bytes() == overlay and (report / "figures" / "overlay_b.png").is_file()
    (tmp_path / "predictions" / "t1+t2+flair" / "b.nii.gz").unlink()
    with pytest.raises(InputError, match="case b has no prediction with"):
        write_demo_report(tmp_path / "raw", "MetaKD", tmp_path / "predictions", NAMES, tmp_path / "again")
