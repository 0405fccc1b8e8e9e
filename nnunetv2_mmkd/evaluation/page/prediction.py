"""The page of ``mmkd predict --report``: what each case was predicted from, what to expect of that, and its volumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nnunetv2_mmkd.evaluation.figures.style import cases as counted
from nnunetv2_mmkd.evaluation.figures.style import shown
from nnunetv2_mmkd.evaluation.page.case_view import CaseView
from nnunetv2_mmkd.evaluation.page.content import Cell, Page, Row, Table, number

SEGMENTATION = "Segmentation"
"""What the viewer calls it."""

AGREEMENT = "Agreement"
"""The number of ``mmkd predict --uncertainty``."""

_AGREEMENT_NOTE = (
    "Agreement (0 to 1): how far the segmentation stays the same when one of its images is left out. A low one is a "
    "reason to look closely; it is no Dice."
)

GATE = "Images weigh"
"""What a model says that weighs a network for each image."""

NO_CARD = "No performance card: what to expect is not known for {}. mmkd evaluate writes it into the model's folder."


def prediction_page(
    name: str, report: Mapping[str, Any], views: Sequence[CaseView], regions: Sequence[str], more: int = 0
) -> Page:
    """The page of a folder of segmentations.

    Args:
        name: of the folder.
        report: content of ``mmkd_report.json``.
        views: of its cases, in its order.
        regions: their names.
        more: cases of the folder without images in the page.
    """
    entries: Mapping[str, Mapping[str, Any]] = report["cases"]
    modalities: Sequence[str] = report["modalities"]
    complete = sum(len(entry["used"]) == len(modalities) for entry in entries.values())
    models = report.get("models") or [report.get("model") or {}]
    numbers = {view.case: index for index, view in enumerate(view for view in views if view.viewer)}
    known = [entry["expected"] for entry in entries.values() if entry.get("expected")]
    facts = [
        ("Cases", str(len(entries))),
        ("With all images", str(complete)),
        ("With images missing", str(len(entries) - complete)),
        ("Images the model knows", ", ".join(map(shown, modalities))),
        *(("Model", _model(model)) for model in models),
    ]
    unknown = [case for case, entry in entries.items() if not entry.get("expected")]
    return Page(
        title=f"Segmentations in {name}",
        lead="What each case was segmented from, how far the result can be trusted, and what it looks like.",
        facts=tuple(facts),
        warnings=tuple(_warnings(entries, modalities, views)),
        tables=(
            _expectations(entries, regions, unknown),
            _cases(entries, {view.case: view for view in views}, regions, numbers, bool(known)),
        ),
        cases=tuple(
            {
                **view.viewer,
                "numbers": {SEGMENTATION: _numbers(view, entries[view.case], regions)},
                "details": _details(view, entries),
            }
            for view in views
            if view.viewer
        ),
        notes=tuple(_notes(more)),
    )


def _model(model: Mapping[str, Any]) -> str:
    folds = ", ".join(map(str, model.get("folds", ())))
    return f"{model.get('trainer') or 'unknown'}, {model.get('configuration')}, fold {folds}" if model else "unknown"


def _warnings(
    entries: Mapping[str, Mapping[str, Any]], modalities: Sequence[str], views: Iterable[CaseView]
) -> list[str]:
    never = [name for name in modalities if all(name in entry["missing"] for entry in entries.values())]
    lines = [f"No case was segmented with {shown(name)}: is that what you expect?" for name in never if entries]
    undone = [case for case, entry in entries.items() if not entry.get("done")]
    lines += [f"{case} has no segmentation yet." for case in undone]
    return lines + [f"{view.case}: {problem}" for view in views for problem in view.problems]


def _expectations(entries: Mapping[str, Mapping[str, Any]], regions: Sequence[str], unknown: Sequence[str]) -> Table:
    """A row for each set of images that cases were segmented from, and each model."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for entry in entries.values():
        model = (entry.get("model") or {}).get("trainer", "")
        groups.setdefault((tuple(entry["used"]), tuple(entry["missing"]), model), []).append(entry)
    rows = []
    known = len(unknown) < len(entries)
    for (used, missing, _), group in sorted(groups.items(), key=lambda item: -len(item[0][0])):
        expected = group[0].get("expected") or {}
        first: Mapping[str, Any] = next(iter(expected.values()), {})
        rows.append(
            (
                Cell(_names(used)),
                Cell(_names(missing) or "nothing"),
                Cell(str(len(group)), float(len(group))),
                *(_dice(expected.get(region)) for region in regions if known),
                *([Cell(str(first["cases"]), float(first["cases"])) if first else Cell("–")] if known else ()),
            )
        )
    if not known:
        columns = ("Segmented from", "Missing", "Cases here")
        return Table(
            "What to expect", columns, {"all": tuple(rows)}, lead=NO_CARD.format(counted(len(unknown))), numbers=1
        )
    return Table(
        "What to expect",
        ("Segmented from", "Missing", "Cases here", *regions, "Validated on"),
        {"all": tuple(rows)},
        (("", 3), ("Dice in validation, mean ± standard deviation", len(regions)), ("", 1)),
        lead="How well the model did in validation with the same images missing. It is a mean: single cases differ.",
        notes=(NO_CARD.format(counted(len(unknown))),) if unknown else (),
        numbers=len(regions) + 2,
    )


def _names(modalities: Iterable[str]) -> str:
    return ", ".join(map(shown, modalities))


def _dice(entry: Mapping[str, Any] | None) -> Cell:
    if not entry:
        return Cell("–")
    spread = "" if entry.get("sd") is None else f" ± {100 * entry['sd']:.0f}"
    return Cell(f"{100 * entry['dice']:.0f}{spread} %", float(entry["dice"]))


def _cases(
    entries: Mapping[str, Mapping[str, Any]],
    views: Mapping[str, CaseView],
    regions: Sequence[str],
    numbers: Mapping[str, int],
    expected: bool,
) -> Table:
    rows: list[Row] = []
    unit = next((view.unit for view in views.values() if view.volumes), "ml")
    uncertain = any(entry.get("uncertainty") for entry in entries.values())
    columns = [("Dice in validation", len(regions))] * expected + [(AGREEMENT, len(regions))] * uncertain
    for case, entry in entries.items():
        volumes = next(iter(views[case].volumes.values()), {}) if case in views else {}
        rows.append(
            (
                Cell(case, case=numbers.get(case)),
                Cell(_names(entry["used"])),
                Cell(missing_text(entry["missing"]) or "nothing"),
                *(number(volumes.get(region, float("nan"))) for region in regions),
                *([_dice((entry.get("expected") or {}).get(region)) for region in regions] if expected else ()),
                *([_agreement(entry, region) for region in regions] if uncertain else ()),
            )
        )
    return Table(
        "Cases",
        ("Case", "Segmented from", "Missing", *(list(regions) * (1 + expected + uncertain))),
        {"all": tuple(rows)},
        (("", 3), (f"Volume ({unit})", len(regions)), *columns),
        lead="Follow a case's name to look at it.",
        notes=(_AGREEMENT_NOTE,) * uncertain,
        numbers=len(regions) * (1 + expected + uncertain),
        filtered=True,
    )


def _agreement(entry: Mapping[str, Any], region: str) -> Cell:
    """What ``--uncertainty`` says of a region."""
    value = (entry.get("uncertainty") or {}).get(region, {}).get("agreement")
    return Cell("–") if value is None else number(float(value), 2)


def _gate(entry: Mapping[str, Any], region: str) -> str:
    """``"FLAIR 70 %, T1 30 %"``, of a region that the model has a head for."""
    weights: Mapping[str, float] = (entry.get("gate") or {}).get(region, {})
    known = sorted(((weight, name) for name, weight in weights.items() if name in entry["used"]), reverse=True)
    return ", ".join(f"{shown(name)} {100 * weight:.0f} %" for weight, name in known) or "–"


def missing_text(missing: Mapping[str, str]) -> str:
    """``"T1ce (no file), FLAIR (all zero)"``."""
    return ", ".join(f"{shown(name)} ({reason})" for name, reason in missing.items())


def _numbers(view: CaseView, entry: Mapping[str, Any], regions: Sequence[str]) -> dict[str, Any]:
    """The table beside the viewer."""
    volumes = next(iter(view.volumes.values()))
    expected = entry.get("expected") or {}
    uncertainty = entry.get("uncertainty") or {}
    columns = [
        "Region",
        "Volume",
        *["Dice in validation"] * bool(expected),
        *[AGREEMENT, "Leans on"] * bool(uncertainty),
        *[GATE] * bool(entry.get("gate")),
    ]
    rows = [
        [
            region,
            f"{volumes[region]:.1f} {view.unit}",
            *[_dice(expected.get(region)).text] * bool(expected),
            *[_agreement(entry, region).text, shown(uncertainty.get(region, {}).get("leans_on") or "–")]
            * bool(uncertainty),
            *[_gate(entry, region)] * bool(entry.get("gate")),
        ]
        for region in regions
    ]
    return {"columns": columns, "rows": rows}


def _details(view: CaseView, entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    entry = entries[view.case]
    missing = missing_text(entry["missing"])
    return [f"Segmented from {_names(entry['used'])}; missing: {missing or 'nothing'}.", *view.problems]


def _notes(more: int) -> list[str]:
    lines = [
        "Every number is of the whole volume, also where the viewer shows some of the slices.",
        "The same for programs: mmkd_report.json, beside this page. The segmentations are there, too.",
    ]
    return [f"Images of {counted(more)} more are left out, so that the page stays small.", *lines] if more else lines
