"""The performance card: what to expect of a model per subset and region, kept with the model.

It lies under the key ``mmkd_performance`` of the model folder's ``dataset.json``, one entry per fold, because nnU-Net
exports that file with the model and would drop any other.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnunetv2_mmkd.errors import InputError

KEY = "mmkd_performance"
"""Key of ``dataset.json``."""

METRIC = "dice"
"""What the card is about."""


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


def fold_card(table: pd.DataFrame, cases: Iterable[str], about: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of one fold.

    Args:
        table: long result table of one method.
        cases: the fold's validation cases.
        about: what else describes the entry (checkpoint, policy for empty regions, window).

    Raises:
        InputError: the table has no Dice of these cases.
    """
    rows = table[(table["metric"] == METRIC) & table["case"].isin(list(cases))].dropna(subset=["value"])
    if rows.empty:
        raise InputError("a performance card is made of Dice: add dice to --metrics")
    subsets: dict[str, dict[str, dict[str, float | int]]] = {}
    for (subset, region), group in rows.groupby(["subset", "region"], sort=False)["value"]:
        spread = float(group.std()) if len(group) > 1 else None
        values = {"mean": round(float(group.mean()), 6), "cases": len(group)}
        subsets.setdefault(str(subset), {})[str(region)] = values | ({} if spread is None else {"sd": round(spread, 6)})
    return {"metric": METRIC, **about, "subsets": subsets}


def read_card(dataset_json: Mapping[str, Any]) -> dict[str, Any]:
    """All folds' entries of a ``dataset.json``; empty without a card."""
    card = dataset_json.get(KEY)
    return dict(card) if isinstance(card, Mapping) else {}


def carried(folder: str | Path, fold: int | str | None) -> dict[str, Any]:
    """The card of a model folder without the entry of a fold that is about to be trained again (None: whole)."""
    file = os.path.join(folder, "dataset.json")
    if not os.path.isfile(file):
        return {}
    try:
        card = read_card(json.loads(Path(file).read_text(encoding="utf-8")))
    except ValueError:
        return {}
    return {key: entry for key, entry in card.items() if key != str(fold)}


def write_card(folder: str | Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Put folds' entries into a model folder's ``dataset.json``; the file is written whole or not at all.

    Raises:
        InputError: it cannot be read or written.
    """
    file = Path(folder) / "dataset.json"
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        content[KEY] = dict(sorted({**read_card(content), **entries}.items()))
        temporary.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
        os.replace(temporary, file)
    except (OSError, ValueError) as error:
        raise InputError(f"the performance card cannot be written to {file}: {error}") from error


def expected(
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
        region -> expectation; None if a fold has no entry for this checkpoint and subset.
    """
    entries = [card.get(str(fold)) for fold in folds]
    if not entries or any(entry is None or entry.get("checkpoint") != checkpoint for entry in entries):
        return None
    tables = [entry["subsets"].get(subset) for entry in entries if entry is not None]
    if any(table is None for table in tables):
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
