"""Which institution a case is from: FeTS' table, found above the cases or given by the user."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_mmkd.editions.discover import CaseFiles
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.protocols.case_ids import ListedId, match, read_listed_ids
from nnunetv2_mmkd.protocols.data_set import DataSet

logger = logging.getLogger(__name__)

_CASE, _SITE = "Subject_ID", "Partition_ID"
"""Columns of the table, in either order."""

NOWHERE = "-1"
"""Institution of a case that is no training data."""


def institutions_of_sources(spec: EditionSpec, cases: Sequence[CaseFiles]) -> dict[str, str]:
    """Case -> institution, by the table that the edition's archives hold; empty where there is none.

    Args:
        spec: the edition.
        cases: the cases; the table lies in the folder above one of them, or in a source folder.

    Raises:
        InputError: the table cannot be read, or lacks a column.
    """
    if not spec.sites_file:
        return {}
    known = {files.case for files in cases}
    sites: dict[str, str] = {}
    folders = dict.fromkeys(folder for files in cases for folder in (files.root, files.folder.parent))
    tables = [table for folder in folders if (table := folder / spec.sites_file).is_file()]
    for table in tables:
        sites |= {row.text: row.row[_SITE] for row in _rows(table) if row.text in known}
    if not tables:
        logger.info("%s: %s is not in the folder above the cases: no institutions", spec.title, spec.sites_file)
    return sites


def read_sites(path: Path | None, data: DataSet, partial: bool = False) -> dict[str, str]:
    """Case -> institution, for the cases of a data set that have one.

    Args:
        path: FeTS' partitioning; None: as the data set's case map says. Partition -1 is left out.
        data: the data set.
        partial: leave out ids that the data set does not have.

    Raises:
        InputError: the case map knows of no institution; a table that cannot be read
            (:func:`.case_ids.read_listed_ids`) or that does not fit (:func:`.case_ids.match`).
    """
    if path is None:
        if not data.institutions:
            raise InputError(
                f"{data.name}: its case_map.json names no institutions; give the CSV file with the columns {_CASE} and "
                f"{_SITE}, or put it into the folder above the cases and convert again"
            )
        return dict(data.institutions)
    found, unknown = match(_rows(path), data, partial)
    if unknown:
        logger.warning(
            "%s: %d ids that the data set does not have are left out: %s", path, len(unknown), first_few(unknown)
        )
    if not found:
        raise InputError(f"{path} has no case of {data.name}")
    return {case: listed.row[_SITE] for case, listed in found.items()}


def _rows(path: Path) -> list[ListedId]:
    return [row for row in read_listed_ids(path, _CASE, [_SITE]) if row.row[_SITE] != NOWHERE]
