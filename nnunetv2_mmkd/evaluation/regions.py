"""The regions that a data set is evaluated on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.label_names import check_same_labels, label_meanings

SHORT: Mapping[str, str] = {
    "whole_tumor": "WT",
    "tumor_core": "TC",
    "enhancing_tumor": "ET",
    "whole tumor": "WT",
    "tumor core": "TC",
    "enhancing tumor": "ET",
    "resection_cavity": "RC",
    "cystic_component": "CC",
}
"""Names in ``dataset.json`` -> the field's own."""


def evaluated_regions(dataset_json: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Region -> the label values it contains.

    A data set that this package converted is evaluated on its edition's regions, also when it was converted with
    ``--labels classes``. Any other is evaluated on the regions or classes that its ``dataset.json`` declares.

    Args:
        dataset_json: nnU-Net's ``dataset.json``.

    Raises:
        InputError: it declares no label but the background, or not the labels of its edition.
    """
    declared = _labels(dataset_json)
    name = str(dataset_json.get("edition", "")).lower()
    edition = EDITIONS.get(name)
    if edition is not None and edition.regions:
        regions = {**edition.regions, **edition.also_scored}
        missing = {value for values in regions.values() for value in values} - label_values(dataset_json)[0]
        meanings, own = label_meanings(declared), edition.label_meanings()
        if common := {name: values for name, values in meanings.items() if name in own}:
            check_same_labels(common, own, "dataset.json", edition.title)
        if missing:
            raise InputError(
                f"dataset.json: a data set of {edition.title} has the label {min(missing)}, but 'labels' does not "
                "declare it; take the key 'edition' out to evaluate the labels that are declared"
            )
    else:
        regions = {
            name: tuple(int(part) for part in value) if isinstance(value, list | tuple) else (int(value),)
            for name, value in declared.items()
            if name not in ("background", "ignore")
        }
    if not regions:
        raise InputError("dataset.json declares no label but the background: there is nothing to evaluate")
    return {SHORT.get(name.lower(), name): values for name, values in regions.items()}


def label_values(dataset_json: Mapping[str, Any]) -> tuple[frozenset[int], int | None]:
    """All values that a label map of a data set may hold (0 included), and the one that is ignored, if any."""
    labels = _labels(dataset_json)
    ignored = labels.get("ignore")
    values = {0}
    for value in labels.values():
        values |= set(value) if isinstance(value, list | tuple) else {int(value)}
    return frozenset(int(value) for value in values), None if ignored is None else int(ignored)


def _labels(dataset_json: Mapping[str, Any]) -> Mapping[str, Any]:
    labels = dataset_json.get("labels")
    if not isinstance(labels, Mapping):
        raise InputError("dataset.json has no 'labels'; expected nnU-Net's dataset.json of the labels")
    return labels
