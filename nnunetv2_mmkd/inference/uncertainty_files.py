"""Where ``mmkd predict --uncertainty`` writes: next to the segmentations, in ``uncertainty/``.

``uncertainty/<region>/<name><file ending>`` is the map of a region, ``uncertainty/<name>.json`` are the numbers, where
``<name>`` is the name of the segmentation.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.files import read_marker

UNCERTAINTY = "uncertainty"
"""Name of the folder."""


def numbers_file(output: str) -> Path:
    """The file of the numbers of a segmentation, which is there when its maps are.

    Args:
        output: the segmentation's path, without ending.
    """
    return Path(os.path.dirname(output), UNCERTAINTY, os.path.basename(output) + ".json")


def numbers_of(output: str, start: str) -> dict[str, Any]:
    """Region -> the numbers of a segmentation, with paths relative to a folder; empty: there are none."""
    numbers = read_marker(numbers_file(output)) or {}
    folder = os.path.relpath(os.path.dirname(output) or ".", start or ".")
    return {
        region: {**each, "map": os.path.normpath(os.path.join(folder, each["map"]))}
        for region, each in numbers.items()
        if isinstance(each, dict)
    }


def remove_numbers(output: str, file_ending: str) -> None:
    """Remove what belongs to a segmentation that is replaced."""
    file = numbers_file(output)
    file.unlink(missing_ok=True)
    for image in file.parent.glob(f"*/{glob.escape(os.path.basename(output) + file_ending)}"):
        image.unlink(missing_ok=True)
