"""What the labels of a ``dataset.json`` mean, by name: values of one data set in terms of another's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nnunetv2_mmkd.errors import InputError

LABEL_ALIASES: Mapping[str, str] = {
    "whole tumor": "wt",
    "whole tumour": "wt",
    "tumor core": "tc",
    "tumour core": "tc",
    "enhancing tumor": "et",
    "enhancing tumour": "et",
    "enhancing": "et",
    "ncr": "necrosis non enhancing",
    "ncr net": "necrosis non enhancing",
    "net": "necrosis non enhancing",
    "netc": "necrosis non enhancing",
    "necrosis": "necrosis non enhancing",
    "necrotic": "necrosis non enhancing",
    "necrotic core": "necrosis non enhancing",
    "non enhancing tumor core": "necrosis non enhancing",
    "ed": "edema",
    "oedema": "edema",
    "snfh": "edema",
    "peritumoral edema": "edema",
    "rc": "resection cavity",
    "cc": "cystic component",
}
"""Other names of labels and regions (lower case, words apart) -> the name that is compared."""

Meanings = Mapping[str, frozenset[int]]
"""Name of a label or region -> the values of the voxels in it."""


def label_meanings(labels: Mapping[str, Any]) -> dict[str, frozenset[int]]:
    """What is declared under ``labels``, by canonical name; without background and ignored voxels.

    Where two names would be one and have different values (necrosis and non-enhancing tumour apart), both stay.
    """
    meanings: dict[str, frozenset[int]] = {}
    for name, value in labels.items():
        values = frozenset(map(int, value)) if isinstance(value, list | tuple) else frozenset([int(value)])
        if name != "ignore" and values != {0}:
            meanings[re.sub(r"[\W_]+", " ", name.casefold()).strip()] = values
    named: dict[str, set[frozenset[int]]] = {}
    for name, values in meanings.items():
        named.setdefault(LABEL_ALIASES.get(name, name), set()).add(values)
    return {
        name if len(named[LABEL_ALIASES.get(name, name)]) > 1 else LABEL_ALIASES.get(name, name): values
        for name, values in meanings.items()
    }


def heads_of(values: frozenset[int], order: Sequence[frozenset[int]]) -> list[int] | None:
    """The heads whose probabilities sum up to that of a region: its own, or those of its labels; None: there are none.

    >>> labels, regions = [frozenset([value]) for value in range(3)], [frozenset([1, 2]), frozenset([2])]
    >>> heads_of(frozenset([1, 2]), labels), heads_of(frozenset([1, 2]), regions), heads_of(frozenset([1]), regions)
    ([1, 2], [0], None)

    Args:
        values: of the region's voxels.
        order: the values that each head stands for.
    """
    if values in order:
        return [order.index(values)]
    parts = [index for index, each in enumerate(order) if each <= values]
    return parts if frozenset().union(*(order[index] for index in parts)) == values else None


def translation(found: Meanings, wanted: Meanings, where: object) -> dict[int, int]:
    """Values of one data set -> those of another that lie in the same labels and regions; background stays.

    Args:
        found: of the values that are there.
        wanted: of the values that are expected.
        where: file of ``found``, for the message.

    Raises:
        InputError: a name of ``found`` is unknown, or a value has no counterpart or several.
    """
    unknown = [name for name in found if name not in wanted]
    if unknown:
        raise InputError(
            f"{where}: the label {unknown[0]!r} is unknown; expected {', '.join(wanted)}. Labels are matched by name: "
            "give them these names"
        )
    values = {0: 0}
    for value in sorted(frozenset().union(*found.values())):
        inside = [name for name in found if value in found[name]]
        counterparts = sorted(
            each
            for each in frozenset().union(*wanted.values())
            if all((each in wanted[name]) == (name in inside) for name in found)
        )
        if value in counterparts:
            values[value] = value
        elif len(counterparts) == 1:
            values[value] = counterparts[0]
        else:
            raise InputError(
                f"{where}: label {value} lies in {', '.join(inside)}; expected labels have "
                f"{'no value' if not counterparts else 'several values'} for that"
            )
    return values


def check_same_labels(found: Meanings, wanted: Meanings, where: object, other: object) -> None:
    """Refuse data sets whose labels of one name have different values.

    Args:
        found: of one data set.
        wanted: of the other.
        where: file of ``found``, for the message.
        other: file of ``wanted``, for the message.

    Raises:
        InputError: they differ, or have no name in common although they have several labels.
    """
    common = [name for name in found if name in wanted]
    for name in common:
        if found[name] != wanted[name]:
            raise InputError(
                f"{where}: the label {name!r} has the values {_shown(found[name])}, in {other} it has "
                f"{_shown(wanted[name])}: scores would be of different things. Bring both to the same values"
            )
    if not common and max(len(found), len(wanted)) > 1:
        raise InputError(
            f"{where} names the labels {', '.join(found)}, {other} {', '.join(wanted)}: they cannot be compared by "
            "name. Give labels that mean the same the same names"
        )


def _shown(values: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(values)))
