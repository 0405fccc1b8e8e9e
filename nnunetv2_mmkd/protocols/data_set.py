"""A data set as splits and missing-rate tables see it: its training cases, modalities and folder for preprocessed data.

It need not come from this package's converter, and it need not be preprocessed yet.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import TURN, locked, write_json
from nnunetv2_mmkd.image_names import list_images, refuse_twins
from nnunetv2_mmkd.names import channel_suffixes
from nnunetv2_mmkd.nnunet_json import (
    DatasetJson,
    missing_modalities,
    read_dataset_json,
    read_json,
    read_object,
    value_of,
)
from nnunetv2_mmkd.paths import require_variables

SPLITS = "splits_final.json"
"""nnU-Net's file with the folds, in the data set's folder of ``nnUNet_preprocessed``."""


@dataclass(frozen=True)
class DataSet:
    """One data set of nnU-Net.

    Attributes:
        name: ``DatasetXXX_<name>``.
        preprocessed: its folder in ``nnUNet_preprocessed``, which may not exist yet.
        cases: identifiers of the cases with a label, sorted.
        modalities: canonical names in channel order.
        missing: case -> canonical names of the modalities it lacks anyway (``missing_modalities``).
        aliases: case -> other names that lists may use for it (``case_map.json`` of ``mmkd convert``).
        patients: case -> patient, where the case map says so.
        institutions: case -> institution, where the case map says so.
    """

    name: str
    preprocessed: Path
    cases: tuple[str, ...]
    modalities: tuple[str, ...]
    missing: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, tuple[str, ...]]
    patients: Mapping[str, str]
    institutions: Mapping[str, str]


def read_data_set(dataset_id: int) -> DataSet:
    """Find a data set by its number: raw data where they are, else preprocessed ones.

    Raises:
        InputError: a variable of nnU-Net is not set; no data set or several of this number; no ``dataset.json``; no
            case with a label.
    """
    require_variables(["nnUNet_preprocessed"])
    homes = [Path(os.environ[name]) for name in ("nnUNet_raw", "nnUNet_preprocessed") if os.environ.get(name)]
    names = {path.name for home in homes for path in home.glob(f"Dataset{dataset_id:03d}_*") if path.is_dir()}
    where = " and ".join(map(str, homes))
    if len(names) != 1:
        found = f"several data sets: {', '.join(sorted(names))}" if names else "no data set"
        raise InputError(f"-d {dataset_id}: there is {found} of this number in {where}")
    (name,) = names
    folders = [home / name for home in homes if (home / name / "dataset.json").is_file()]
    if not folders:
        raise InputError(f"{name} has no dataset.json in {where}: finish its conversion first")
    file = folders[0] / "dataset.json"
    dataset_json = read_dataset_json(file)
    cases = _labelled_cases(folders[0], dataset_json)
    if not cases:
        raise InputError(f"{folders[0]} has no case with a label: there is nothing to split")
    case_map = folders[0] / "case_map.json"
    entries = read_object(case_map) if case_map.is_file() else {}
    for case in entries:
        value_of(entries, case, dict, case_map)
    missing = declared_missing(dataset_json, file, folders[0], {*cases, *entries})
    return DataSet(
        name=name,
        preprocessed=Path(os.environ["nnUNet_preprocessed"]) / name,
        cases=cases,
        modalities=dataset_json.modalities,
        missing={case: names for case, names in missing.items() if case in set(cases)},
        aliases=_aliases(entries),
        patients=_noted(entries, "patient", cases),
        institutions=_noted(entries, "institution", cases),
    )


def declared_missing(
    dataset_json: DatasetJson, file: Path, raw: Path, cases: Iterable[str] = ()
) -> Mapping[str, tuple[str, ...]]:
    """``missing_modalities`` of a data set, checked against the cases of its raw folder, if that still exists.

    Args:
        dataset_json: checked.
        file: it is from.
        raw: the data set's folder in ``nnUNet_raw``; preprocessed data do not show the cases without a label.
        cases: further known cases.

    Raises:
        InputError: it names a case that the data set does not have.
    """
    if not (raw / "labelsTr").is_dir():
        return dataset_json.missing
    ending = dataset_json.file_ending
    images = (path.name for name in ("imagesTr", "imagesTs") for path in (raw / name).glob(f"*_????{ending}"))
    labels = (path.name.removesuffix(ending) for path in (raw / "labelsTr").glob(f"*{ending}"))
    known = {*cases, *labels, *(name.removesuffix(ending)[:-5] for name in images)}
    if "dataset" in dataset_json.content:
        known |= set(value_of(dataset_json.content, "dataset", dict, file))
    else:
        _refuse_lookalikes(raw, dataset_json)
    return missing_modalities(dataset_json.content, dataset_json.modalities, where=file, cases=known)


def _refuse_lookalikes(raw: Path, dataset_json: DatasetJson) -> None:
    """Refuse what looks like an image or a label of a data set and is none, and case names that are all but the same.

    Raises:
        InputError: there is one.
    """
    ending, numbers = dataset_json.file_ending, channel_suffixes(dataset_json.content)
    for folder in (raw / "imagesTr", raw / "labelsTr"):
        if not folder.is_dir():
            continue
        content = list_images(folder, ending)
        stems, absent = set(content.stems), {}
        if folder.name == "imagesTr":
            cases = {stem[:-5] for stem in stems}
            names = [(case, f"{case}_{number:04d}") for case in cases for number in numbers]
            absent = {name: f"case {case}" for case, name in names if name not in stems}
        refuse_twins(stems, folder)
        content.refuse_lookalikes(absent)


def write_preprocessed(folder: Path, contents: Mapping[str, Any], overwrite: bool) -> None:
    """Write JSON files into the data set's folder, which is made if it is absent; one run at a time.

    Args:
        folder: of ``nnUNet_preprocessed``.
        contents: name -> content, the most important file first, which is written last; None: no such file.
        overwrite: replace what says something else.

    Raises:
        InputError: a file exists and says something else, or cannot be written; nothing is written then.
    """
    with locked(folder, ".protocol", seconds=TURN):
        for name, content in contents.items():
            path = folder / name
            if path.is_file() and not overwrite and read_json(path) != content:
                raise InputError(
                    f"{path} exists and says something else; models may have been trained with it. Choose "
                    "--overwrite to replace it"
                )
        for name, content in reversed(list(contents.items())):
            if content is None:
                (folder / name).unlink(missing_ok=True)
            else:
                write_json(folder / name, content)


def _labelled_cases(folder: Path, dataset_json: DatasetJson) -> tuple[str, ...]:
    """Names as nnU-Net makes them: the keys of ``dataset``, or the labels without the file ending."""
    if "dataset" in dataset_json.content:
        return tuple(sorted(value_of(dataset_json.content, "dataset", dict, folder / "dataset.json")))
    ending = dataset_json.file_ending
    labels = next((folder / name for name in ("labelsTr", "gt_segmentations") if (folder / name).is_dir()), None)
    if labels is None:
        raise InputError(f"{folder} has neither labelsTr nor gt_segmentations: its training cases are not known")
    content = list_images(labels, ending)
    content.refuse_lookalikes({})
    refuse_twins(content.stems, labels)
    return tuple(content.stems)


def _noted(entries: Mapping[str, Mapping[str, Any]], what: str, cases: Iterable[str]) -> dict[str, str]:
    """What the case map says of each case."""
    return {case: str(entries[case][what]) for case in cases if entries.get(case, {}).get(what)}


def _aliases(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """The folder of each case and its last part; a folder that several cases share names none of them."""
    sources = {case: str(entry.get("source", "")) for case, entry in entries.items()}
    count = Counter(sources.values())
    return {case: (text, text.rsplit("/", 1)[-1]) for case, text in sources.items() if text and count[text] == 1}
