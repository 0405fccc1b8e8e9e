"""Missing-rate tables: which modalities each case is trained without (imperfect data training).

``mmkd_missing_<tag>.json`` = ``{"rates", "seed", "source", "missing": {case: [names]}}``; the base trainer reads it
(:mod:`nnunetv2_mmkd.training.missing_rates`). What a case lacks anyway (``missing_modalities`` of ``dataset.json``)
stays missing and need not be in the table.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_mmkd.dataset_conversion.case_ids import match, read_table
from nnunetv2_mmkd.dataset_conversion.data_set import (
    SPLITS,
    DataSet,
    check_free,
    read_data_set,
    read_json,
    some,
    write_json,
)
from nnunetv2_mmkd.dataset_conversion.splits import read_sites
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.names import canonical, indices, parse_names

logger = logging.getLogger(__name__)

PASSION_ORDER = ("flair", "t1ce", "t1", "t2")
"""Order of the masks in the CSV files of RFNet's descendants (mmFormer, M2FTrans, PASSION)."""

TRIES = 10_000
"""How often a unit that would be left with nothing is drawn again before the rates are called impossible."""

FLAGS = {"true": True, "1": True, "false": False, "0": False}
"""Entries of a mask: whether the modality is there."""


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
        tag: ends the names of the trainers that use it; lower-case letters and digits, a letter first.
        rates: ``"t1=0.2"`` and so on, see :func:`draw_missing`; modalities not named are never missing.
        seed: of the draws.
        table: the literature's CSV, see :func:`read_masks`.
        order: modalities of the CSV's masks.
        lacks: ``"3=t1ce,flair"`` and so on: institution 3 lacks these.
        sites: FeTS' partitioning. With ``rates``, one draw for all cases of an institution.
        partial: leave out ids of files that the data set does not have.
        overwrite: replace a table that is there.

    Raises:
        InputError: see the message; nothing is written then.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*", tag):
        raise InputError(f"--tag {tag!r}: use lower-case letters and digits, a letter first, such as mr2468")
    if sum(map(bool, (rates, table, lacks))) != 1:
        raise InputError("give one of --rates, --csv and --lacks")
    if lacks and sites is None:
        raise InputError("--lacks needs --sites, the CSV file that says which institution a case is from")
    data = read_data_set(dataset_id)
    site_of = read_sites(sites, data, partial) if sites is not None else {}
    nominal = None
    if rates:
        nominal = parse_rates(rates, data.modalities)
        missing = draw_missing(data.cases, data.modalities, nominal, seed, data.missing, site_of)
        source = f"drawn for each institution of {sites.name}" if sites is not None else "drawn for each case"
        covered: Iterable[str] = data.cases
    elif table is not None:
        missing = read_masks(table, data, order, partial)
        source, covered = f"{table.name}, masks in the order {', '.join(order)}", list(missing)
    else:
        missing = site_pattern(site_of, parse_lacks(lacks, data.modalities))
        source, covered = f"{' '.join(lacks)}, institutions of {sites.name if sites else ''}", list(site_of)
    gone = {case: {*missing.get(case, ()), *data.missing.get(case, ())} for case in data.cases}
    bereft = [case for case in data.cases if len(gone[case]) == len(data.modalities)]
    if bereft:
        raise InputError(f"these cases would be left with no modality: {some(bereft)}. Each must keep one")
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
    path = data.preprocessed / f"mmkd_missing_{tag}.json"
    check_free(path, content, overwrite)
    write_json(path, content)
    groups = {"all cases": list(data.cases)}
    groups |= {f"fold {number}, training": cases for number, cases in enumerate(folds) if cases}
    realised = {group: (len(cases), share_missing(gone, cases, data.modalities)) for group, cases in groups.items()}
    return WrittenRates(data.modalities, nominal, realised, path)


def draw_missing(
    cases: Sequence[str],
    modalities: Sequence[str],
    rates: Mapping[str, float],
    seed: int,
    declared: Mapping[str, Sequence[str]],
    site_of: Mapping[str, str] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Draw what is missing, independently per case and modality.

    The law: each modality goes with its own rate, given that every case keeps at least one; a case that would be left
    with nothing is drawn again as a whole. So the realised rates lie below the nominal ones, the more the higher these
    are: with rates .2, .4, .6, .8 the expected ones are .168, .376, .584, .792. A modality that a case lacks anyway
    stays missing whatever is drawn, and is not counted as drawn. Cases are drawn in sorted order; the draws do not
    reproduce PASSION's generator, whose tables are read with :func:`read_masks`.

    Args:
        cases: identifiers.
        modalities: canonical names.
        rates: modality -> probability, for each of ``modalities``.
        seed: of a generator of its own.
        declared: case -> modalities it lacks anyway.
        site_of: case -> institution: one draw for all its cases. Cases that are not in it are drawn on their own.

    Returns:
        case -> modalities taken away, for every case.

    Raises:
        InputError: the rates leave next to no chance that a case keeps something.
    """
    units: dict[tuple[bool, str], list[str]] = {}
    for case in sorted(cases):
        site = (site_of or {}).get(case)
        units.setdefault((site is None, case if site is None else site), []).append(case)
    generator = np.random.default_rng(seed)
    limits = np.array([rates[name] for name in modalities])
    missing: dict[str, tuple[str, ...]] = {}
    for (_, unit), members in units.items():
        own = np.zeros((len(members), len(modalities)), dtype=bool)
        for row, case in enumerate(members):
            own[row, indices(declared.get(case, ()), modalities)] = True
        for _attempt in range(TRIES):
            drawn = generator.random(len(modalities)) < limits
            if not (own | drawn).all(axis=1).any():
                break
        else:
            raise InputError(f"{unit}: with these rates it is all but sure to be left with no modality; lower one")
        for row, case in enumerate(members):
            taken = drawn & ~own[row]
            missing[case] = tuple(name for name, gone in zip(modalities, taken, strict=True) if gone)
    return missing


def read_masks(
    path: Path, data: DataSet, order: Sequence[str] = PASSION_ORDER, partial: bool = False
) -> dict[str, tuple[str, ...]]:
    """Read the literature's table of masks: columns ``data_name`` and ``mask`` (true: the modality is there).

    Args:
        path: CSV with PASSION's columns ``data_name,mask_id,mask,pos_mask_ids``.
        data: the data set.
        order: modality of each entry of a mask.
        partial: leave out ids that the data set does not have.

    Returns:
        case -> missing modalities, for the cases of the table.

    Raises:
        InputError: the order does not name the data set's modalities; a mask that is none or has nothing; see
            :func:`.case_ids.match`.
    """
    names = [canonical(name) for name in order]
    if sorted(names) != sorted(data.modalities):
        raise InputError(
            f"--order {' '.join(order)}: name each modality of {data.name} once: {', '.join(data.modalities)}"
        )
    found, unknown = match(read_table(path, "data_name", ["mask"]), data, partial)
    if unknown:
        logger.warning("%s: %d ids that the data set does not have: %s", path, len(unknown), some(unknown))
    missing = {}
    for case, listed in found.items():
        entries = [FLAGS.get(entry.strip().lower()) for entry in listed.row["mask"].strip("[]() ").split(",")]
        if len(entries) != len(names) or None in entries or not any(entries):
            raise InputError(
                f"{listed.where}: {listed.row['mask']!r} is no mask: it needs {len(names)} entries, True (there) or "
                "False (missing), at least one of them True"
            )
        gone = {name for name, there in zip(names, entries, strict=True) if not there}
        missing[case] = tuple(name for name in data.modalities if name in gone)
    return missing


def site_pattern(site_of: Mapping[str, str], lacks: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What each case of an institution misses: case -> modalities.

    Args:
        site_of: case -> institution.
        lacks: institution -> modalities; others lack nothing.

    Raises:
        InputError: an unknown institution.
    """
    known = sorted(set(site_of.values()))
    for site in lacks:
        if site not in known:
            raise InputError(f"--lacks {site}=...: no case is of this institution; there are {some(known, 40)}")
    return {case: lacks.get(site, ()) for case, site in site_of.items()}


def parse_rates(words: Sequence[str], modalities: Sequence[str]) -> dict[str, float]:
    """``["t1=0.2", "t1c=0.4"]`` -> a rate for each modality, 0 for those not named.

    Raises:
        InputError: not of this form, an unknown modality, one named twice, no probability.
    """
    named = _pairs(words, "--rates", "t1=0.2", lambda text: modalities[indices([text], modalities)[0]])
    rates = dict.fromkeys(modalities, 0.0)
    for name, text in named.items():
        try:
            rates[name] = float(text)
        except ValueError as error:
            raise InputError(f"--rates {name}={text}: {text!r} is no number") from error
        if not 0 <= rates[name] <= 1:
            raise InputError(f"--rates {name}={text}: a rate lies between 0 and 1")
    return rates


def parse_lacks(words: Sequence[str], modalities: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``["3=t1ce,flair"]`` -> institution -> modalities in channel order.

    Raises:
        InputError: not of this form, an unknown modality, an institution named twice, one that would lack everything.
    """
    lacks = {}
    for site, text in _pairs(words, "--lacks", "3=t1ce,flair", str).items():
        gone = indices(parse_names(text), modalities)
        if len(gone) == len(modalities):
            raise InputError(f"--lacks {site}={text}: an institution must have at least one modality")
        lacks[site] = tuple(modalities[index] for index in gone)
    return lacks


def share_missing(
    missing: Mapping[str, Iterable[str]], cases: Sequence[str], modalities: Sequence[str]
) -> tuple[float, ...]:
    """Share of the cases that miss each modality, in the order of ``modalities``."""
    return tuple(sum(name in set(missing.get(case, ())) for case in cases) / max(1, len(cases)) for name in modalities)


def training_cases(data: DataSet) -> list[list[str]]:
    """Training cases of each fold of the data set's splits; empty where there are no splits yet."""
    path = data.preprocessed / SPLITS
    if not path.is_file():
        return []
    known = set(data.cases)
    return [[case for case in fold["train"] if case in known] for fold in read_json(path)]


def _pairs(words: Sequence[str], option: str, example: str, key: Callable[[str], str]) -> dict[str, Any]:
    pairs: dict[str, str] = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not (sign and name.strip() and text.strip()):
            raise InputError(f"{option} {word!r} is not of the form {example}")
        if key(name.strip()) in pairs:
            raise InputError(f"{option} names {key(name.strip())} twice")
        pairs[key(name.strip())] = text.strip()
    return pairs


def _warn_uncovered(covered: Iterable[str], folds: Sequence[Sequence[str]], data: DataSet) -> None:
    trained = {case for fold in folds for case in fold} or set(data.cases)
    left = sorted(trained - set(covered))
    if left:
        whose = "training cases" if folds else "cases"
        logger.warning("%d %s are not in the table and miss nothing by it: %s", len(left), whose, some(left))
