"""The file of a missing-rate table: a fixed mask for each training case (imperfect data training).

``mmkd_missing_<tag>.json`` in the data set's folder of ``nnUNet_preprocessed`` holds
``{"rates": ..., "seed": ..., "source": ..., "missing": {case: [names]}}``. It is read only by trainers whose name ends
in ``_<tag>``; cases that it does not list miss nothing. :mod:`.missing_rates` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError, one_line
from nnunetv2_mmkd.names import indices
from nnunetv2_mmkd.nnunet_json import names_of_list, read_object, value_of
from nnunetv2_mmkd.trainer_catalogue import known_endings


def table_path(folder: str | Path, tag: str) -> Path:
    """The file of the table with a tag."""
    return Path(folder) / f"mmkd_missing_{tag}.json"


def check_tag(tag: str) -> None:
    """Check the tag of a missing-rate table, which ends names of trainers and of files.

    Raises:
        InputError: it cannot.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]{0,31}", tag):
        raise InputError(f"{one_line(tag, 60)!r}: use at most 32 lower-case letters and digits, a letter first")
    if re.fullmatch(r"seed\d+", tag):
        raise InputError(f"{tag!r}: a trainer's name that ends in _{tag} asks for a seed; take another tag")
    owners = known_endings().get(f"_{tag}")
    if owners:
        raise InputError(f"{tag!r}: {owners[0]}_{tag} has a meaning of its own (see `mmkd info`); take another tag")


def read_missing_table(path: Path, modalities: Sequence[str], cases: Iterable[str]) -> dict[str, Any]:
    """Read a table and check it against the data set.

    Args:
        path: see :func:`table_path`.
        modalities: of the data set.
        cases: identifiers of the data set.

    Raises:
        InputError: no such file, not JSON, no ``missing``, an unknown case or modality, a case left with nothing.
    """
    if not path.is_file():
        raise InputError(
            f"there is no missing-rate table {path}: the ending of the trainer's name asks for it. Write it with "
            f"`mmkd rates -d ID --tag {path.stem.removeprefix('mmkd_missing_')} ...`, or drop the ending"
        )
    try:
        table = read_object(path)
        missing = {case: names_of_list(table["missing"], case, path) for case in value_of(table, "missing", dict, path)}
    except InputError as error:
        raise InputError(
            f"{path} is no missing-rate table ({error}): it needs 'missing': {{case: [names]}}. "
            "Write it again with `mmkd rates`, --overwrite"
        ) from error
    known = set(cases)
    for case in missing:
        if case not in known:
            raise InputError(f"{path} names the case {case!r}, which this data set does not have")
        try:
            channels = missing_channels(case, missing, modalities)
        except InputError as error:
            raise InputError(f"{path}, {error}") from error
        if len(channels) == len(modalities):
            raise InputError(f"{path} leaves the case {case} with no modality at all: at least one must stay")
    return table


def missing_channels(case: str, missing: Mapping[str, Sequence[str]], modalities: Sequence[str]) -> list[int]:
    """Channels that a case misses, by a map of missing modalities.

    Raises:
        InputError: an unknown modality; the message names the case.
    """
    try:
        return indices(missing.get(case, ()), modalities)
    except InputError as error:
        raise InputError(f"missing modalities of case {case}: {error}") from error
