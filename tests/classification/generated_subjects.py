"""An ADNI-like data set made up: three classes, tables and small volumes, each missing for 30 to 70 % of subjects."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np

RATES = {"clinical": 0.3, "genomic": 0.5, "biospecimen": 0.7, "imaging": 0.5}
CLASSES = ("CN", "MCI", "AD")
SHARES = (0.5, 0.35, 0.15)


def write_sheet(folder: Path, count: int = 120, seed: int = 0, volumes: bool = True) -> Path:
    """Write ``subjects.csv`` and ``volumes/`` into a folder; the class shifts every modality's values."""
    random = np.random.default_rng(seed)
    head = ["subject", "diagnosis", "clinical:age", "clinical:sex:category", "clinical:PTADDX"]
    head += ["genetic:rs1", "genomic:rs2", "biospecimen:abeta", "biospecimen:lab", "imaging"]
    (folder / "volumes").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        label = int(random.choice(3, p=SHARES))
        present = {name: random.random() > rate for name, rate in RATES.items()}
        if not any(present.values()):
            present["clinical"] = True
        row = dict.fromkeys(head, "")
        row |= {"subject": f"s{number:03d}", "diagnosis": CLASSES[label]}
        if present["clinical"]:
            age = "" if random.random() < 0.1 else f"{65 + 6 * label + 3 * random.standard_normal():.1f}"
            row |= {
                "clinical:age": age,
                "clinical:sex:category": random.choice(["1", "2"]),
                "clinical:PTADDX": str(label),
            }
        if present["genomic"]:
            row |= {
                "genetic:rs1": str(random.binomial(2, 0.2 + 0.3 * label)),
                "genomic:rs2": str(random.binomial(2, 0.5)),
            }
        if present["biospecimen"]:
            row |= {"biospecimen:abeta": f"{200 - 30 * label + 20 * random.standard_normal():.1f}"}
            row |= {"biospecimen:lab": random.choice(["A", "B"])}
        if present["imaging"] and volumes:
            values = random.standard_normal((12, 14, 10)).astype(np.float32) + 5
            values[3:8, 3:8, 3:8] += 2 * label
            values[:2] = 0
            row["imaging"] = f"volumes/s{number:03d}.nii.gz"
            nib.save(nib.Nifti1Image(values, np.eye(4)), folder / row["imaging"])
        if not any(row[name] for name in head[2:]):
            row["clinical:age"] = "70"
        rows.append(row)
    file = folder / "subjects.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, head)
        writer.writeheader()
        writer.writerows(rows)
    return file
