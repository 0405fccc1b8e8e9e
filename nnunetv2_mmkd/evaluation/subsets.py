"""Names of subsets of the modalities (``"t1+t1ce"``) and the order of a result table's rows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from importlib.resources import files
from itertools import combinations
from pathlib import Path

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.names import canonical, indices

SEPARATOR = "+"
"""Between the modalities of a subset's name."""

AVERAGE = "average"
"""What stands in the place of a subset in a row that averages over subsets; no subset may have this name."""

BRATS = frozenset({"t1", "t1ce", "t2", "flair"})
"""The four modalities of BraTS, whose tables have the row order of the papers."""


def subset_name(names: Iterable[str], modalities: Sequence[str]) -> str:
    """Name of a subset: canonical names joined by ``+`` in the data set's channel order.

    Args:
        names: modalities of the subset, aliases accepted, any order.
        modalities: modalities of the data set in channel order.

    Raises:
        InputError: an unknown modality, or none at all.
    """
    positions = indices(names, modalities)
    if not positions:
        raise InputError(f"an empty subset has no name: give at least one of {', '.join(map(canonical, modalities))}")
    return SEPARATOR.join(canonical(modalities[position]) for position in positions)


def parse_subset(text: str, modalities: Sequence[str]) -> tuple[str, ...]:
    """Modalities of a subset's name, canonical, in channel order (``"FLAIR+T1c"`` -> ``("t1ce", "flair")``).

    Args:
        text: names joined by ``+``, aliases accepted, any order.
        modalities: modalities of the data set in channel order.

    Raises:
        InputError: an unknown modality, or none at all.
    """
    parts = [part.strip() for part in text.split(SEPARATOR)]
    if not all(parts):
        raise InputError(f"subset {text!r}: expected modalities joined by '+', e.g. {all_subset_names(modalities)[-1]}")
    return tuple(subset_name(parts, modalities).split(SEPARATOR))


def all_subset_names(modalities: Sequence[str]) -> list[str]:
    """Names of all 2^M - 1 non-empty subsets: single modalities first, the full set last, else channel order."""
    return [
        subset_name(chosen, modalities)
        for size in range(1, len(modalities) + 1)
        for chosen in combinations(modalities, size)
    ]


def choose_subsets(chosen: Sequence[str], modalities: Sequence[str]) -> tuple[str, ...]:
    """Subset names from what the user types: ``all``, ``singles``, ``full``, or subsets such as ``t1+t2``.

    Raises:
        InputError: an unknown modality or word.
    """
    everything = all_subset_names(modalities)
    words = {"all": everything, "singles": list(modalities), "full": [everything[-1]]}
    names: list[str] = []
    for word in chosen:
        names += words.get(word.lower()) or [subset_name(parse_subset(word, modalities), modalities)]
    return tuple(name for name in everything if name in names)


def row_order(modalities: Sequence[str], template: str | Path | None = None) -> list[str]:
    """Names of all subsets in the order of a result table's rows.

    The order is that of the template: for the four modalities of BraTS by default MetaKD's Table 1
    (``results_templates/brats_subsets.csv``), for all others :func:`all_subset_names`.

    Args:
        modalities: modalities of the data set in channel order.
        template: CSV file with one column per modality (1 = available) and one row per subset; a column ``row`` is
            not read.

    Raises:
        InputError: the template has other modalities, a cell that is neither 0 nor 1, or lacks or repeats a subset.
    """
    if template is not None:
        try:
            text = Path(template).read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot read the table template {template}: {error.strerror}") from error
        return _parse_template(text, str(template), modalities)
    if {canonical(name) for name in modalities} == BRATS:
        name = "brats_subsets.csv"
        text = (files("nnunetv2_mmkd.results_templates") / name).read_text(encoding="utf-8")
        return _parse_template(text, name, modalities)
    return all_subset_names(modalities)


def bullet_order(modalities: Sequence[str]) -> tuple[str, ...]:
    """The modalities as columns of bullets: in the order in which the single ones follow one another in the rows."""
    return tuple(name for name in row_order(modalities) if SEPARATOR not in name)


def _parse_template(text: str, path: str, modalities: Sequence[str]) -> list[str]:
    rows = list(csv.DictReader(text.splitlines()))
    columns = [column for column in (rows[0] if rows else {}) if column != "row"]
    known = [canonical(name) for name in modalities]
    if sorted(map(canonical, columns)) != sorted(known):
        raise InputError(f"{path}: the columns are {', '.join(columns) or 'none'}; expected {', '.join(known)}")
    order = []
    for number, row in enumerate(rows, start=2):
        wrong = [column for column in columns if row[column] not in ("0", "1")]
        if wrong:
            raise InputError(f"{path}, line {number}: {wrong[0]} is {row[wrong[0]]!r}; expected 0 or 1")
        order.append(subset_name([column for column in columns if row[column] == "1"], modalities))
    if sorted(order) != sorted(all_subset_names(modalities)):
        raise InputError(f"{path}: expected each of the {2 ** len(known) - 1} non-empty subsets once")
    return order
