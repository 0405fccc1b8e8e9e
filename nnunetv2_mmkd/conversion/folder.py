"""The data set's folder in nnUNet_raw: where it is, and which conversion it belongs to."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.disk import cannot_write
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import Marker
from nnunetv2_mmkd.paths import require_variables

INDENT = 4
"""Of the JSON files of a data set, as nnU-Net's."""

CONVERSION = Marker("mmkd_conversion.json", "a conversion", "choose another -d, or remove this folder", indent=INDENT)
"""First file of a data set: which conversion it belongs to."""


def raw_folder() -> Path:
    """nnU-Net's folder for raw data sets.

    Raises:
        InputError: the environment variable ``nnUNet_raw`` is not set.
    """
    require_variables(["nnUNet_raw"])
    return Path(os.environ["nnUNet_raw"])


def target_folder(dataset_id: int, name: str) -> Path:
    """``nnUNet_raw/DatasetXXX_<name>``.

    Raises:
        InputError: ``nnUNet_raw`` is not set, the id is not in 1..999, the name cannot be a folder's, or the id
            belongs to a data set of another name in any of nnU-Net's folders.
    """
    raw = raw_folder()
    if not 1 <= dataset_id <= 999:
        raise InputError(f"dataset id {dataset_id}: choose a number from 1 to 999")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name):
        raise InputError(f"dataset name {name!r}: use letters, digits, '_', '-' and '.' only, at most 100")
    prefix, own = f"Dataset{dataset_id:03d}", f"Dataset{dataset_id:03d}_{name}"
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        folder = os.environ.get(variable)
        paths = Path(folder).glob(f"{prefix}*") if folder else ()
        others = sorted(path.name for path in paths if path.is_dir() and path.name != own)
        if others:
            raise InputError(f"dataset id {dataset_id} is taken by {others[0]} (in {variable}); choose another -d")
    return raw / own


def settings_of(spec: EditionSpec, sources: Sequence[Path | str], labels: str) -> dict[str, Any]:
    """What makes two conversions the same one."""
    settings = {"edition": spec.name, "labels": labels, "sources": [os.path.realpath(source) for source in sources]}
    if not spec.has_own_layout:
        return settings
    own = {  # a user's own edition is not known by its name
        "channels": {channel.display: list(channel.suffixes) for channel in spec.channels},
        "templates": [spec.image_template, spec.label_template],
        "label_map": {str(value): to for value, to in spec.label_map.items()},
        "regions": {name: list(values) for name, values in spec.regions.items()},
        "classes": dict(spec.classes),
    }
    return {**settings, "definition": own}


def open_folder(target: Path, settings: dict[str, Any], with_test: bool) -> None:
    """Make the folder, its marker and the folders of images; remove what dead processes left half-written.

    Args:
        target: the data set.
        settings: see :func:`settings_of`.
        with_test: there are cases without a label.

    Raises:
        InputError: it belongs to another conversion, or cannot be written.
    """
    CONVERSION.claim(target, settings)
    try:
        for name in ("imagesTr", "labelsTr", *(("imagesTs",) if with_test else ())):
            (target / name).mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(target, error) from error
