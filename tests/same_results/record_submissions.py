"""Archives for the platforms of the challenges."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from same_results.converted_phantoms import convert, phantom
from same_results.workbench import Bench


def record_submit(bench: Bench) -> None:
    """Submissions made of converted labels."""
    for edition, number, options in (
        ("brats2018", 641, []),
        ("brats2019", 642, []),
        ("brats2020", 643, ["--uncertainty"]),
        ("myops2020", 644, []),
        ("brats2023-gli", 645, ["--file_name", "{case}.nii.gz"]),
        ("brats2021", 646, ["--zip", "mine.tar.gz"]),
    ):
        name = f"submit/{edition} {' '.join(options)}".strip()
        with bench.part(name):
            full = edition == "brats2023-gli"  # its platform wants the edition's own grid
            more = ["--full_grid", "--size", 24] if full else []
            source = phantom(bench, edition, *more, cases=1 if full else 3, incomplete=not full)
            dataset = convert(bench, edition, number, source=source)
            predictions, out = bench.new("predictions"), bench.new("submission")
            for file in sorted((dataset / "labelsTr").glob("*.nii.gz")):
                shutil.copy(file, predictions)
                if "--uncertainty" in options:
                    shape = image_array(file).T.shape
                    values = np.random.default_rng(len(file.name)).random((3, *shape)).astype(np.float32)
                    case = file.name.removesuffix(".nii.gz")
                    np.savez_compressed(predictions / f"{case}.npz", probabilities=values)
            what = ["submit", edition, "-i", predictions, "-ref", source]
            bench.run(name, *what, "-o", out, "--disable_progress_bar", *options)
            bench.record.add_folder(name, out)
            archives = sorted(path for path in out.iterdir() if path.name.endswith((".zip", ".tar.gz")))
            for archive in archives:
                bench.run(f"{name}/check {archive.name}", "submit", edition, "-ref", source, "--check", archive)
            next(predictions.glob("*.nii.gz")).unlink()
            bench.run(f"{name}/refused", *what, "-o", bench.new("submission"), *options, expected=1)


def image_array(file: Path) -> Any:
    """The voxels of a NIfTI file."""
    return np.asanyarray(nibabel.load(file).dataobj)  # type: ignore[attr-defined]
