"""Names of modalities: aliases, a data set's channel order, what a user types. Needs neither torch nor nnU-Net."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nnunetv2_mmkd.errors import InputError, choices

ALIASES: Mapping[str, str] = {
    "t1n": "t1",
    "t1w": "t1",
    "t1c": "t1ce",
    "t1gd": "t1ce",
    "t1wce": "t1ce",
    "t1wks": "t1ce",
    "t1post": "t1ce",
    "t2w": "t2",
    "t2f": "flair",
    "fl": "flair",
    "c0": "bssfp",
    "de": "lge",
}
"""Other names of a modality -> the name this package uses."""


def canonical(name: str) -> str:
    """The name this package uses for a modality: lower case, aliases resolved (``"T1Gd"`` -> ``"t1ce"``)."""
    key = name.strip().lower()
    return ALIASES.get(key, key)


def channel_suffixes(dataset_json: Mapping[str, Any]) -> tuple[int, ...]:
    """The numbers that images of the M channels end in, in channel order: the keys of ``channel_names``, ascending.

    nnU-Net sorts the files of a case, so that a data set with the channels 0, 1 and 3 has three.

    Args:
        dataset_json: as :func:`modality_names` has checked it.
    """
    return tuple(sorted(map(int, dataset_json["channel_names"])))


def modality_names(dataset_json: Mapping[str, Any], where: object = "dataset.json") -> tuple[str, ...]:
    """Names of the modalities of a data set, canonical, in channel order.

    Args:
        dataset_json: nnU-Net's ``dataset.json`` with ``channel_names`` (``{"0": "T1", ...}``).
        where: the file, for messages.

    Raises:
        InputError: no ``channel_names``, or not numbers -> names; or two channels have the same name (they could not
            be told apart by name).
    """
    channels = dataset_json.get("channel_names")
    if channels is None and "modality" in dataset_json:
        raise InputError(
            f"{where}: 'modality' is nnU-Net v1's key; rename it to 'channel_names', or convert the data set with "
            "nnUNetv2_convert_old_nnUNet_dataset"
        )
    if not isinstance(channels, Mapping) or not all(str(key).isdecimal() for key in channels):
        raise InputError(f'{where}: \'channel_names\' must be {{"0": name, "1": name, ...}}, not {channels!r}')
    if not channels or not all(isinstance(name, str) and name.strip() for name in channels.values()):
        raise InputError(f"{where}: 'channel_names' must give each channel a name, not {channels!r}")
    numbers = [int(key) for key in channels]
    if len(set(numbers)) < len(numbers) or max(numbers) > 9999:
        raise InputError(
            f"{where}: channel_names has the keys {', '.join(map(str, channels))}; expected different numbers of at "
            "most four digits, those that the names of the images end in"
        )
    names = tuple(canonical(channels[key]) for key in sorted(channels, key=int))
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(
            f"{where}: channel_names {list(channels.values())} name the modality {doubled[0]!r} more than once; "
            "give each channel a name of its own"
        )
    return names


def indices(names: Iterable[str], modalities: Sequence[str]) -> list[int]:
    """Channel positions of modalities given by name or alias, ascending, without repetition.

    Raises:
        InputError: a name that is not among ``modalities``.
    """
    known = [canonical(modality) for modality in modalities]
    found = set()
    for name in names:
        if canonical(name) not in known:
            raise InputError(f"unknown modality {name!r}: this model or data set has {choices(canonical(name), known)}")
        found.add(known.index(canonical(name)))
    return sorted(found)


def parse_names(text: str | Sequence[str]) -> tuple[str, ...]:
    """Split ``"t1ce flair"``, ``"t1ce,flair"`` or a list of such into names."""
    parts = [text] if isinstance(text, str) else list(text)
    return tuple(name for part in parts for name in part.replace(",", " ").split())
