"""The data set folder in nnUNet_raw: where it is, whether it may be written, and what completes it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2_mmkd import __version__
from nnunetv2_mmkd.conversion.case import STATE, CaseRecord
from nnunetv2_mmkd.editions.discover import CaseFiles
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import Marker, temporary_folder, within, write_json
from nnunetv2_mmkd.nnunet_json import read_object

INDENT = 4  # of the JSON files of a data set, as nnU-Net's

CONVERSION = Marker("mmkd_conversion.json", "a conversion", "choose another -d, or remove this folder", indent=INDENT)
"""First file of a data set: which conversion it belongs to."""


def raw_folder() -> Path:
    """nnU-Net's folder for raw data sets.

    Raises:
        InputError: the environment variable ``nnUNet_raw`` is not set.
    """
    value = os.environ.get("nnUNet_raw")
    if not value:
        raise InputError(
            "the environment variable nnUNet_raw is not set; set it to the folder for raw data sets, e.g. "
            "export nnUNet_raw=/path/to/nnUNet_raw (PowerShell: $env:nnUNet_raw = '...')"
        )
    return Path(value)


def target_folder(dataset_id: int, name: str) -> Path:
    """``nnUNet_raw/DatasetXXX_<name>``.

    Raises:
        InputError: ``nnUNet_raw`` is not set, the id is not in 1..999, the name cannot be a folder's, or the id
            belongs to a data set of another name in any of nnU-Net's folders.
    """
    raw = raw_folder()
    if not 1 <= dataset_id <= 999:
        raise InputError(f"dataset id {dataset_id}: choose a number from 1 to 999")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise InputError(f"dataset name {name!r}: use letters, digits, '_', '-' and '.' only")
    prefix, own = f"Dataset{dataset_id:03d}", f"Dataset{dataset_id:03d}_{name}"
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        folder = os.environ.get(variable)
        paths = Path(folder).glob(f"{prefix}*") if folder else ()
        others = sorted(path.name for path in paths if path.is_dir() and path.name != own)
        if others:
            raise InputError(f"dataset id {dataset_id} is taken by {others[0]} (in {variable}); choose another -d")
    return raw / own


def marker_of(spec: EditionSpec, sources: Sequence[Path], labels: str) -> dict[str, Any]:
    """What makes two conversions the same one."""
    return {"edition": spec.name, "labels": labels, "sources": [str(Path(source).resolve()) for source in sources]}


def open_target(target: Path, marker: dict[str, Any], with_test: bool) -> None:
    """Make the folder and its marker, remove what an interrupted run left half-written.

    Raises:
        InputError: it cannot be written.
    """
    CONVERSION.claim(target, marker)
    try:
        for name in ("imagesTr", "labelsTr", STATE, *(("imagesTs",) if with_test else ())):
            (target / name).mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {target}: {error.strerror or error}") from error


def forget(target: Path, record: CaseRecord) -> None:
    """Remove the outputs and the record of a case that is no longer part of the conversion, or has changed."""
    for name in (*record.outputs, f"{STATE}/{record.case}.json"):
        within(target, name).unlink(missing_ok=True)


def finish(
    target: Path,
    spec: EditionSpec,
    labels: str,
    cases: Sequence[CaseFiles],
    records: Sequence[CaseRecord],
    institutions: Mapping[str, str],
) -> None:
    """Write ``case_map.json``, then ``dataset.json`` as the last file of all."""
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json  # heavy; workers do without

    write_json(target / "case_map.json", _case_map(spec, cases, records, institutions), INDENT)
    declared, order = spec.dataset_labels(labels)
    temporary = temporary_folder(target)
    generate_dataset_json(
        str(temporary),
        channel_names=spec.channel_names(),
        labels=declared,
        num_training_cases=sum(files.label is not None for files in cases),
        file_ending=".nii.gz",
        regions_class_order=order,
        dataset_name=target.name,
        reference=spec.reference,
        license=spec.licence,
        converted_by=f"nnunetv2-mmkd {__version__}",
        edition=spec.name,
        recommended_configuration=spec.configuration,
        missing_modalities={record.case: record.missing for record in records if record.missing},
    )
    content = read_object(temporary / "dataset.json")
    content["citation"] = list(spec.citation)  # generate_dataset_json stores the release under this key
    write_json(target / "dataset.json", content, INDENT)
    shutil.rmtree(temporary)


def _case_map(
    spec: EditionSpec, cases: Sequence[CaseFiles], records: Sequence[CaseRecord], institutions: Mapping[str, str]
) -> dict[str, Any]:
    missing = {record.case: record.missing for record in records}
    return {
        files.case: {
            "edition": spec.name,
            "source": files.relative,
            "path": str(files.folder),
            "grade": files.grade,
            "patient": spec.patient(files.case),
            "institution": institutions.get(files.case),
            "modalities": [channel.name for channel in spec.channels if channel.name not in missing[files.case]],
            "images": "imagesTs" if files.label is None else "imagesTr",
        }
        for files in cases
    }
