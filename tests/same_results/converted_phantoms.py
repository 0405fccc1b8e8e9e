"""Phantoms of the challenges, converted for several sections."""

from __future__ import annotations

import re
from pathlib import Path

from same_results.workbench import Bench


def phantom(bench: Bench, edition: str, *options: object, cases: int = 4, incomplete: bool = True) -> Path:
    """A phantom of an edition; the second labelled case lacks a modality."""
    folder = bench.new("phantom")
    size = [] if "--full_grid" in options else ["--size", 48 if edition == "myops2020" else 24]
    code, _ = bench.mmkd(
        "phantom", folder, "--edition", edition, "-n", cases, *size, "-np", 1, "--disable_progress_bar", *options
    )
    if code:
        raise RuntimeError(f"mmkd phantom --edition {edition}: exit code {code}")
    if incomplete:
        images = sorted(path for path in folder.rglob("*.nii*") if not re.search(r"[_-](seg|gd)\.", path.name))
        lacking = [path for path in images if re.search(r"(t1ce|t1c|DE)\.nii", path.name)]
        lacking[1].unlink()
    return folder


def conversion_home(bench: Bench) -> dict[str, Path]:
    """nnU-Net's folders for conversions, apart from those of trainings."""
    home = bench.root / "conversions"
    folders = {f"nnUNet_{part}": home / part for part in ("raw", "preprocessed", "results")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    return folders


def convert(bench: Bench, edition: str, number: int, *options: object, source: Path | None = None) -> Path:
    """Convert a phantom; returns the data set's folder. Where it is there already, nothing is done."""
    folders = conversion_home(bench)
    raw = folders["nnUNet_raw"]
    if not list(raw.glob(f"Dataset{number}_*")):
        source = source or phantom(bench, edition, "--validation", 1)
        with bench.variables(**folders):
            what = ["convert", edition, source, "-d", number, "-np", 1, "--disable_progress_bar", *options]
            code, _ = bench.mmkd(*what)
        if code:
            raise RuntimeError(f"mmkd {' '.join(map(str, what))}: exit code {code}")
    (dataset,) = raw.glob(f"Dataset{number}_*")
    return dataset
