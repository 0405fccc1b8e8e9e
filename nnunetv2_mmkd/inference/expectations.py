"""What to expect of a prediction from the available modalities: the model's performance card, case by case."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from nnunetv2_mmkd.evaluation.card import CARD_KEY, Expected, expected_scores, read_card
from nnunetv2_mmkd.inference.cases import Case
from nnunetv2_mmkd.inference.model_folder import ModelDescription

log = logging.getLogger(__name__)

Expectation = Mapping[str, Expected]
"""Region -> validation Dice."""

NAMED = 3
"""So many cases are named in a line."""


def expectations(
    cases: Sequence[Case], dataset_json: Mapping[str, Any], model: ModelDescription
) -> dict[str, Expectation]:
    """Case -> what to expect; cases whose subset the card does not know are left out."""
    card = read_card(dataset_json)
    expected: dict[str, Expectation] = {}
    for case in cases:
        try:
            entry = expected_scores(card, model.folds, model.checkpoint, "+".join(case.used))
        except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
            log.warning(
                "%s: %r is damaged (%s: %s), so what to expect is not said; `mmkd evaluate` writes it anew",
                os.path.join(model.folder, "dataset.json"), CARD_KEY, type(error).__name__, error,
            )  # fmt: skip
            return {}
        if entry is not None:
            expected[case.identifier] = entry
    return expected


def as_json(expectation: Expectation) -> dict[str, dict[str, float | int | None]]:
    """The same as JSON knows it."""
    return {
        region: {
            "dice": round(value.mean, 4),
            "sd": None if math.isnan(value.sd) else round(value.sd, 4),
            "cases": value.cases,
        }
        for region, value in expectation.items()
    }


def lines(cases: Sequence[Case], expected: Mapping[str, Expectation]) -> list[str]:
    """One line per subset for the reader: ``2 cases, t1ce missing: ET Dice 0.46 ± 0.20 in validation (12 cases)``."""
    groups: dict[tuple[str, ...], list[Case]] = {}
    for case in cases:
        if case.identifier in expected:
            groups.setdefault(case.used, []).append(case)
    texts = []
    for group in groups.values():
        who = ", ".join(case.identifier for case in group[:NAMED]) + (", ..." if len(group) > NAMED else "")
        what = f"{' and '.join(group[0].missing)} missing" if group[0].missing else "nothing missing"
        values = "; ".join(f"{region} {value}" for region, value in expected[group[0].identifier].items())
        texts.append(f"{len(group)} case{'s' if len(group) > 1 else ''} ({who}), {what}: {values}")
    return texts
