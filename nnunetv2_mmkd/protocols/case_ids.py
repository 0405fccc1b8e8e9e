"""Ids of the literature's lists and tables: reading them, and finding the cases of a data set that they mean."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.protocols.data_set import DataSet

DECORATION = re.compile(r"(?:HGG?_|LGG?_)?(?P<case>.+?)(?:_vol|_seg)?(?:\.npy|\.npz|\.h5|\.pkl|\.nii|\.nii\.gz)?")
"""What the literature's repositories put around a case's name: ``HG_BraTS20_Training_001_vol.npy``."""


@dataclass(frozen=True)
class ListedId:
    """An id as it stands in a file.

    Attributes:
        text: the id.
        where: file and line, for messages.
        row: the other columns of its row, where the file is a table.
    """

    text: str
    where: str
    row: Mapping[str, str]


def read_list(path: Path) -> list[ListedId]:
    """Read one id a line; empty lines and lines that begin with ``#`` are left out.

    Raises:
        InputError: the file cannot be read or holds no id.
    """
    lines = [line.strip() for line in _text(path).splitlines()]
    ids = [
        ListedId(line, f"{path}, line {number}", {})
        for number, line in enumerate(lines, 1)
        if line and not line.startswith("#")
    ]
    if not ids:
        raise InputError(f"{path} holds no id: a list has one id a line")
    return ids


def read_listed_ids(path: Path, id_column: str, columns: Sequence[str]) -> list[ListedId]:
    """Read a CSV file by its header: the order of its columns does not matter.

    Args:
        path: the file.
        id_column: column with the ids.
        columns: other columns that must exist. Case is ignored.

    Raises:
        InputError: the file cannot be read, lacks a column or a value, or holds no row.
    """
    reader = csv.DictReader(_text(path).splitlines())
    try:
        header = {name.strip().lower(): name for name in reader.fieldnames or () if name}
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path} is no CSV file ({error})") from error
    for column in (id_column, *columns):
        if column.lower() not in header:
            raise InputError(f"{path} has no column {column!r}: its columns are {', '.join(header) or 'none'}")
    ids = []
    for number, row in rows:
        where = f"{path}, line {number}"
        values = {column: (row[header[column.lower()]] or "").strip() for column in (id_column, *columns)}
        for column, value in values.items():
            if not value:
                raise InputError(f"{where}: the column {column!r} is empty")
        ids.append(ListedId(values[id_column], where, values))
    if not ids:
        raise InputError(f"{path} holds no row below its header")
    return ids


def match(ids: Sequence[ListedId], data: DataSet, partial: bool = False) -> tuple[dict[str, ListedId], list[str]]:
    """Find the cases that ids mean.

    An id is looked for as it is among the cases, then among the names of the case map, then the same without what the
    literature puts around it (:data:`DECORATION`), then all of that in any case. The first that hits counts.

    Args:
        ids: from one or more files.
        data: the data set.
        partial: leave out ids that the data set does not have, instead of an error.

    Returns:
        case -> its id, in the order of ``ids``; and the ids left out.

    Raises:
        InputError: an id could mean several cases; two ids mean the same case; an id that the data set does not have.
    """
    indexes = _indexes(data)
    found: dict[str, ListedId] = {}
    unknown = []
    for listed in ids:
        case = _find(listed, indexes)
        if case is None:
            unknown.append(listed)
        elif case in found:
            raise InputError(f"case {case} is named twice: {found[case].where}, and {listed.where}. Remove one")
        else:
            found[case] = listed
    if unknown and not partial:
        left = [case for case in data.cases if case not in found]
        raise InputError(
            f"{len(unknown)} ids are no training cases of {data.name}: "
            + first_few((f"{listed.text} ({listed.where})" for listed in unknown), 8)
            + (f". {len(left)} of its cases are named by no id: {first_few(left, 8)}" if left else "")
            + ". Choose --partial to leave these ids out"
        )
    return found, [listed.text for listed in unknown]


def bare(text: str) -> str:
    """An id without folders and without what the literature puts around it."""
    matched = DECORATION.fullmatch(text.replace("\\", "/").rsplit("/", 1)[-1])
    return matched["case"] if matched else text


def _indexes(data: DataSet) -> list[_Index]:
    """Where to look, in order: cases, then the case map's names; as they are, then in any case."""
    own = [(case, case) for case in data.cases]
    others = [(name, case) for case in data.cases for name in data.aliases.get(case, ())]
    indexes = []
    for spelling in (str, str.casefold):
        for pairs in (own, others):
            cases_of: dict[str, set[str]] = {}
            for name, case in pairs:
                cases_of.setdefault(spelling(name), set()).add(case)
            indexes.append(_Index(spelling, cases_of))
    return indexes


def _find(listed: ListedId, indexes: Sequence[_Index]) -> str | None:
    for pair in (indexes[:2], indexes[2:]):
        for text in (listed.text, bare(listed.text)):
            for index in pair:
                hits = index.cases_of.get(index.spelling(text), set())
                if len(hits) > 1:
                    raise InputError(
                        f"{listed.where}: {listed.text!r} could be any of {first_few(sorted(hits))}: write the "
                        "case's name"
                    )
                if hits:
                    return next(iter(hits))
    return None


@dataclass(frozen=True)
class _Index:
    spelling: Callable[[str], str]
    cases_of: Mapping[str, set[str]]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text ({error})") from error
