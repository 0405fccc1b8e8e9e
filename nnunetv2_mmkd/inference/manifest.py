"""A table of cases to predict: ``case``, and a column for each modality with the path of its image.

Comma or semicolon, with or without a byte order mark, as spreadsheets write it. An empty cell is a missing modality.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.files import within
from nnunetv2_mmkd.image_names import check_case_name, refuse_twins
from nnunetv2_mmkd.images import require_file
from nnunetv2_mmkd.names import canonical

CASE_COLUMN = "case"


def read_manifest(file: Path, modalities: Sequence[str], folder: Path) -> dict[str, dict[int, Path]]:
    """Case -> channel -> image.

    Args:
        file: the table.
        modalities: of the model.
        folder: that the paths are relative to, and lie in.

    Raises:
        InputError: it is not readable, not UTF-8, or no such table; an unknown column or one twice; a case twice,
            without a name that files can have, or without an image; an image that does not exist or lies elsewhere. The
            message names file and line.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text ({error.reason}); save it as CSV UTF-8") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        reader = csv.reader(text.splitlines(), delimiter=delimiter, strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.line_num}: no CSV ({error})") from error
    rows = [(line, row) for line, row in rows if any(row)]
    if len(rows) < 2:
        raise InputError(f"{file}: no case in it; expected a line {_example(modalities)}, and a line for each case")
    columns = _columns(rows[0][1], modalities, file)
    cases: dict[str, dict[int, Path]] = {}
    for line, row in rows[1:]:
        where = f"{file}, line {line}"
        if len(row) != len(columns):
            raise InputError(
                f"{where}: {len(row)} cells, and the first line has {len(columns)} ({', '.join(rows[0][1])})"
            )
        cells = dict(zip(columns, row, strict=True))
        case = cells.pop(-1)
        check_case_name(case, where)
        if case in cases:
            raise InputError(f"{where}: the case {case} stands in it twice; give each case one line")
        cases[case] = {
            channel: _image(cell, folder, f"{where}, {modalities[channel]}") for channel, cell in cells.items() if cell
        }
        if not cases[case]:
            raise InputError(f"{where}: the case {case} has no image; give one, or take the line out")
        if len({path.resolve() for path in cases[case].values()}) < len(cases[case]):
            raise InputError(f"{where}: one file is named for two modalities of the case {case}; give each its own")
    refuse_twins(cases, file)
    return cases


def _example(modalities: Sequence[str]) -> str:
    return ",".join([CASE_COLUMN, *modalities])


def _columns(header: Sequence[str], modalities: Sequence[str], file: Path) -> list[int]:
    """The channel of each column; -1 for the case."""
    known = [CASE_COLUMN, *modalities]
    columns = []
    for name in header:
        if canonical(name) not in known:
            raise InputError(
                f"{file}: the column {name!r} is no modality of this model: expected {choices(canonical(name), known)}"
            )
        columns.append(known.index(canonical(name)) - 1)
    doubled = [name for name, column in zip(header, columns, strict=True) if columns.count(column) > 1]
    if doubled or -1 not in columns:
        what = f"the columns {' and '.join(doubled)} are the same" if doubled else f"there is no column {CASE_COLUMN!r}"
        raise InputError(f"{file}: {what}; expected a first line such as {_example(modalities)}")
    return columns


def _image(cell: str, folder: Path, where: str) -> Path:
    path = Path(cell)
    try:
        path = within(folder, str(path.relative_to(folder.absolute()) if path.is_absolute() else path))
    except ValueError as error:
        raise InputError(
            f"{where}: {cell} lies outside of {folder}, which the paths are relative to; name a folder above all "
            "images with -i"
        ) from error
    try:
        require_file(path)
    except InputError as error:
        raise InputError(f"{where}: {error}. Leave the cell empty if there is no such image") from error
    return path
