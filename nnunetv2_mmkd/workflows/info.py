"""What is installed and what there is to choose from, for ``mmkd info``; imports neither torch nor nnU-Net."""

from __future__ import annotations

import ast
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nnunetv2_mmkd import __version__
from nnunetv2_mmkd.classification.catalogue import RIVALS_ABOUT
from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.evaluation.metrics.lesion_tasks import LESION_TASKS
from nnunetv2_mmkd.evaluation.metrics.registry import METRICS
from nnunetv2_mmkd.paths import EXT_TRAINER, ext_trainer_value
from nnunetv2_mmkd.trainer_catalogue import STATUSES, TrainerEntry, endings_with_owners, owners_text, trainers_of
from nnunetv2_mmkd.training.suffixes import SUFFIXES

PACKAGES = (
    "nnunetv2", "torch", "batchgeneratorsv2", "dynamic-network-architectures", "numpy", "scipy", "SimpleITK", "nibabel",
    "submitit", "librosa",
)  # fmt: skip
"""Distributions whose versions a bug report needs; the last two are optional."""

FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def information() -> dict[str, Any]:
    """Everything ``mmkd info`` says, as JSON knows it.

    Raises:
        InputError: a file in a folder of ``nnUNet_extTrainer`` is not Python.
    """
    folders = ext_trainer_value().split(os.pathsep)
    return {
        "version": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": devices(),
        "folders": {name: os.environ.get(name) for name in (*FOLDERS, EXT_TRAINER)},
        "trainers": [asdict(entry) for folder in folders for entry in trainers_of(folder)],
        "suffixes": dict(SUFFIXES),
        "classification_rivals": dict(RIVALS_ABOUT),
        "editions": {spec.name: spec.title for spec in EDITIONS.values()},
        "metrics": {spec.name: spec.label() for spec in METRICS.values()},
        "lesion_tasks": {task.name: task.title for task in LESION_TASKS.values()},
    }


def devices() -> dict[str, Any]:
    """CPU cores that are ours, NVIDIA GPUs as nvidia-smi lists them, and what the installed torch was built for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu_cores": cores,
        "nvidia": _nvidia(),
        "mps": platform.system() == "Darwin" and platform.machine() == "arm64",
        "torch_built_for": _torch_build(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _nvidia() -> list[str]:
    """Name, memory and driver of each GPU; empty without nvidia-smi, or if it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in listed.stdout.splitlines() if line.strip()]


def _torch_build() -> str | None:
    """``"CUDA 12.8"``, ``"ROCm 6.4"`` or ``"CPU"``, from torch's version.py read as text; None without torch."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        module = ast.parse((Path(spec.origin).parent / "version.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return None
    values: dict[str, Any] = {}
    for node in module.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
            values[target.id] = value.value
    for key, title in (("cuda", "CUDA"), ("hip", "ROCm")):
        if values.get(key):
            return f"{title} {values[key]}"
    return "CPU"


def as_text(facts: dict[str, Any]) -> str:
    """:func:`information` for a terminal."""
    packages = ", ".join(f"{name} {found}" for name, found in facts["packages"].items() if found)
    absent = [name for name, found in facts["packages"].items() if found is None]
    if absent:
        packages += f"; not installed: {', '.join(absent)}"
    found = facts["devices"]
    gpus = found["nvidia"] or (["Apple GPU (mps)"] if found["mps"] else [])
    device = [f"{found['cpu_cores']} CPU core(s)", *gpus, f"torch is built for: {found['torch_built_for']}"]
    if not gpus:
        device.insert(1, "no GPU found")
    if found["nvidia"] and found["torch_built_for"] == "CPU":
        device.append("this torch cannot use the GPU: install torch for CUDA (pytorch.org/get-started)")
    trainers = [(entry["name"], entry["paper"] or "no paper", entry["status"]) for entry in facts["trainers"]]
    sections = {
        "Versions": [f"python {facts['python']} on {facts['system']}", packages],
        "Devices": device,
        "Folders": [f"{name}: {value or 'not set'}" for name, value in facts["folders"].items()],
        "Trainers": _columns(trainers),
        "Status of trainers; none was trained at nnU-Net's full length": _columns(list(STATUSES.items())),
        "Endings of trainer names, combined in any order": _columns(list(facts["suffixes"].items())),
        "Endings of single trainers": _columns(_own_endings(facts["trainers"])),
        "Rivals for classification (mmkd avmnist --methods, mmkd adni --methods)": _columns(
            list(facts["classification_rivals"].items())
        ),
        "Editions (mmkd convert)": _columns(list(facts["editions"].items())),
        "Metrics (mmkd evaluate --metrics)": _columns(list(facts["metrics"].items())),
        "Lesion-wise scores (mmkd evaluate --lesions)": _columns(list(facts["lesion_tasks"].items())),
    }
    blocks = [f"{title}\n" + "".join(f"  {line}\n" for line in lines) for title, lines in sections.items()]
    return f"nnunetv2-mmkd {facts['version']}\n\n" + "\n".join(blocks)


def _own_endings(trainers: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    entries = [TrainerEntry(**entry) for entry in trainers]
    return [(ending, text, owners_text(names, entries)) for ending, text, names in endings_with_owners(entries)]


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
