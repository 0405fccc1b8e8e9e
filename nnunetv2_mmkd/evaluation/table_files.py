"""Tables as CSV files: written whole, read with the line of what is wrong."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import replacing


def write_table(table: pd.DataFrame, file: Path) -> None:
    """Write a CSV whole or not at all; floats with all their digits, NaN as nothing.

    Raises:
        InputError: it cannot be written.
    """
    with replacing(file) as temporary:
        table.to_csv(temporary, index=False)


def number(text: str, file: str | Path, line: int) -> float:
    """A value of a table; nothing is NaN.

    Raises:
        InputError: it is no number.
    """
    try:
        return float(text) if text else math.nan
    except ValueError:
        raise InputError(f"{file}, line {line}: value {text!r} is not a number; leave it empty if undefined") from None


def read_columns(
    file: str | Path, columns: Sequence[str], what: str, optional: Sequence[str] = ()
) -> list[tuple[int, dict[str, str]]]:
    """Lines of a CSV with at least these columns: the line's number, and column -> text.

    Args:
        file: UTF-8; blank lines are passed over.
        columns: that are read; all but ``value`` must hold something.
        what: it is a table of, for the messages.
        optional: columns that are read where the table has them.

    Raises:
        InputError: unreadable, a column that is missing, a line with more or fewer cells, or an empty cell.
    """
    rows = []
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            head = next(reader, [])
            missing = [name for name in columns if name not in head]
            if missing:
                raise InputError(
                    f"{file}: has no column {missing[0]!r}; a table of {what} has {', '.join(columns)}, with commas "
                    "between them"
                )
            columns = [*columns, *(name for name in optional if name in head)]
            for cells in filter(None, reader):
                if len(cells) != len(head):
                    raise InputError(f"{file}, line {reader.line_num}: {len(cells)} cells; expected {len(head)}")
                row = dict(zip(head, cells, strict=True))
                empty = [name for name in columns if not row[name] and name != "value"]
                if empty:
                    raise InputError(f"{file}, line {reader.line_num}: no {empty[0]}; fill it in")
                rows.append((reader.line_num, {name: row[name] for name in columns}))
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as a table of {what} ({error})") from error
    return rows
