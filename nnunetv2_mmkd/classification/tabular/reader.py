"""Subjects from a CSV of tabular modalities and, for the imaging, paths of volumes.

The layout, one line per subject::

    subject,diagnosis,clinical:age,clinical:sex:category,biospecimen:abeta,genomic:rs429358,imaging
    s001,MCI,71.5,F,,0,volumes/s001.nii.gz
    s002,CN,64,M,201.3,,

``subject`` is a name of its own, ``diagnosis`` the class. A column of a table is ``modality:name``. It holds numbers;
or categories, if one of its cells is no number or its title ends in ``:category``. A modality whose cells are all empty
is missing; single empty cells are imputed. ``imaging`` is a path, relative to the CSV; empty if there is no volume.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_mmkd.errors import InputError

SUBJECT, DIAGNOSIS, IMAGING = "subject", "diagnosis", "imaging"

TABLES = ("clinical", "genomic", "biospecimen")
"""Tabular modalities, in the order of the printed table."""

SAME: Mapping[str, str] = {"genetic": "genomic"}
"""Other names of a modality."""

EXCLUDED = ("PTCOGBEG", "PTADDX", "PTADBEG")
"""Clinical columns that are left out because they tell the diagnosis (MetaKD §7)."""


@dataclass(frozen=True)
class Column:
    """A column of a tabular modality.

    Attributes:
        modality: whose.
        name: without modality.
        numeric: numbers, or categories.
        cells: by subject; NaN, or an empty text, where there is nothing.
    """

    modality: str
    name: str
    numeric: bool
    cells: tuple[float, ...] | tuple[str, ...]


@dataclass(frozen=True)
class Sheet:
    """What the CSV holds.

    Attributes:
        subjects: their names.
        diagnoses: their classes.
        columns: of the tabular modalities.
        volumes: path of each subject's volume, None if there is none; empty without a column ``imaging``.
        left_out: columns that are excluded because they tell the diagnosis.
    """

    subjects: tuple[str, ...]
    diagnoses: tuple[str, ...]
    columns: tuple[Column, ...]
    volumes: tuple[Path | None, ...]
    left_out: tuple[str, ...] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that the CSV has columns of; the imaging last."""
        named = {column.modality for column in self.columns}
        return (*(name for name in TABLES if name in named), *([IMAGING] if self.volumes else []))


def read_sheet(file: Path, exclude: Sequence[str] = EXCLUDED) -> Sheet:
    """Read a CSV of the layout above.

    Args:
        file: UTF-8, with commas.
        exclude: names of columns to leave out, in any case.

    Raises:
        InputError: it cannot be read; an unknown or doubled column; a line with other than the expected number of
            cells; a subject without name or diagnosis, twice, or with nothing; a volume that is not there; no table
            and no volume at all, or fewer than two diagnoses.
    """
    head, rows = _cells(file)
    plan, left_out = _plan(head, file, {name.lower() for name in exclude})
    subjects = _named(rows, head, SUBJECT, file)
    diagnoses = _named(rows, head, DIAGNOSIS, file)
    for line, name in enumerate(subjects, start=2):
        if name in subjects[: line - 2]:
            raise InputError(f"{file}, line {line}: subject {name} is there twice; give each subject one line")
    if len(set(diagnoses)) < 2:
        raise InputError(f"{file}: all subjects are {diagnoses[0]}; at least two diagnoses are needed")
    columns = tuple(_column(modality, name, kind, [row[at] for row in rows]) for at, modality, name, kind in plan)
    volumes: tuple[Path | None, ...] = ()
    if IMAGING in head:
        volumes = tuple(_volume(row[head.index(IMAGING)], file, name) for row, name in zip(rows, subjects, strict=True))
    sheet = Sheet(subjects, diagnoses, columns, volumes, left_out)
    if not sheet.modalities:
        raise InputError(f"{file}: has neither a table nor the column {IMAGING!r}; a table's columns are modality:name")
    for place, name in enumerate(subjects):
        if not any(has(sheet, place).values()):
            raise InputError(
                f"{file}, line {place + 2}: subject {name} has nothing, all of {', '.join(sheet.modalities)} are "
                "empty; leave the subject out"
            )
    return sheet


def has(sheet: Sheet, place: int) -> dict[str, bool]:
    """Which modalities the subject in this place has: some cell of the table is filled, or there is a volume."""
    there = dict.fromkeys(sheet.modalities, False)
    for column in sheet.columns:
        cell = column.cells[place]
        filled = cell != "" if isinstance(cell, str) else not math.isnan(cell)
        there[column.modality] = there[column.modality] or filled
    if sheet.volumes:
        there[IMAGING] = sheet.volumes[place] is not None
    return there


def _cells(file: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            head = [cell.strip() for cell in next(reader, [])]
            rows = []
            for cells in filter(None, reader):
                if len(cells) != len(head):
                    raise InputError(f"{file}, line {reader.line_num}: {len(cells)} cells; expected {len(head)}")
                rows.append([cell.strip() for cell in cells])
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as CSV ({error})") from error
    if not rows:
        raise InputError(f"{file}: has no subject; expected a line each below the head")
    return head, rows


def _plan(
    head: Sequence[str], file: Path, exclude: set[str]
) -> tuple[list[tuple[int, str, str, str]], tuple[str, ...]]:
    """Position, modality, name and kind of the columns of tables; and those left out."""
    for name in (SUBJECT, DIAGNOSIS):
        if name not in head:
            raise InputError(f"{file}: has no column {name!r}; it has {', '.join(head)}")
    doubled = [name for name in head if head.count(name) > 1]
    if doubled:
        raise InputError(f"{file}: the column {doubled[0]!r} is there twice")
    plan, left_out = [], []
    for place, title in enumerate(head):
        if title in (SUBJECT, DIAGNOSIS, IMAGING):
            continue
        modality, _, rest = title.partition(":")
        name, _, kind = rest.partition(":")
        modality = SAME.get(modality, modality)
        if modality not in TABLES or not name or kind not in ("", "category"):
            raise InputError(
                f"{file}: unknown column {title!r}; expected {SUBJECT}, {DIAGNOSIS}, {IMAGING}, or modality:name with "
                f"one of {', '.join(TABLES)}, at will with :category behind"
            )
        if name.lower() in exclude:
            left_out.append(title)
        else:
            plan.append((place, modality, name, kind))
    return plan, tuple(left_out)


def _named(rows: Sequence[Sequence[str]], head: Sequence[str], column: str, file: Path) -> tuple[str, ...]:
    place = head.index(column)
    for line, row in enumerate(rows, start=2):
        if not row[place]:
            raise InputError(f"{file}, line {line}: no {column}; fill it in, or leave the subject out")
    return tuple(row[place] for row in rows)


def _column(modality: str, name: str, kind: str, cells: Sequence[str]) -> Column:
    numbers = [_number(cell) for cell in cells]
    if kind == "category" or any(number is None for number in numbers):
        return Column(modality, name, False, tuple(cells))
    return Column(modality, name, True, tuple(math.nan if number is None else number for number in numbers))


def _number(cell: str) -> float | None:
    """The number in a cell, NaN if it is empty, None if it is something else (infinity, too)."""
    if not cell:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _volume(cell: str, file: Path, subject: str) -> Path | None:
    if not cell:
        return None
    path = file.parent / cell
    if not path.is_file():
        raise InputError(
            f"{file}: subject {subject}: the volume {path} does not exist; leave the cell empty if missing"
        )
    return path
