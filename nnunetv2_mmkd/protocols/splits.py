"""Splits: the literature's case lists, patients or institutions -> nnU-Net's ``splits_final.json`` and a test list.

``mmkd_test_cases.json`` in the same folder holds the test cases of each fold, ``{"source": ..., "folds": [[case, ...],
...]}``.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.nnunet_json import names_of_list, read_object, value_of
from nnunetv2_mmkd.protocols.case_ids import ListedId, match, read_list
from nnunetv2_mmkd.protocols.data_set import SPLITS, DataSet, read_data_set, write_preprocessed
from nnunetv2_mmkd.protocols.folds import Fold, group_folds, patient_of
from nnunetv2_mmkd.protocols.institutions import read_sites

logger = logging.getLogger(__name__)

USUAL_FOLDS = 5
"""nnU-Net makes so many where there are no splits."""
TEST_CASES = "mmkd_test_cases.json"
"""The test cases of each fold; ``mmkd evaluate --test`` reads it, nnU-Net does not."""

ROLE = re.compile(r"(?<![a-z])(?:(train)(?:ing)?|(val)(?:id(?:ation)?)?|(test)(?:ing)?)(?![a-z])", re.IGNORECASE)
"""The word in a list's name that says what it is."""


@dataclass(frozen=True)
class WrittenSplits:
    """What was written: the folds and the file."""

    folds: tuple[Fold, ...]
    path: Path

    def lines(self) -> list[str]:
        """For the user: the size of each fold, and where the file is."""
        told = []
        for number, fold in enumerate(self.folds):
            test = f", {len(fold.test)} test" if fold.test else ""
            told.append(f"fold {number}: {len(fold.train)} training, {len(fold.val)} validation{test} cases")
        return [*told, str(self.path)]


def write_splits(
    dataset_id: int,
    how: Sequence[str],
    *,
    folds: int | None = None,
    seed: int = 0,
    patient_key: str | None = None,
    partial: bool = False,
    overwrite: bool = False,
) -> WrittenSplits:
    """Write the splits of a data set into its folder of ``nnUNet_preprocessed``, which is made if it is absent.

    Args:
        dataset_id: number of the data set.
        how: ``["patients"]``; ``["institutions"]`` as the case map says, or ``["institutions", CSV]``; or files with
            train, val and test lists.
        folds: number of folds, not with lists; None: five, or as many as there are patients or institutions.
        seed: shuffles patients or institutions.
        patient_key: see :func:`patients_of`.
        partial: leave out ids of lists that the data set does not have.
        overwrite: replace existing splits.

    Raises:
        InputError: see the message; nothing is written then.
    """
    if seed < 0:
        raise InputError(f"--seed {seed}: expected a number from 0 on")
    data = read_data_set(dataset_id)
    patients = patients_of(data, patient_key)
    if list(how) == ["patients"]:
        made = group_folds(patients, _usual(patients) if folds is None else folds, seed)
    elif how and how[0] == "institutions":
        if len(how) > 2:
            raise InputError("institutions: give one CSV file with the columns Subject_ID and Partition_ID, or none")
        sites = read_sites(Path(how[1]) if how[1:] else None, data, partial)
        made = group_folds(sites, _usual(sites) if folds is None else folds, seed)
    else:
        made = list_folds([Path(file) for file in how], data, partial)
    _warn(made, data, patients)
    splits = [{"train": list(fold.train), "val": list(fold.val)} for fold in made]
    tests = None
    if any(fold.test for fold in made):
        source = ", ".join(Path(file).name for file in how)
        tests = {"source": source, "folds": [list(fold.test) for fold in made]}
    write_preprocessed(data.preprocessed, {SPLITS: splits, TEST_CASES: tests}, overwrite)
    return WrittenSplits(tuple(made), data.preprocessed / SPLITS)


def write_default_splits(dataset_id: int) -> WrittenSplits | None:
    """What a data set needs when its splits are not asked for: splits by patients, if a patient has several cases.

    For the end of a conversion. Existing splits are left alone; nnU-Net's own random split is right for a data
    set with one case per patient.

    Returns:
        what was written, or None.

    Raises:
        InputError: see :func:`write_splits`.
    """
    if not os.environ.get("nnUNet_preprocessed", "").strip():
        logger.warning("nnUNet_preprocessed is not set: no splits are written (`mmkd splits -d %d ...`)", dataset_id)
        return None
    data = read_data_set(dataset_id)
    patients = set(patients_of(data).values())
    if (data.preprocessed / SPLITS).is_file() or len(patients) == len(data.cases) or len(patients) < 2:
        return None
    return write_splits(dataset_id, ["patients"])


def _usual(group_of: Mapping[str, str]) -> int:
    """Number of folds where none is asked for: nnU-Net's five, or as many as there are groups."""
    return min(5, len(set(group_of.values())))


def read_test_cases(preprocessed: Path) -> list[list[str]]:
    """The test cases of each fold of a data set.

    Args:
        preprocessed: its folder in ``nnUNet_preprocessed``.

    Raises:
        InputError: no such list, or a broken one.
    """
    path = preprocessed / TEST_CASES
    if not path.is_file():
        raise InputError(
            f"{path} does not exist: `mmkd splits` writes it where a test list is given with the train and val lists"
        )
    folds = value_of(read_object(path), "folds", list, path)
    try:
        return [list(names_of_list({"folds": fold}, "folds", path)) for fold in folds]
    except InputError as error:
        raise InputError(f"{path} holds no lists of test cases ({error}): write the splits again") from error


def patients_of(data: DataSet, key: str | None = None) -> dict[str, str]:
    """Case -> patient: by the expression if there is one, else by the case map, else see :func:`.folds.patient_of`."""
    known = data.patients if key is None else {}
    return {case: known.get(case) or patient_of(case, key) for case in data.cases}


def list_folds(files: Sequence[Path], data: DataSet, partial: bool = False) -> list[Fold]:
    """Folds from lists: a train and a val list whose names differ only in that word make a fold.

    Their test list belongs to that fold; a test list that belongs to no pair is one for all folds.

    Raises:
        InputError: a list without its counterpart; a name that does not say what it is; a case in two lists of a fold;
            see :func:`.case_ids.match`.
    """
    lists: dict[str, dict[str, Path]] = {}
    for file in files:
        key, role = _role(file)
        if role in lists.setdefault(key, {}):
            raise InputError(f"{file} and {lists[key][role]} are the same kind of list under the same name")
        lists[key][role] = file
    shared = [entry for key in lists if set(lists[key]) == {"test"} for entry in read_list(lists[key]["test"])]
    pairs = [roles for roles in lists.values() if set(roles) != {"test"}]
    if not pairs:
        raise InputError("give a train and a val list (text files with one id a line), `patients` or `institutions`")
    return [_fold(roles, shared, data, partial) for roles in pairs]


def _fold(roles: Mapping[str, Path], shared: Sequence[ListedId], data: DataSet, partial: bool) -> Fold:
    for role in ("train", "val"):
        if role not in roles:
            raise InputError(
                f"{first_few(map(str, roles.values()))}: no {role} list of this name; a fold needs a train and a "
                "val list whose names differ only in that word, such as train1.txt and val1.txt"
            )
    ids = {role: read_list(file) for role, file in roles.items()}
    ids["test"] = [*ids.get("test", []), *shared]
    found, unknown = match([entry for entries in ids.values() for entry in entries], data, partial)
    _warn_unknown(unknown, first_few(map(str, roles.values())))
    role_of = {entry.where: role for role, entries in ids.items() for entry in entries}
    cases = {role: tuple(sorted(case for case in found if role_of[found[case].where] == role)) for role in ids}
    for role in ("train", "val"):
        if not cases[role]:
            raise InputError(f"{roles[role]}: none of its ids is a case of {data.name}")
    return Fold(cases["train"], cases["val"], cases["test"])


def _role(file: Path) -> tuple[str, str]:
    """What a list's name has in common with its counterparts, and what it is."""
    found = list(ROLE.finditer(file.stem))
    if len(found) != 1:
        raise InputError(
            f"{file}: the name must say once whether this is a train, val or test list, such as train1.txt; rename it"
        )
    role = next(word for word in found[0].groups() if word).lower()
    return str(file.with_name(ROLE.sub("*", file.stem))), role


def _warn(folds: Sequence[Fold], data: DataSet, patients: Mapping[str, str]) -> None:
    unused = sorted(set(data.cases) - {case for fold in folds for case in (*fold.train, *fold.val, *fold.test)})
    if unused:
        logger.warning("%d cases of %s are in no fold and no list: %s", len(unused), data.name, first_few(unused))
    if any(fold.test for fold in folds):
        logger.warning("do not train fold `all` of this data set: nnU-Net would train on the test cases")
    if len({fold.test for fold in folds}) > 1:
        logger.warning("the folds have different test lists: test each fold on its own, and do not ensemble them")
    for number, fold in enumerate(folds):
        trained = {patients[case] for case in fold.train}
        divided = sorted({patients[case] for case in (*fold.val, *fold.test)} & trained)
        if divided:
            logger.warning("fold %d divides %d patients: %s", number, len(divided), first_few(divided))


def _warn_unknown(unknown: Sequence[str], source: str) -> None:
    if unknown:
        logger.warning(
            "%s: %d ids that the data set does not have are left out: %s", source, len(unknown), first_few(unknown)
        )
