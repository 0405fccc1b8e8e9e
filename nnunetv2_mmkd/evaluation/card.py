"""The performance card: what to expect of a model per subset and region, stored with the model.

It lies under the key ``mmkd_performance`` of the model folder's ``dataset.json``, one entry per fold, because nnU-Net
exports that file with the model and would drop any other.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError, one_line
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.files import TURN, locked, replacing
from nnunetv2_mmkd.nnunet_json import read_object

log = logging.getLogger(__name__)

CARD_KEY = "mmkd_performance"
"""Key of ``dataset.json``."""

CARD_METRIC = "dice"
"""What the card is about."""

_VALUES: Mapping[str, tuple[tuple[type, ...], float, float]] = {
    "mean": ((int, float), 0, 1),
    "sd": ((int, float), 0, 1),
    "cases": ((int,), 1, math.inf),
}
"""Kind, least and most of each number."""

_SETTINGS = ("metric", "checkpoint", "empty", "step_size", "mirroring")
"""In what entries must agree to be pooled."""


@dataclass(frozen=True)
class Expected:
    """Validation Dice of one subset and region.

    Attributes:
        mean, sd: over the cases, 0..1; ``sd`` is NaN for a single case.
        cases: how many.
    """

    mean: float
    sd: float
    cases: int

    def __str__(self) -> str:
        spread = "" if math.isnan(self.sd) else f" ± {self.sd:.2f}"
        return f"Dice {self.mean:.2f}{spread} in validation ({self.cases} case{'s' if self.cases > 1 else ''})"


def fold_card(table: ResultTable, cases: Iterable[str], about: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of one fold.

    Args:
        table: long result table of one method. NaN is left out; a subset without any value is not in the entry.
        cases: the fold's validation cases.
        about: what else describes the entry (checkpoint, policy for empty regions, window).

    Raises:
        InputError: the table has no Dice of these cases.
    """
    cases = list(cases)
    rows = table.rows[(table.rows["metric"] == CARD_METRIC) & table.rows["case"].isin(cases)]
    if rows.empty:
        if CARD_METRIC in table.metrics:
            raise InputError(f"the performance card needs results of the validation cases {', '.join(cases[:3])}, ...")
        raise InputError("a performance card is made of Dice: add dice to --metrics")
    subsets: dict[str, dict[str, dict[str, float | int]]] = {}
    groups = rows.dropna(subset=["value"]).groupby(["subset", "region"], sort=False)["value"]
    for (subset, region), group in groups:
        values: dict[str, float | int] = {"mean": float(group.mean()), "cases": len(group)}
        if len(group) > 1:
            values["sd"] = float(group.std())
        subsets.setdefault(str(subset), {})[str(region)] = values
    return {"metric": CARD_METRIC, **about, "subsets": subsets}


def read_card(dataset_json: Mapping[str, Any], where: str | Path) -> dict[str, Any]:
    """All folds' entries of a ``dataset.json``; empty without a card. Damaged ones are named and left out.

    Args:
        dataset_json: its content.
        where: the file, for the warning.
    """
    card = dataset_json.get(CARD_KEY)
    if card is None:
        return {}
    damage = {} if isinstance(card, Mapping) else {"": "it is no object"}
    for fold, entry in card.items() if isinstance(card, Mapping) else ():
        if wrong := _damage(entry):
            damage[fold] = wrong
    for fold, wrong in damage.items():
        log.warning(
            "%s: %r%s is damaged (%s), so it is left out; `mmkd evaluate` writes it anew",
            where, CARD_KEY, f" of fold {one_line(fold, 60)}" * bool(fold), wrong,
        )  # fmt: skip
    return {fold: entry for fold, entry in card.items() if fold not in damage} if isinstance(card, Mapping) else {}


def _damage(entry: Any) -> str:
    """What is wrong with the entry of a fold; empty: nothing."""
    subsets = entry.get("subsets") if isinstance(entry, Mapping) else None
    if not isinstance(subsets, Mapping):
        return "it has no subsets"
    for subset, regions in subsets.items():
        for region, values in regions.items() if isinstance(regions, Mapping) else [("", regions)]:
            if not isinstance(values, Mapping) or not all(_is_good(key, {"sd": 0.0, **values}) for key in _VALUES):
                return one_line(f"{subset}, {region}: {values}", 150)
    return ""


def _is_good(key: str, values: Mapping[str, Any]) -> bool:
    kinds, least, most = _VALUES[key]
    return type(values.get(key)) in kinds and least <= values[key] <= most


def carried(folder: str | Path, fold: int | str | None) -> dict[str, Any]:
    """The card of a model folder without the entry of a fold that is about to be trained again (None: whole)."""
    file = os.path.join(folder, "dataset.json")
    if not os.path.isfile(file):
        return {}
    try:
        card = read_card(read_object(file), file)
    except InputError as error:
        log.warning("%s, so no performance card of other folds is kept", error)
        return {}
    return {key: entry for key, entry in card.items() if key != str(fold)}


def write_card(folder: str | Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Put folds' entries into a model folder's ``dataset.json``; the file is written whole or not at all.

    Subsets of an earlier entry of the same kind (checkpoint, policy, window) stay where the new one lacks them.

    Raises:
        InputError: it cannot be read or written.
    """
    file = Path(folder) / "dataset.json"
    with locked(file.parent, ".performance", seconds=TURN):  # other runs may write other folds' or subsets' entries
        try:
            content = read_object(file)
            card = read_card(content, file)
            card.update({str(fold): _joined(card.get(str(fold)), entry) for fold, entry in entries.items()})
            content[CARD_KEY] = dict(sorted(card.items()))
            text = json.dumps(content, indent=4) + "\n"
        except (TypeError, ValueError) as error:
            raise InputError(f"the performance card cannot be written to {file}: {error}") from error
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
            shutil.copymode(file, temporary)


def _joined(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    def about(entry: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in entry.items() if key != "subsets"}

    if old is None or about(old) != about(new):
        return dict(new)
    return {**new, "subsets": {**old["subsets"], **new["subsets"]}}


def expected_scores(
    card: Mapping[str, Any], folds: Sequence[int | str], checkpoint: str, subset: str
) -> dict[str, Expected] | None:
    """What to expect of a prediction with a subset.

    The folds' validation cases are pooled: the mean over all of them and their standard deviation.

    Args:
        card: :func:`read_card`.
        folds: that predict.
        checkpoint: that predicts.
        subset: name, e.g. ``"t1+t2"``.

    Returns:
        region -> expectation; None if a fold has no entry for this checkpoint and subset, or the folds' entries were
        made in different ways (policy for empty regions, window).
    """
    entries = [card[str(fold)] for fold in folds if str(fold) in card]
    if not entries or len(entries) < len(folds):
        return None
    settings = [[entry.get(key) for key in _SETTINGS] for entry in entries]
    tables = [entry["subsets"].get(subset) for entry in entries]
    if any(each != settings[0] for each in settings) or entries[0].get("checkpoint") != checkpoint or not all(tables):
        return None
    regions = list(dict.fromkeys(region for table in tables for region in table))
    return {region: _pooled([table[region] for table in tables if region in table]) for region in regions}


def _pooled(parts: Sequence[Mapping[str, Any]]) -> Expected:
    count = sum(int(part["cases"]) for part in parts)
    mean = sum(part["cases"] * part["mean"] for part in parts) / count
    squares = sum(
        (part["cases"] - 1) * part.get("sd", 0.0) ** 2 + part["cases"] * (part["mean"] - mean) ** 2 for part in parts
    )
    return Expected(float(mean), math.sqrt(squares / (count - 1)) if count > 1 else math.nan, count)
