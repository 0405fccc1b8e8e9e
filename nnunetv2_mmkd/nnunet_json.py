"""nnU-Net's JSON files, read and checked at one place: every error names the file and the key.

``dataset.json``, plans and ``splits_final.json`` are checked here. This package's own JSON files are read here, too;
what their keys mean is checked where it is known.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.label_names import Meanings, label_meanings
from nnunetv2_mmkd.names import canonical, indices, modality_names

T = TypeVar("T")

MISSING = "missing_modalities"
"""Key of ``dataset.json``: case -> the modalities that it lacks."""

ORIENTATION = "orientation"
"""Key of ``mmkd`` in plans: how all training images are stored, e.g. LPS; absent where there are several ways."""

_LARGEST_LABEL = 65535  # nnU-Net exports 16 bits at most

_KINDS: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


@dataclass(frozen=True)
class DatasetJson:
    """A checked ``dataset.json``.

    Attributes:
        content: all of it, as nnU-Net takes it.
        modalities: canonical names, in channel order.
        file_ending: of images and segmentations, e.g. ``".nii.gz"``.
        missing: case -> canonical names of the modalities that it lacks, in channel order.
    """

    content: dict[str, Any]
    modalities: tuple[str, ...]
    file_ending: str
    missing: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Plans:
    """Checked plans.

    Attributes:
        content: all of them, as nnU-Net takes them.
        configurations: their names, sorted.
        modalities: canonical names in channel order, if a trainer of this package wrote them; else empty.
        subset: the modalities that a specialist takes, in channel order; empty for a model for any subset.
    """

    content: dict[str, Any]
    configurations: tuple[str, ...]
    modalities: tuple[str, ...]
    subset: tuple[str, ...]


@dataclass(frozen=True)
class FoldCases:
    """One fold of ``splits_final.json``: case identifiers."""

    train: tuple[str, ...]
    val: tuple[str, ...]


def read_json(file: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: it is not readable, not UTF-8, not JSON, or nested too deeply.
    """
    path = Path(file)
    try:
        if path.is_fifo():
            raise InputError("it is a pipe")
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_object)
    except InputError as error:
        reason = str(error)
    except OSError as error:
        reason = error.strerror or str(error)
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 text: {error}"
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:
        reason = f"not JSON: {error}"
    raise InputError(f"{file} cannot be read ({reason}): restore it")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different; JSON readers else keep the last one without a word."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise InputError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands in it twice")
    return content


def read_object(file: str | Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object.

    Raises:
        InputError: as :func:`read_json`, or it holds something else.
    """
    return _of_kind(read_json(file), dict, str(file))


def value_of(content: Mapping[str, Any], key: str, kind: type[T], where: str | Path) -> T:
    """The value of a required key.

    Args:
        content: an object.
        key: of it.
        kind: ``dict``, ``list``, ``str`` or ``int``.
        where: file, for the message.

    Raises:
        InputError: the key does not exist, or its value is of another type.
    """
    if key not in _of_kind(content, dict, str(where)):
        raise InputError(f"{where} has no {key!r}: expected {_KINDS[kind]}")
    return _of_kind(content[key], kind, f"{where}: {key!r}")


def names_of_list(content: Mapping[str, Any], key: str, where: str | Path) -> tuple[str, ...]:
    """The value of a required key, a list of texts.

    Raises:
        InputError: as :func:`value_of`, or an entry is no text.
    """
    return tuple(_of_kind(name, str, f"{where}: an entry of {key!r}") for name in value_of(content, key, list, where))


def labels_beside(folder: str | Path, *, parent: bool = False) -> tuple[Path, Meanings] | None:
    """What the ``dataset.json`` in a folder of segmentations says their labels mean, and the file; None without one.

    Args:
        folder: of segmentations.
        parent: look in the folder above, too, where nnU-Net's raw and preprocessed data have it.

    Raises:
        InputError: the file is broken.
    """
    for place in (Path(folder), Path(folder).absolute().parent) if parent else (Path(folder),):
        file = place / "dataset.json"
        if os.path.lexists(file) and "labels" in (content := read_object(file)):
            check_labels(content, file)
            return file, label_meanings(content["labels"])
    return None


def read_dataset_json(file: str | Path) -> DatasetJson:
    """Read ``dataset.json``.

    Raises:
        InputError: as :func:`read_object` and :func:`check_dataset_json`.
    """
    return check_dataset_json(read_object(file), file)


def check_dataset_json(content: dict[str, Any], where: str | Path = "dataset.json") -> DatasetJson:
    """Check what ``dataset.json`` holds.

    Args:
        content: of the file.
        where: the file, for messages.

    Raises:
        InputError: no ``channel_names``, ``labels`` or ``file_ending``, one of the wrong type, regions that contradict
            ``regions_class_order``, or bad ``missing_modalities`` (see :func:`missing_modalities`).
    """
    modalities = modality_names(content, where)
    check_labels(content, where)
    _check_targets(content["labels"], where)
    ending = value_of(content, "file_ending", str, where)
    if not re.fullmatch(r"(\.\w+)+", ending):
        raise InputError(f"{where}: 'file_ending' is {ending!r}: expected an ending such as '.nii.gz'")
    return DatasetJson(content, modalities, ending, missing_modalities(content, modalities, where=where))


def missing_modalities(
    content: Mapping[str, Any],
    modalities: Sequence[str],
    *,
    where: str | Path = "dataset.json",
    cases: Collection[str] | None = None,
) -> dict[str, tuple[str, ...]]:
    """What ``dataset.json`` declares missing.

    Args:
        content: of ``dataset.json``.
        modalities: of the data set.
        where: the file, for messages.
        cases: all cases of the data set, where they are known.

    Returns:
        Case -> canonical names in channel order, as far as a case lacks any.

    Raises:
        InputError: it is no object of lists of names, or an unknown modality or case is in it.
    """
    declared = value_of(content, MISSING, dict, where) if content.get(MISSING) is not None else {}
    missing: dict[str, tuple[str, ...]] = {}
    for case in declared:
        names = names_of_list(declared, case, f"{where}, {MISSING}")
        if cases is not None and case not in cases:
            raise InputError(f"{where}, {MISSING}: the data set has no case {case!r}; correct the name or take it out")
        try:
            missing[case] = tuple(modalities[index] for index in indices(names, modalities))
        except InputError as error:
            raise InputError(f"{where}, {MISSING} of case {case}: {error}") from error
    return {case: names for case, names in missing.items() if names}


def check_labels(content: Mapping[str, Any], where: str | Path) -> None:
    """Check that labels are values or lists of values, and that each region has a value that it alone paints last.

    Args:
        content: of ``dataset.json``.
        where: the file, for messages.

    Raises:
        InputError: labels of the wrong type, no background, or regions that contradict ``regions_class_order``.
    """
    labels = value_of(content, "labels", dict, where)
    if labels.get("background") != 0 or isinstance(labels["background"], bool):
        raise InputError(f"{where}: 'labels' must have 'background': 0, as nnU-Net asks")
    for name, value in labels.items():
        if value == []:
            raise InputError(f"{where}: label {name!r} is an empty list: expected label values")
        for each in value if isinstance(value, list | tuple) else [value]:
            if not 0 <= _of_kind(each, int, f"{where}: label {name!r}") <= _LARGEST_LABEL:
                raise InputError(
                    f"{where}: label {name!r} has the value {str(each)[:12]}: expected 0 to {_LARGEST_LABEL}"
                )
    if not any(isinstance(value, list | tuple) and len(value) > 1 for value in labels.values()):
        return
    order = value_of(content, "regions_class_order", list, where)
    regions = {name: value if isinstance(value, list | tuple) else [value] for name, value in labels.items()}
    regions = {name: values for name, values in regions.items() if name != "ignore" and set(values) != {0}}
    if len(order) != len(regions):
        raise InputError(
            f"{where}: 'regions_class_order' has {len(order)} entries, 'labels' has {len(regions)} regions "
            f"({', '.join(regions)}); give one label value per region"
        )
    for index, (value, name) in enumerate(zip(order, regions, strict=True)):
        if _of_kind(value, int, f"{where}: an entry of 'regions_class_order'") not in regions[name]:
            raise InputError(
                f"{where}: 'regions_class_order' has {value!r} for the region {name!r}, whose labels are "
                f"{regions[name]}"
            )
        later = [other for other in list(regions)[index + 1 :] if value in regions[other]]
        if later:
            raise InputError(
                f"{where}: 'regions_class_order' has {value} for the region {name!r}, but {later[0]!r}, which is "
                f"painted later, also has the label {value}: no voxel could be {value}. Order 'labels' from large "
                "regions to small, and give each region a label that no later one has"
            )


def _check_targets(labels: Mapping[str, Any], where: str | Path) -> None:
    """Check that labels can be trained on: something besides background, without gaps, the ignore label behind all."""
    values = {name: value if isinstance(value, list | tuple) else [value] for name, value in labels.items()}
    ignore = values.pop("ignore", None)
    regions = any(len(each) > 1 for each in values.values())
    found = [value for each in values.values() for value in each]
    if set(found) == {0}:
        raise InputError(f"{where}: 'labels' has nothing but background: expected what shall be segmented")
    if not regions and sorted(found) != list(range(len(found))):
        raise InputError(
            f"{where}: 'labels' has the values {', '.join(map(str, sorted(found)))}: expected 0, 1, 2, ... without "
            "gaps, each once, as nnU-Net asks"
        )
    if ignore is not None and ignore != [max(found) + 1]:
        raise InputError(
            f"{where}: label 'ignore' is {labels['ignore']}: expected {max(found) + 1}, one more than the largest"
        )


def read_plans(file: str | Path) -> Plans:
    """Read plans (``nnUNetPlans.json``, or ``plans.json`` of a model folder).

    Raises:
        InputError: as :func:`read_object`, no ``configurations``, or an ``mmkd`` entry of the wrong type.
    """
    return check_plans(read_object(file), file)


def check_plans(content: dict[str, Any], where: str | Path = "plans.json") -> Plans:
    """Check what plans hold.

    Args:
        content: of the file.
        where: the file, for messages.

    Raises:
        InputError: as :func:`read_plans`.
    """
    if "configurations" not in content:
        raise InputError(f"{where} has no 'configurations', so these are no plans of nnU-Net: restore or choose them")
    configurations = value_of(content, "configurations", dict, where)
    for key in ("dataset_name", "plans_name"):
        _check_folder_name(content, key, where)
    for name in configurations:
        inside = f"{where}, configurations, {name}"
        value_of(configurations, name, dict, f"{where}, configurations")
        _check_folder_name({"name": name}, "name", inside)
        _check_folder_name(configurations[name], "data_identifier", inside)
    entry = value_of(content, "mmkd", dict, where) if "mmkd" in content else {}
    for key, kind in {"exclusive": bool, "network": dict}.items():
        _of_kind(entry.get(key, kind()), kind, f"{where}, mmkd: {key!r}")
    turned = _of_kind(entry.get(ORIENTATION, "LPS"), str, f"{where}, mmkd: {ORIENTATION!r}")
    if sorted("RLAPSI".find(letter) // 2 for letter in turned) != [0, 1, 2]:
        raise InputError(
            f"{where}, mmkd: {ORIENTATION!r} is {turned!r}: expected where the three axes point to, e.g. LPS. Restore "
            "the plans of the training"
        )
    modalities, subset = (
        tuple(map(canonical, names_of_list(entry, key, f"{where}, mmkd"))) if key in entry else ()
        for key in ("modalities", "subset")
    )
    return Plans(content, tuple(sorted(configurations)), modalities, subset)


def _check_folder_name(content: Mapping[str, Any], key: str, where: str | Path) -> None:
    """Check a name that nnU-Net makes folders' names of, if it is there."""
    if key in content:
        name = _of_kind(content[key], str, f"{where}: {key!r}")
        if name in ("", ".", "..") or not name.isprintable() or "/" in name or "\\" in name:
            raise InputError(f"{where}: {key!r} is {name!r}: expected the name of a folder in nnU-Net's folders")


def read_splits(file: str | Path) -> tuple[FoldCases, ...]:
    """Read ``splits_final.json``.

    Raises:
        InputError: as :func:`read_json`, or it is no list of ``{"train": [cases], "val": [cases]}``.
    """
    splits = []
    for index, fold in enumerate(_of_kind(read_json(file), list, str(file))):
        where = f"{file}, fold {index}"
        fold = _of_kind(fold, dict, where)
        splits.append(FoldCases(names_of_list(fold, "train", where), names_of_list(fold, "val", where)))
    return tuple(splits)


def _of_kind(value: Any, kind: type[T], what: str) -> T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{what} is {_KINDS.get(type(value), type(value).__name__)}: expected {_KINDS[kind]}")
    return value
