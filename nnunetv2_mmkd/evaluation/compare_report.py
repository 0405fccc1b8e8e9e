"""What ``mmkd compare`` does: tables of results in, a line per region out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.metric_names import metric_of
from nnunetv2_mmkd.evaluation.statistics import CaseComparison, SubsetComparison, compare
from nnunetv2_mmkd.evaluation.subsets import SEPARATOR
from nnunetv2_mmkd.evaluation.table_files import read_columns, read_table, write_table
from nnunetv2_mmkd.names import canonical


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


def compare_tables(
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
        InputError: an unreadable table, the same result twice, an unknown method, metric or region, infinite values,
            settings that do not go together, or as :func:`~nnunetv2_mmkd.evaluation.statistics.compare`.
    """
    if settings.unit == "cases" and settings.average_row:
        raise InputError("the average row is a pair of the test over subsets: add --unit subsets, or leave it out")
    if settings.unit == "subsets" and patients is not None:
        raise InputError(f"{patients}: patients are drawn with --unit cases; the test over subsets knows no patients")
    table = pd.concat([read_table(file) for file in files], ignore_index=True)
    if settings.subsets:
        table = _with_subsets(table, settings.subsets)
    rows = _rows(table, files, first, second, settings.metric)
    about = metric_of(settings.metric)
    lower = not about.higher_is_better
    of = None if patients is None else _patients(patients)
    regions = settings.regions or tuple(map(str, rows["region"].unique()))
    found = [
        compare(
            rows,
            first,
            second,
            region=region,
            metric=settings.metric,
            unit=settings.unit,
            patients=of,
            alternative="less" if settings.unit == "subsets" and lower else None,
            average_row=settings.average_row,
            common_only=settings.common_only,
            confidence=settings.confidence,
            resamples=settings.resamples,
            seed=settings.seed,
        )
        for region in regions
    ]
    if output is not None:
        flat = [
            {"region": region, "metric": settings.metric, "unit": settings.unit, **_flat(asdict(result))}
            for region, result in zip(regions, found, strict=True)
        ]
        write_table(pd.DataFrame(flat), output)
    factor, unit = (100.0, "points") if about.percent else (1.0, about.unit)
    head = f"{first} - {second}: {about.title}" + f", {unit}" * bool(unit) + ", less is better" * lower
    if settings.unit == "cases":
        head += f"; [{100 * settings.confidence:g} % interval, bootstrap over patients]"
    return [head, *(_line(region, result, factor) for region, result in zip(regions, found, strict=True))]


def _rows(table: pd.DataFrame, files: Sequence[Path], first: str, second: str, metric: str) -> pd.DataFrame:
    """The rows of the two methods and the metric."""
    read = ", ".join(map(str, files))
    doubled = table[table.duplicated(["method", "case", "subset", "region", "metric"])]
    if not doubled.empty:
        row = doubled.iloc[0]
        raise InputError(
            f"{row['method']}, case {row['case']}, {row['subset']}, {row['region']}, {row['metric']} has two values in "
            f"{read}: give each result once"
        )
    rows = table[table["metric"] == metric]
    if rows.empty:
        raise InputError(f"no {metric!r} in {read}; there are {', '.join(table['metric'].unique()) or 'no results'}")
    for name in (first, second):
        if name not in set(rows["method"]):
            raise InputError(
                f"no method {name!r} with {metric} in {read}; there are {', '.join(rows['method'].unique())}"
            )
    rows = rows[rows["method"].isin([first, second])]
    infinite = rows[np.isinf(rows["value"])]
    if not infinite.empty:
        row = infinite.iloc[0]
        raise InputError(
            f"{row['method']}, case {row['case']}, {row['subset']}, {row['region']}: {metric} is infinite, so would be "
            f"all means ({len(infinite)} such values in {read}); compare a table made with --empty legacy"
        )
    return rows


def _with_subsets(table: pd.DataFrame, subsets: Sequence[str]) -> pd.DataFrame:
    """The rows of some subsets."""

    def parts(name: str) -> frozenset[str]:
        return frozenset(canonical(part) for part in str(name).split(SEPARATOR))

    there = {parts(name): str(name) for name in table["subset"].unique()}
    unknown = [name for name in subsets if parts(name) not in there]
    if unknown:
        raise InputError(f"no results with the subset {unknown[0]!r}; there are {', '.join(there.values())}")
    return table[table["subset"].isin([there[parts(name)] for name in subsets])]


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


def _flat(row: Mapping[str, object]) -> dict[str, object]:
    """A result as cells: subsets by name, of everything else that is left out its number."""
    return {key: _cell(key, value) for key, value in row.items()}


def _cell(key: str, value: object) -> object:
    if not isinstance(value, tuple):
        return value
    return " ".join(value) if key == "subsets" else len(value)


def _patients(file: Path) -> dict[str, str]:
    """Case -> patient."""
    found: dict[str, str] = {}
    for line, cells in read_columns(file, ("case", "patient"), "patients"):
        if found.setdefault(cells["case"], cells["patient"]) != cells["patient"]:
            raise InputError(f"{file}, line {line}: case {cells['case']} has two patients; keep one of them")
    return found
