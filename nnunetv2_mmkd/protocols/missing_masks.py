"""What each case is trained without: drawn from rates, read from the literature's CSV, or by institution.

Each way gives a map case -> modalities taken away; :mod:`.rates` makes a table of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.names import canonical, indices, parse_names
from nnunetv2_mmkd.protocols.case_ids import match, read_listed_ids
from nnunetv2_mmkd.protocols.data_set import DataSet

logger = logging.getLogger(__name__)

PASSION_ORDER = ("flair", "t1ce", "t1", "t2")
"""Order of the masks in the CSV files of RFNet's descendants (mmFormer, M2FTrans, PASSION)."""

TRIES = 10_000
"""How often a unit that would be left with nothing is drawn again before the rates are called impossible."""

FLAGS = {"true": True, "1": True, "false": False, "0": False}
"""Entries of a mask: whether the modality is available."""


def draw_missing(
    cases: Sequence[str],
    modalities: Sequence[str],
    rates: Mapping[str, float],
    seed: int,
    declared: Mapping[str, Sequence[str]],
    site_of: Mapping[str, str] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Draw what is missing, independently per case and modality.

    Each modality goes with its own rate, given that every case keeps at least one: a case that would be left with
    nothing is drawn again as a whole. So the realised rates lie below the nominal ones, the more the higher these
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
    """Read the literature's table of masks: columns ``data_name`` and ``mask`` (true: the modality is available).

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
    rows = read_listed_ids(path, "data_name", ["mask"])
    names = [canonical(name) for name in order]
    if sorted(names) != sorted(data.modalities):
        raise InputError(
            f"--order {' '.join(order)}: name each modality of {data.name} once: {', '.join(data.modalities)}"
        )
    found, unknown = match(rows, data, partial)
    if unknown:
        logger.warning("%s: %d ids that the data set does not have: %s", path, len(unknown), first_few(unknown))
    missing = {}
    for case, listed in found.items():
        entries = [FLAGS.get(entry.strip().lower()) for entry in listed.row["mask"].strip("[]() ").split(",")]
        if len(entries) != len(names) or None in entries or not any(entries):
            raise InputError(
                f"{listed.where}: {listed.row['mask']!r} is no mask: it needs {len(names)} entries, True "
                "(available) or False (missing), at least one of them True"
            )
        gone = {name for name, available in zip(names, entries, strict=True) if not available}
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
            raise InputError(f"--lacks {site}=...: no case is of this institution; there are {first_few(known, 40)}")
    return {case: lacks.get(site, ()) for case, site in site_of.items()}


def parse_rates(words: Sequence[str], modalities: Sequence[str], option: str = "--rates") -> dict[str, float]:
    """``["t1=0.2", "t1c=0.4"]`` -> a rate for each modality, 0 for those not named.

    Raises:
        InputError: not of this form, an unknown modality, one named twice, no probability.
    """
    named = _pairs(words, option, "t1=0.2", lambda text: modalities[indices([text], modalities)[0]])
    rates = dict.fromkeys(modalities, 0.0)
    for name, text in named.items():
        try:
            rates[name] = float(text)
        except ValueError as error:
            raise InputError(f"{option} {name}={text}: {text!r} is no number") from error
        if not 0 <= rates[name] <= 1:
            raise InputError(f"{option} {name}={text}: a rate lies between 0 and 1")
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


def _pairs(words: Sequence[str], option: str, example: str, key: Callable[[str], str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not (sign and name.strip() and text.strip()):
            raise InputError(f"{option} {word!r} is not of the form {example}")
        if key(name.strip()) in pairs:
            raise InputError(f"{option} names {key(name.strip())} twice")
        pairs[key(name.strip())] = text.strip()
    return pairs
