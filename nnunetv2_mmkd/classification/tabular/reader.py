"""Subjects from a CSV of tabular modalities and, for the imaging, paths of volumes.

The layout, one line per subject::

    subject,diagnosis,clinical:age,clinical:sex:category,biospecimen:abeta,genomic:rs429358,imaging
    s001,MCI,71.5,F,,0,volumes/s001.nii.gz
    s002,CN,64,M,201.3,,

``subject`` is a unique name, ``diagnosis`` the class. A column of a table is ``modality:name``. It holds numbers; or
categories, if one of its cells is no finite number or its title ends in ``:category``. A modality whose cells are all
empty is missing; single empty cells are imputed. ``imaging`` is a path, relative to the CSV; empty if there is no
volume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError

SUBJECT, DIAGNOSIS, IMAGING = "subject", "diagnosis", "imaging"

TABLES = ("clinical", "genomic", "biospecimen")
"""Tabular modalities, in the order of the published table."""

SAME: Mapping[str, str] = {"genetic": "genomic"}
"""Other names of a modality."""

EXCLUDED = ("PTCOGBEG", "PTADDX", "PTADBEG")
"""Clinical columns that are left out because they contain the diagnosis (MetaKD §7)."""


@dataclass(frozen=True)
class Sheet:
    """What the CSV holds.

    Attributes:
        diagnoses: class of each subject; the index is the subjects' names.
        tables: tabular modality -> its columns, float64 or (categories) texts; NaN where a cell is empty.
        volumes: path of each subject's volume, None if there is none; empty without a column ``imaging``.
        left_out: columns that are excluded because they contain the diagnosis.
    """

    diagnoses: pd.Series
    tables: Mapping[str, pd.DataFrame]
    volumes: tuple[Path | None, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that the CSV has columns of; the imaging last."""
        return tuple(self.present)

    @property
    def present(self) -> pd.DataFrame:
        """Which modalities each subject has, bool ``[N, M]``: some cell of the table is filled, or a volume exists."""
        present = pd.DataFrame({name: table.notna().any(axis=1) for name, table in self.tables.items()})
        if self.volumes:
            present[IMAGING] = [path is not None for path in self.volumes]
        return present


def read_sheet(file: Path) -> Sheet:
    """Read a CSV of the layout above.

    Args:
        file: UTF-8, with commas.

    Raises:
        InputError: it cannot be read; an unknown or repeated column; a line with other than the expected number of
            cells; a subject without name or diagnosis, given twice, or with no modality; a volume that does not exist;
            no table and no volume at all, or fewer than two diagnoses.
    """
    cells = _read_cells(file)
    columns, left_out = _columns(list(cells), file)
    _check_subjects(cells, file)
    subjects = pd.Index(cells[SUBJECT])
    tables = {
        modality: pd.DataFrame({title: _values(cells[title], title) for title in titles}).set_axis(subjects)
        for modality, titles in columns.items()
        if titles
    }
    volumes: tuple[Path | None, ...] = ()
    if IMAGING in cells:
        volumes = tuple(_volume(cell, file, name) for cell, name in zip(cells[IMAGING], subjects, strict=True))
    sheet = Sheet(cells[DIAGNOSIS].set_axis(subjects), tables, volumes, left_out)
    if not sheet.modalities:
        raise InputError(f"{file}: has neither a table nor the column {IMAGING!r}; a table's columns are modality:name")
    for line, name in cells.loc[~sheet.present.any(axis=1).to_numpy(), SUBJECT].items():
        raise InputError(
            f"{file}, line {line}: subject {name} has no modality, all of {', '.join(sheet.modalities)} are empty; "
            "leave the subject out"
        )
    return sheet


def _read_cells(file: Path) -> pd.DataFrame:
    """The cells as text, without blanks around them; the index holds the lines in the file."""
    try:
        cells = pd.read_csv(
            file,
            header=None,
            dtype=object,
            keep_default_na=False,
            skip_blank_lines=False,
            engine="python",
            encoding="utf-8-sig",
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as CSV ({error})") from error
    cells.index += 1
    cells = cells.dropna(how="all")  # blank lines
    for line, row in cells[cells.isna().any(axis=1)].iterrows():
        raise InputError(f"{file}, line {line}: {row.count()} cells; expected {cells.shape[1]}")
    cells = cells.apply(lambda column: column.str.strip())
    if len(cells) < 2:
        raise InputError(f"{file}: has no subject; expected a line each below the head")
    return cells.iloc[1:].set_axis(cells.iloc[0].tolist(), axis=1)


def _columns(titles: Sequence[str], file: Path) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Titles of the columns of each table, and of those left out."""
    for name in (SUBJECT, DIAGNOSIS):
        if name not in titles:
            raise InputError(f"{file}: has no column {name!r}; it has {', '.join(titles)}")
    repeated = [title for title in titles if titles.count(title) > 1]
    if repeated:
        raise InputError(f"{file}: the column {repeated[0]!r} is given twice")
    columns: dict[str, list[str]] = {name: [] for name in TABLES}
    left_out = []
    for title in titles:
        if title in (SUBJECT, DIAGNOSIS, IMAGING):
            continue
        modality, _, rest = title.partition(":")
        name, _, kind = rest.partition(":")
        modality = SAME.get(modality, modality)
        if modality not in TABLES or not name or kind not in ("", "category"):
            raise InputError(
                f"{file}: unknown column {title!r}; expected {SUBJECT}, {DIAGNOSIS}, {IMAGING}, or modality:name with "
                f"one of {', '.join(TABLES)}, optionally followed by :category"
            )
        if name.upper() in EXCLUDED:
            left_out.append(title)
        else:
            columns[modality].append(title)
    return columns, tuple(left_out)


def _check_subjects(cells: pd.DataFrame, file: Path) -> None:
    for column in (SUBJECT, DIAGNOSIS):
        for line in cells.index[cells[column] == ""]:
            raise InputError(f"{file}, line {line}: no {column}; fill it in, or leave the subject out")
    for line, name in cells.loc[cells[SUBJECT].duplicated(), SUBJECT].items():
        raise InputError(f"{file}, line {line}: subject {name} is given twice; give each subject one line")
    if cells[DIAGNOSIS].nunique() < 2:
        raise InputError(f"{file}: all subjects are {cells[DIAGNOSIS].iloc[0]}; at least two diagnoses are needed")


def _values(cells: pd.Series, title: str) -> pd.Series:
    """Numbers, or texts if a cell is no finite number; NaN where a cell is empty."""
    filled = cells[cells != ""]
    if not title.endswith(":category"):
        with suppress(ValueError):
            numbers = filled.astype(float)
            if np.isfinite(numbers).all():
                return numbers.reindex(cells.index)
    return filled.reindex(cells.index)


def _volume(cell: str, file: Path, subject: str) -> Path | None:
    if not cell:
        return None
    path = file.parent / cell
    if not path.is_file():
        raise InputError(
            f"{file}: subject {subject}: the volume {path} does not exist; leave the cell empty if missing"
        )
    return path
