"""What ``mmkd compare`` does: a table of results in, a line per region out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metrics.registry import metric_spec
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.statistics import CaseComparison, SubsetComparison, compare
from nnunetv2_mmkd.evaluation.table_files import read_columns, write_table


@dataclass(frozen=True)
class CompareSettings:
    """How two methods are compared; see :func:`~nnunetv2_mmkd.evaluation.statistics.compare`.

    Attributes:
        metric: of the tables.
        regions: empty: all.
        unit: ``"cases"`` or ``"subsets"``.
        average_row: one more pair (``"subsets"`` only).
        common_only: leave out what only one method has, instead of refusing.
        confidence, resamples, seed: of the bootstrap.
        subsets: names, aliases and any order accepted; empty: all.

    Raises:
        InputError: settings that do not go together.
    """

    metric: str = "dice"
    regions: tuple[str, ...] = ()
    unit: Literal["cases", "subsets"] = "cases"
    average_row: bool = False
    common_only: bool = False
    confidence: float = 0.95
    resamples: int = 10_000
    seed: int = 0
    subsets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.unit == "cases" and self.average_row:
            raise InputError("the average row is a pair of the test over subsets: add --unit subsets, or leave it out")


def compare_files(
    files: Sequence[Path],
    first: str,
    second: str,
    settings: CompareSettings,
    patients: Path | None = None,
    output: Path | None = None,
) -> list[str]:
    """Compare two methods region by region.

    Args:
        files: tables of results, put together.
        first, second: methods; differences are first - second.
        settings: how.
        patients: CSV with the columns ``case`` and ``patient``.
        output: also write a row per region to this CSV.

    Returns:
        Lines for the reader.

    Raises:
        InputError: an unreadable table, or as :func:`compare_regions`.
    """
    if settings.unit == "subsets" and patients is not None:
        raise InputError(f"{patients}: patients are drawn with --unit cases; the test over subsets knows no patients")
    table = ResultTable.read(*files)
    of = None if patients is None else read_patients(patients)
    results = compare_regions(table, first, second, settings, of)
    if output is not None:
        write_table(pd.DataFrame(comparison_rows(results, settings)), output)
    spec = metric_spec(settings.metric)
    head = f"{first} - {second}: {spec.title}" + f", {spec.difference_unit}" * bool(spec.difference_unit)
    head += ", less is better" * (not spec.higher_is_better)
    if settings.unit == "cases":
        head += f"; [{100 * settings.confidence:g} % interval, bootstrap over patients]"
    return [head, *(_line(region, result, spec.scale) for region, result in results.items())]


def compare_regions(
    table: ResultTable,
    first: str,
    second: str,
    settings: CompareSettings,
    patients: Mapping[str, str] | None = None,
) -> dict[str, CaseComparison | SubsetComparison]:
    """Compare two methods in each region.

    Args:
        table: results.
        first, second: methods; differences are first - second.
        settings: how.
        patients: case -> patient.

    Raises:
        InputError: an unknown method, metric, region or subset, or as
            :func:`~nnunetv2_mmkd.evaluation.statistics.compare`.
    """
    chosen = table.select(metric=settings.metric, methods=[first, second], subsets=settings.subsets or None)
    lower = not metric_spec(settings.metric).higher_is_better
    return {
        region: compare(
            chosen,
            first,
            second,
            region=region,
            metric=settings.metric,
            unit=settings.unit,
            patients=patients,
            alternative="less" if settings.unit == "subsets" and lower else None,
            average_row=settings.average_row,
            common_only=settings.common_only,
            confidence=settings.confidence,
            resamples=settings.resamples,
            seed=settings.seed,
        )
        for region in settings.regions or chosen.regions
    }


def comparison_rows(
    results: Mapping[str, CaseComparison | SubsetComparison], settings: CompareSettings
) -> list[dict[str, Any]]:
    """A row of cells per region: subsets by name, of everything else that is left out its number."""
    return [
        {"region": region, "metric": settings.metric, "unit": settings.unit}
        | {key: _cell(key, value) for key, value in asdict(result).items()}
        for region, result in results.items()
    ]


def read_patients(file: Path) -> dict[str, str]:
    """Case -> patient, from a CSV with these columns.

    Raises:
        InputError: unreadable, or a case with two patients.
    """
    patients: dict[str, str] = {}
    for line, cells in read_columns(file, ("case", "patient"), "patients"):
        if patients.setdefault(cells["case"], cells["patient"]) != cells["patient"]:
            raise InputError(f"{file}, line {line}: case {cells['case']} has two patients; keep one of them")
    return patients


def _line(region: str, result: CaseComparison | SubsetComparison, factor: float) -> str:
    if isinstance(result, SubsetComparison):
        kind = f"{result.pairs} pairs" + (" (average row included)" if result.average_row else "")
        return (
            f"{region}: {factor * result.difference:+.2f}, t = {result.t:.3f}, one-tailed p = {result.p_value:.4g}, "
            f"{kind}" + _left_out(result)
        )
    return (
        f"{region}: {factor * result.mean_first:.2f} - {factor * result.mean_second:.2f} = "
        f"{factor * result.difference:+.2f} [{factor * result.ci_low:+.2f}, {factor * result.ci_high:+.2f}], "
        f"Wilcoxon p = {result.p_value:.4g}, {result.cases} cases of {result.patients} patients, "
        f"{len(result.subsets)} subsets" + _left_out(result)
    )


def _left_out(result: CaseComparison | SubsetComparison) -> str:
    count = result.undefined if isinstance(result, CaseComparison) else len(result.undefined)
    parts = [f"{count} undefined left out"] * bool(count)
    parts += [f"{len(result.missing)} of one method only left out"] * bool(result.missing)
    return "".join(f"; {part}" for part in parts)


def _cell(key: str, value: object) -> object:
    if not isinstance(value, tuple):
        return value
    return " ".join(value) if key == "subsets" else len(value)
