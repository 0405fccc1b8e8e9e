"""Where output may go: to a folder that can be written to, is not read, and does not hold what nnU-Net keeps."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from nnunetv2_mmkd.errors import InputError

_OWN = frozenset({"dataset.json", "plans.json", "nnUNetPlans.json", "dataset_fingerprint.json", "splits_final.json"})
_LEAST = 1 << 20  # bytes
_OF_PREDICTIONS = ("mmkd_report", "predict_from_raw_data_args")  # nnU-Net copies dataset.json and plans.json beside it
_PARTS = re.compile(r"(images|labels)(Tr|Ts|Val)|gt_segmentations")


def check_writable(folder: str) -> None:
    """Check, without writing anything, that a folder can be made and written to.

    Raises:
        InputError: it cannot.
    """
    parent = os.path.abspath(folder)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        raise InputError(f"output folder {folder} cannot be made: {parent} is not a folder. Choose another one")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"output folder {folder}: {parent} is not writable. Choose another one or change its rights")
    free = shutil.disk_usage(parent).free
    if free < _LEAST:  # nnU-Net would cut off the JSON that it writes
        raise InputError(
            f"output folder {folder}: its disk is full, {free} bytes are left. Free space there, or choose another one"
        )


def check_apart(output: str | Path, *inputs: str | Path | None) -> None:
    """Check that output does not go into a folder, or file, that is read, under whatever name.

    Raises:
        InputError: it would.
    """
    for each in inputs:
        if each is not None and os.path.realpath(each) == os.path.realpath(output):
            raise InputError(
                f"output {output} is {each}, which is read: results would be mixed with input. Choose another output"
            )


def check_not_nnunets(output: str | Path) -> None:
    """Check that output does not go into what nnU-Net keeps: a data set, raw or preprocessed, a model, or a part.

    Raises:
        InputError: it would.
    """
    folder = Path(os.path.realpath(output))
    names = set(os.listdir(folder)) if folder.is_dir() else set()
    if any(name.startswith(_OF_PREDICTIONS) for name in names):
        return
    own = sorted(names & _OWN)
    what = f"the folder of a data set or model, by its {own[0]}" if own else ""
    if any(re.fullmatch(r"checkpoint_\w+\.pth", name) for name in names):
        what = "a fold of a model"
    elif any(name.endswith(".b2nd") for name in names):
        what = "a folder of preprocessed cases"
    elif names and _PARTS.fullmatch(folder.name) and any((folder.parent / name).is_file() for name in _OWN):
        what = f"a part of the data set {folder.parent}"
    if what:
        raise InputError(f"output folder {output} is {what}: output would be mixed with it. Choose another folder")


def check_overwrites_nothing_else(output: str | Path) -> None:
    """Check that an output file does not replace what nnU-Net keeps: its JSON, an image, a checkpoint.

    Raises:
        InputError: it would.
    """
    name = os.path.basename(output)
    if os.path.lexists(output) and (name in _OWN or re.search(r"\.(nii|nii\.gz|pth|npz|pkl|b2nd)$", name)):
        raise InputError(f"output file {output} exists and is none of ours: choose another name")
