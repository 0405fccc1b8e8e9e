"""Named label values of a user's own data set -> classes or regions of nnU-Net.

As in nnU-Net's ``dataset.json``: names of one value are classes; where a name has several values and they overlap with
another's, all names are regions, each with a head of its own. Values that no name tells apart become one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nnunetv2_mmkd.errors import InputError

_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class LabelScheme:
    """What an :class:`~.spec.EditionSpec` says about labels.

    Attributes:
        label_map: value on disk -> value in nnU-Net.
        classes: name -> nnU-Net value.
        regions: name -> nnU-Net values, large ones first; empty for classes.
        regions_class_order: nnU-Net value that each region paints.
        submission_labels: nnU-Net value -> value on disk, the smallest of those that became one.
    """

    label_map: Mapping[int, int]
    classes: Mapping[str, int]
    regions: Mapping[str, tuple[int, ...]]
    regions_class_order: tuple[int, ...]
    submission_labels: Mapping[int, int]


def label_scheme(named: Mapping[str, tuple[int, ...]]) -> LabelScheme:
    """Classes or regions, from the values of each name.

    Raises:
        InputError: a value that is none, two names of the same values, or regions that nnU-Net cannot decode: one that
            only holds others, or two that overlap where no name tells the overlap apart.
    """
    named = {name: values for name, values in named.items() if not (name == "background" and set(values) == {0})}
    for name, values in named.items():
        if name in ("background", "ignore"):
            raise InputError(
                f"label {name}: background is 0 by itself, and ignored voxels are not supported: leave it out"
            )
        if not values or min(values) < 1 or max(values) > _LARGEST:
            raise InputError(f"label {name}: expected values from 1 on (0 is background), e.g. {name}=1 or {name}=1,2")
    inside = {
        value: frozenset(name for name in named if value in named[name])
        for value in sorted({value for values in named.values() for value in values})
    }
    merged = list(dict.fromkeys(inside.values()))
    label_map = {0: 0, **{value: merged.index(names) + 1 for value, names in inside.items()}}
    submission = {to: value for value, to in sorted(label_map.items(), reverse=True)}
    values_of = {name: tuple(sorted({label_map[value] for value in values})) for name, values in named.items()}
    same: dict[tuple[int, ...], str] = {}
    for name, values in values_of.items():
        if same.setdefault(values, name) != name:
            raise InputError(f"the labels {same[values]} and {name} have the same values: leave one of them out")
    if all(len(values) == 1 for values in values_of.values()):
        return LabelScheme(label_map, {name: values[0] for name, values in values_of.items()}, {}, (), submission)
    regions = dict(sorted(values_of.items(), key=lambda each: -len(each[1])))
    classes, order = {}, []
    for position, (name, values) in enumerate(regions.items()):
        later = {other: set(of) & set(values) for other, of in list(regions.items())[position + 1 :]}
        own = sorted(set(values).difference(*later.values()))
        if not own:
            raise InputError(
                f"the region {name} only holds what {', '.join(other for other, of in later.items() if of)} have: "
                "nnU-Net needs a value that is in it alone; leave out one of them"
            )
        if len(own) > 1:
            where = "; ".join(f"{submission[value]} in {', '.join(sorted(merged[value - 1]))}" for value in own)
            raise InputError(
                f"the region {name} has values that lie in different regions ({where}), and nnU-Net could not tell "
                "them apart: give one of them a name of its own"
            )
        order.append(own[0])
        inner = [other for other, of in later.items() if of and not any(of < more for more in later.values())]
        classes[name if len(values) == 1 else f"{name}_without_{'_'.join(inner)}"] = own[0]
    return LabelScheme(label_map, classes, regions, tuple(order), submission)
