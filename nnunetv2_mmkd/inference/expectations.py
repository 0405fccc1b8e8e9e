"""What is said about the cases of a prediction: what each was predicted from, and what to expect of that.

The expectation is the model's performance card, case by case.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nnunetv2_mmkd.evaluation.card import Expected, expected_scores, read_card
from nnunetv2_mmkd.inference.cases import NO_FILE, Case
from nnunetv2_mmkd.inference.model_folder import ModelDescription

Expectation = Mapping[str, Expected]
"""Region -> validation Dice."""


def expectations(
    cases: Sequence[Case], dataset_json: Mapping[str, Any], model: ModelDescription
) -> dict[str, Expectation]:
    """Case -> what to expect; cases whose subset the card does not know are left out."""
    card = read_card(dataset_json, os.path.join(model.folder, "dataset.json"))
    expected: dict[str, Expectation] = {}
    for case in cases:
        entry = expected_scores(card, model.folds, model.checkpoint, "+".join(case.used))
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


def case_line(case: Case) -> str:
    """``"case_1: t1, t2; missing: t1ce (no file)"``."""
    reasons = [f"{name} ({reason})" for name, reason in case.missing.items()]
    return f"{case.identifier}: {', '.join(case.used)}; missing: {', '.join(reasons) or 'nothing'}"


def never_there(cases: Sequence[Case]) -> list[str]:
    """The modalities of which no case has an image, though nobody excluded them."""
    names = cases[0].modalities if cases else ()
    return [name for name in names if all(case.missing.get(name) == NO_FILE for case in cases)]


def summary(cases: Sequence[Case], expected: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What the cases were predicted from, a line for each subset, and what to expect of it.

    Args:
        cases: that were predicted.
        expected: case -> :func:`as_json` of its expectation.
    """
    groups: dict[tuple[str, ...], list[Case]] = {}
    for case in cases:
        groups.setdefault(case.used, []).append(case)
    for used, group in groups.items():
        lacking = [name for name in group[0].modalities if name not in used]
        how = f"without {' and '.join(lacking)}" if lacking else "with all modalities"
        yield f"{_cases(len(group))} {how}." + _sentence(how, expected.get(group[0].identifier))


def confidence_line(case: str, confidence: Mapping[str, Any]) -> str:
    """How sure a segmentation is: ``"bert: agreement WT 0.87, ET none found; leans most on flair (WT)"``.

    Args:
        case: its name.
        confidence: region -> :meth:`~nnunetv2_mmkd.evaluation.confidence.RegionConfidence.as_json`.
    """
    several = any(numbers["without"] for numbers in confidence.values())
    kind = "agreement" if several else "probability"
    values: list[str] = []
    leaning: dict[str, list[str]] = {}
    for region, numbers in confidence.items():
        nothing = numbers["probability"] is None
        values.append(f"{region} {'none found' if nothing else f'{numbers[kind]:.2f}'}")
        if numbers["leans_on"] is not None and not nothing:
            leaning.setdefault(numbers["leans_on"], []).append(region)
    leans = ", ".join(f"{name} ({', '.join(regions)})" for name, regions in leaning.items())
    return f"{case}: {kind} {', '.join(values)}" + f"; leans most on {leans}" * bool(leans)


def _sentence(how: str, expected: Mapping[str, Any] | None) -> str:
    """What the performance card promises."""
    if not expected:
        return ""
    values, counts = [], {entry["cases"] for entry in expected.values()}
    for region, entry in expected.items():
        spread = "" if entry["sd"] is None else f" ± {entry['sd']:.2f}"
        number = f" ({_cases(entry['cases'])})" if len(counts) > 1 else ""
        values.append(f"{region} Dice {entry['dice']:.2f}{spread}{number}")
    count = f", {_cases(min(counts))}" if len(counts) == 1 else ""
    return f" {how.capitalize()} this model reached {', '.join(values)} in validation{count}."


def _cases(count: int) -> str:
    return f"{count} case{'s' * (count != 1)}"
