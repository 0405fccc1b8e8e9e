"""All editions.

To add one, write its spec in the file of its challenge, list it in the tuple at the end of that file, and write its
script ``dataset_conversion/Dataset5xx_<Name>.py``. The tests run over all editions by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from nnunetv2_mmkd.editions.brats import BRATS_EDITIONS
from nnunetv2_mmkd.editions.brats2025 import BRATS2025_EDITIONS
from nnunetv2_mmkd.editions.custom import ENDINGS, read_edition
from nnunetv2_mmkd.editions.fets import FETS_EDITIONS
from nnunetv2_mmkd.editions.isles import ISLES_EDITIONS
from nnunetv2_mmkd.editions.myops import MYOPS_EDITIONS
from nnunetv2_mmkd.editions.open_ms import OPEN_MS_EDITIONS
from nnunetv2_mmkd.editions.prostate import PROSTATE_EDITIONS
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError, choices


def by_name(specs: Sequence[EditionSpec]) -> dict[str, EditionSpec]:
    """Editions by name.

    Raises:
        ValueError: two have one name, one number or one name of a data set; the message names them.
    """
    for first, second in combinations(specs, 2):
        for field in ("name", "dataset_id", "dataset_name"):
            if getattr(first, field) == getattr(second, field):
                raise ValueError(
                    f"the editions {first.title} and {second.title} have the same {field}, {getattr(first, field)}: "
                    "give each its own"
                )
    return {spec.name: spec for spec in specs}


EDITIONS: dict[str, EditionSpec] = by_name(
    (
        *(*BRATS_EDITIONS, *BRATS2025_EDITIONS, *FETS_EDITIONS, *MYOPS_EDITIONS),
        *(*ISLES_EDITIONS, *PROSTATE_EDITIONS, *OPEN_MS_EDITIONS),
    )
)
"""All editions, by the name the user types."""


def get_edition(name: str) -> EditionSpec:
    """The edition of a name, in any case; ``-``, ``_`` and spaces may be left out; or that in a YAML file.

    Raises:
        InputError: an unknown name, or as :func:`.custom.read_edition`.
    """
    if name.lower().endswith(ENDINGS):
        own = read_edition(Path(name).expanduser())
        if own.name in EDITIONS:
            raise InputError(f"{name}: the name {own.name!r} is that of {EDITIONS[own.name].title}: choose another")
        return own
    spec = {_plain(known): spec for known, spec in EDITIONS.items()}.get(_plain(name))
    if spec is None:
        raise InputError(f"unknown edition {name!r}: give a YAML file, or choose from {choices(name, EDITIONS)}")
    return spec


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
