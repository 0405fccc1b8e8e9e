"""Missing-rate tables: which modalities each case is trained without (imperfect data training).

:mod:`.missing_table` describes the file and reads it. What a case lacks anyway (``missing_modalities`` of
``dataset.json``) stays missing and need not be in the table.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.nnunet_json import read_splits
from nnunetv2_mmkd.protocols.data_set import SPLITS, DataSet, read_data_set, write_preprocessed
from nnunetv2_mmkd.protocols.institutions import read_sites
from nnunetv2_mmkd.protocols.missing_masks import (
    PASSION_ORDER,
    draw_missing,
    parse_lacks,
    parse_rates,
    read_masks,
    share_missing,
    site_pattern,
)
from nnunetv2_mmkd.protocols.missing_table import check_tag, table_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenRates:
    """What was written.

    Attributes:
        modalities: of the data set.
        nominal: the table's ``rates``.
        realised: group of cases -> number of cases, and the share of them that lacks each modality.
        path: the file.
    """

    modalities: tuple[str, ...]
    nominal: Mapping[str, float]
    realised: Mapping[str, tuple[int, tuple[float, ...]]]
    path: Path

    def lines(self) -> list[str]:
        """For the user: a small table of rates, and where the file is."""
        rows = {"rates of the table": tuple(self.nominal[name] for name in self.modalities)}
        rows |= {f"{group} ({number})": rates for group, (number, rates) in self.realised.items()}
        width = max(map(len, rows))
        head = " " * width + "".join(f"{name:>9}" for name in self.modalities)
        body = [f"{group:<{width}}" + "".join(f"{rate:9.3f}" for rate in rates) for group, rates in rows.items()]
        return ["share of the cases that lack a modality:", head, *body, str(self.path)]


def write_rates(
    dataset_id: int,
    tag: str,
    *,
    rates: Sequence[str] = (),
    seed: int = 0,
    table: Path | None = None,
    order: Sequence[str] = PASSION_ORDER,
    lacks: Sequence[str] = (),
    sites: Path | None = None,
    partial: bool = False,
    overwrite: bool = False,
) -> WrittenRates:
    """Write a missing-rate table into the data set's folder of ``nnUNet_preprocessed``.

    Exactly one of ``rates``, ``table`` and ``lacks`` says what is missing.

    Args:
        dataset_id: number of the data set.
        tag: ends the names of the trainers that use it; lower-case letters and digits, a letter first, not ``seed``
            and digits.
        rates: ``"t1=0.2"`` and so on, see :func:`.masks.draw_missing`; modalities not named are never missing.
        seed: of the draws.
        table: the literature's CSV, see :func:`.masks.read_masks`.
        order: modalities of the CSV's masks.
        lacks: ``"3=t1ce,flair"`` and so on: institution 3 lacks these.
        sites: FeTS' partitioning. With ``rates``, one draw for all cases of an institution; with ``lacks``, None takes
            the institutions of the case map.
        partial: leave out ids of files that the data set does not have.
        overwrite: replace an existing table.

    Raises:
        InputError: see the message; nothing is written then.
    """
    try:
        check_tag(tag)
    except InputError as error:
        raise InputError(f"--tag {error}, such as mr2468") from error
    if seed < 0:
        raise InputError(f"--seed {seed}: expected a number from 0 on")
    if sum(map(bool, (rates, table, lacks))) != 1:
        raise InputError("give one of --rates, --csv and --lacks")
    if table and sites:
        raise InputError("--sites goes with --rates or --lacks, not with --csv")
    data = read_data_set(dataset_id)
    by_site = bool(lacks) or sites is not None
    institutions = f"institutions of {sites.name if sites is not None else 'case_map.json'}" if by_site else ""
    site_of = read_sites(sites, data, partial) if by_site else {}
    nominal = None
    if rates:
        nominal = parse_rates(rates, data.modalities)
        missing = draw_missing(data.cases, data.modalities, nominal, seed, data.missing, site_of)
        source = f"drawn for the {institutions}" if institutions else "drawn for each case"
        covered: Iterable[str] = data.cases
    elif table is not None:
        missing = read_masks(table, data, order, partial)
        source, covered = f"{table.name}, masks in the order {', '.join(order)}", list(missing)
    else:
        missing = site_pattern(site_of, parse_lacks(lacks, data.modalities))
        source, covered = f"{' '.join(lacks)}, {institutions}", list(site_of)
    gone = {case: {*missing.get(case, ()), *data.missing.get(case, ())} for case in data.cases}
    bereft = [case for case in data.cases if len(gone[case]) == len(data.modalities)]
    if bereft:
        raise InputError(f"these cases would be left with no modality: {first_few(bereft)}. Each must keep one")
    folds = training_cases(data)
    _warn_uncovered(covered, folds, data)
    if nominal is None:
        shares = share_missing(missing, list(covered), data.modalities)
        nominal = {name: round(share, 4) for name, share in zip(data.modalities, shares, strict=True)}
    content = {
        "rates": nominal,
        "seed": seed if rates else None,
        "source": source,
        "missing": {case: list(names) for case, names in sorted(missing.items()) if names},
    }
    path = table_path(data.preprocessed, tag)
    write_preprocessed(path.parent, {path.name: content}, overwrite)
    groups = {"all cases": list(data.cases)}
    groups |= {f"fold {number}, training": cases for number, cases in enumerate(folds) if cases}
    realised = {group: (len(cases), share_missing(gone, cases, data.modalities)) for group, cases in groups.items()}
    _warn_never_available(realised, data.modalities)
    return WrittenRates(data.modalities, nominal, realised, path)


def training_cases(data: DataSet) -> list[list[str]]:
    """Training cases of each fold of the data set's splits; empty where there are no splits yet.

    Raises:
        InputError: ``splits_final.json`` is broken.
    """
    path = data.preprocessed / SPLITS
    if not path.is_file():
        return []
    known = set(data.cases)
    return [[case for case in fold.train if case in known] for fold in read_splits(path)]


def _warn_never_available(realised: Mapping[str, tuple[int, tuple[float, ...]]], modalities: Sequence[str]) -> None:
    """A model cannot learn a modality that none of its training cases has."""
    for group, (_, rates) in realised.items():
        lost = [name for name, rate in zip(modalities, rates, strict=True) if rate == 1]
        if lost:
            logger.warning("%s: no case is left with %s", group, ", ".join(lost))


def _warn_uncovered(covered: Iterable[str], folds: Sequence[Sequence[str]], data: DataSet) -> None:
    trained = {case for fold in folds for case in fold} or set(data.cases)
    left = sorted(trained - set(covered))
    if left:
        whose = "training cases" if folds else "cases"
        logger.warning("%d %s are not in the table and miss nothing by it: %s", len(left), whose, first_few(left))
