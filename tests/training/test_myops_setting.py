"""PASSION's setting on MyoPS by the commands: 2d, three modalities, missing rates .3, .5, .7, LV, RV, MYO per subject.

On heart phantoms. The scores are computed again from the files that were written and the phantoms' own labels.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.experiment_planning import plan_and_preprocess_api as nnunet
from nnunetv2.run.run_training import run_training
from tiny_nnunet import PLAIN, QuickFingerprint, inline_pools, set_variables, shrink

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.evaluation.figures import style

CASES, SIZE, DATASET = 8, 32, "Dataset520_MyoPS2020"
MODALITIES = ("bssfp", "lge", "t2")
SUBSETS = ("bssfp", "lge", "t2", "bssfp+lge", "bssfp+t2", "lge+t2", "bssfp+lge+t2")
ON_DISK = {"LV": (500,), "RV": (600,), "MYO": (200, 1220, 2221)}
IN_NNUNET = {"LV": (2,), "RV": (3,), "MYO": (1, 4, 5)}
HOW = ["-f", "0", "-device", "cpu", "-nps", "0", "-step_size", "1", "--disable_tta", "--disable_progress_bar"]


class Folders:
    """What :func:`tiny_nnunet.set_variables` needs to know, and the phantoms."""

    def __init__(self, root: Path) -> None:
        self.raw, self.preprocessed, self.source = root / "raw", root / "preprocessed", root / "source"
        for each in (self.raw, self.preprocessed):
            each.mkdir()

    def truth(self, case: str) -> np.ndarray:
        return array(self.source / "train25_myops_gd" / f"{case}_gd.nii.gz")


def array(file: Path) -> np.ndarray:
    return np.asanyarray(nib.load(file).dataobj)


def dice(predicted: np.ndarray, true: np.ndarray) -> float:
    """With the policy of the challenge for regions that are empty in both."""
    size = int(predicted.sum() + true.sum())
    return 2 * float((predicted & true).sum()) / size if size else 1.0


def plan(labels: str, folders: Folders) -> None:
    """Phantoms, conversion, plans of a small network, preprocessing."""
    how = ["-n", str(CASES), "--size", str(SIZE), "-np", "1", "--disable_progress_bar"]
    assert main(["phantom", "--edition", "myops2020", str(folders.source), *how]) == 0
    how = ["-d", "520", "--labels", labels, "-np", "1", "--disable_progress_bar"]
    assert main(["convert", "myops2020", str(folders.source), *how]) == 0
    nnunet.extract_fingerprint_dataset(520, QuickFingerprint, num_processes=1, show_progress_bar=False)
    nnunet.plan_experiments([520])
    file = folders.preprocessed / DATASET / f"{PLAIN}.json"
    plans = json.loads(file.read_text())
    configuration = shrink(plans)["configurations"]["2d"]
    configuration.update(patch_size=[SIZE, SIZE], batch_size=4)
    configuration["architecture"]["arch_kwargs"]["features_per_stage"] = [8, 16, 24]
    plans["configurations"] = {"2d": configuration}
    file.write_text(json.dumps(plans))
    nnunet.preprocess([520], PLAIN, ("2d",), (1,), show_progress_bar=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "labels"), [("nnUNetTrainerPASSION", "regions"), ("nnUNetTrainerPASSION_SharedStreams", "classes")]
)
def test_from_the_phantom_to_the_table(
    trainer: str,
    labels: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    one_thread: None,
) -> None:
    folders, results, out = Folders(tmp_path), tmp_path / "results", tmp_path / "out"
    set_variables(monkeypatch, folders, results)  # type: ignore[arg-type]
    inline_pools(monkeypatch)
    monkeypatch.setattr(style, "DPI", 60)
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")  # the planner wants a thread
    plan(labels, folders)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")

    assert main(["splits", "-d", "520", "patients"]) == 0
    capsys.readouterr()
    rates = ["--rates", "bssfp=0.3", "lge=0.5", "t2=0.7", "--seed", "3"]
    assert main(["rates", "-d", "520", "--tag", "myops357", *rates]) == 0
    printed = capsys.readouterr().out
    preprocessed = folders.preprocessed / DATASET
    fold = json.loads((preprocessed / "splits_final.json").read_text())[0]
    missing = json.loads((preprocessed / "mmkd_missing_myops357.json").read_text())["missing"]
    lacks = np.array([[name in missing.get(case, ()) for name in MODALITIES] for case in fold["train"]])
    assert (lacks.sum(1) < 3).all() and len(set(lacks.mean(0))) == 3
    assert f"fold 0, training ({len(lacks)})" + "".join(f"{rate:9.3f}" for rate in lacks.mean(0)) in printed

    name = f"{trainer}_myops357_2epochs_100iters_seed1"
    run_training(DATASET, "2d", 0, name, device=torch.device("cpu"))
    model = results / DATASET / f"{name}__nnUNetPlans__2d"
    method = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)["mmkd"]["method"]
    assert method["start"].numpy() == pytest.approx(1 / (1 - lacks.mean(0)))
    assert not torch.equal(method["start"], method["beta"])

    chosen = ["-d", "520", "-c", "2d", "-tr", name]
    assert main(["evaluate", *chosen, *HOW, "--names", "p", "--metrics", "dice", "-np", "1", "-o", str(out)]) == 0
    table = {
        (row["case"], row["subset"], row["region"]): float(row["value"])
        for row in csv.DictReader((out / "results.csv").open())
    }
    assert {key[:2] for key in table} == {(case, subset) for case in fold["val"] for subset in SUBSETS}
    expected, slices = {}, {}
    for case in fold["val"]:
        true = folders.truth(case)
        for subset in SUBSETS:
            predicted = array(out / "predictions" / "p" / subset / f"{case}.nii.gz")
            for region in ON_DISK:
                predicted_region, target = np.isin(predicted, IN_NNUNET[region]), np.isin(true, ON_DISK[region])
                expected[case, subset, region] = dice(predicted_region, target)
                slices[case, subset, region] = np.mean(
                    [dice(predicted_region[..., k], target[..., k]) for k in range(true.shape[2])]
                )
    assert {key: table[key] for key in expected} == pytest.approx(expected, abs=1e-9)
    assert any(0.1 < value < 1 and abs(value - slices[key]) > 1e-4 for key, value in expected.items())
    with (out / "tables" / "dice.csv").open() as file:
        rows = {row["subset"]: row for row in csv.DictReader(file)}
    assert tuple(rows) == (*SUBSETS, "average")
    for region in ON_DISK:
        means = [100 * np.mean([expected[case, subset, region] for case in fold["val"]]) for subset in SUBSETS]
        assert [float(row[f"{region} p"]) for row in rows.values()] == pytest.approx([*means, np.mean(means)])

    given = ["-i", str(folders.raw / DATASET / "imagesTr"), "-o", str(tmp_path / "alone"), "-npp", "0"]
    assert main(["predict", *chosen, *HOW, *given, "--missing", "lge", "t2"]) == 0
    report = json.loads((tmp_path / "alone" / "mmkd_report.json").read_text())
    assert len(report["cases"]) == CASES and all(entry["used"] == ["bssfp"] for entry in report["cases"].values())
    for case in fold["val"]:
        alone = array(tmp_path / "alone" / f"{case}.nii.gz")
        assert np.array_equal(alone, array(out / "predictions" / "p" / "bssfp" / f"{case}.nii.gz"))
    assert os.listdir(out / "figures")
