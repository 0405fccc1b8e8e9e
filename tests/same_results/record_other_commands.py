"""`mmkd adni` and `mmkd benchmark`."""

from __future__ import annotations

import csv

import nibabel
import numpy as np
from same_results.workbench import Bench


def record_adni(bench: Bench) -> None:
    """``mmkd adni`` on made-up subjects."""
    draw = np.random.default_rng(0)
    folder = bench.new("subjects")
    rows = []
    for number in range(90):
        label = int(draw.choice(3, p=(0.5, 0.3, 0.2)))
        there = draw.random(3) < 0.6
        there[number % 3] = True
        row = {"subject": f"s{number:03d}", "diagnosis": ("CN", "MCI", "AD")[label]}
        row["clinical:age"] = f"{65 + 6 * label + 3 * draw.standard_normal():.1f}" if there[0] else ""
        row["clinical:sex:category"] = str(draw.choice(["1", "2"])) if there[0] else ""
        row["genomic:rs1"] = str(draw.binomial(2, 0.2 + 0.3 * label)) if there[1] else ""
        row["imaging"] = f"s{number:03d}.nii.gz" if there[2] else ""
        if there[2]:
            volume = draw.standard_normal((10, 11, 9)).astype(np.float32) + 5
            volume[3:7, 3:7, 3:7] += 2 * label
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / row["imaging"])
        rows.append(row)
    with (folder / "subjects.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with bench.part("adni"):
        out = bench.new("adni")
        what = ["--csv", folder / "subjects.csv", "-o", out, "--epochs", 3, "--grid", 8, "--disable_progress_bar"]
        methods = ["--balance", "weights", "--methods", "ModalityDropout", "LCKD", "MetaKD"]
        bench.run("adni", "adni", *what, *methods)
        bench.record.add_folder("adni", out)


def record_benchmark(bench: Bench) -> None:
    """``mmkd benchmark``: what is counted of the networks of BraTS' topology; no times."""
    with bench.part("benchmark"):
        file = bench.new("benchmark") / "cost.json"
        what = ["-device", "cpu", "--steps", 0, "--features_scale", 0.25, "--patch", 64, 64, 64, "--batch_size", 1]
        bench.run("benchmark", "benchmark", "-tr", "nnUNetTrainerMetaKD", *what, "-o", file)
        bench.record.add_file("benchmark", file)
