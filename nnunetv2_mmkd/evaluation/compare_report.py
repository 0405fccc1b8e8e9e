"""What ``mmkd compare`` does: tables of results in, a line per region out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.score import read_table, write_table
from nnunetv2_mmkd.evaluation.statistics import CaseComparison, SubsetComparison, compare
from nnunetv2_mmkd.evaluation.tables import metric_of


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
    """

    metric: str = "dice"
    regions: tuple[str, ...] = ()
    unit: Literal["cases", "subsets"] = "cases"
    average_row: bool = False
    common_only: bool = False
    confidence: float = 0.95
    resamples: int = 10_000
    seed: int = 0


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
        InputError: an unreadable table, the same result in two tables, an unknown method, metric or region.
    """
    table = pd.concat([read_table(file) for file in files], ignore_index=True)
    keys = ["method", "case", "subset", "region", "metric"]
    doubled = table[table.duplicated(keys)]
    if not doubled.empty:
        row = doubled.iloc[0]
        raise InputError(
            f"{row['method']}, case {row['case']}, {row['subset']}, {row['region']}, {row['metric']} has two values in "
            f"{', '.join(map(str, files))}: give each result once"
        )
    rows = table[table["metric"] == settings.metric]
    if rows.empty:
        raise InputError(f"no {settings.metric!r} in the tables; there are {', '.join(table['metric'].unique())}")
    about = metric_of(settings.metric)
    lower = not about.higher_is_better
    of = None if patients is None else _patients(patients)
    found: list[CaseComparison | SubsetComparison] = []
    regions = settings.regions or tuple(rows["region"].unique())
    for region in regions:
        result = compare(
            table,
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
        found.append(result)
    if output is not None:
        write_table(
            pd.DataFrame([{"region": r, **_flat(asdict(f))} for r, f in zip(regions, found, strict=True)]), output
        )
    factor, unit = (100.0, "points") if about.percent else (1.0, about.unit)
    return [
        f"{first} - {second}: {about.title}, {unit or 'as it is'}" + (" (less is better)" if lower else ""),
        *(_line(region, result, factor) for region, result in zip(regions, found, strict=True)),
    ]


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


def _flat(row: dict[str, object]) -> dict[str, object]:
    return {key: len(value) if isinstance(value, tuple) and key != "subsets" else
            " ".join(value) if isinstance(value, tuple) else value for key, value in row.items()}  # fmt: skip


def _patients(file: Path) -> dict[str, str]:
    try:
        frame = pd.read_csv(file, dtype=str)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from error
    if not {"case", "patient"} <= set(frame.columns):
        raise InputError(f"{file}: has the columns {', '.join(frame.columns)}; expected case and patient")
    return dict(zip(frame["case"], frame["patient"], strict=True))
