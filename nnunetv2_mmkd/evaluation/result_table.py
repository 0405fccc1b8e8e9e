"""The long result table: one row per ``method, case, subset, region, metric`` with its ``value``, NaN if undefined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from nnunetv2_mmkd.errors import InputError, choices, first_few
from nnunetv2_mmkd.evaluation.metrics.registry import metric_spec
from nnunetv2_mmkd.evaluation.subsets import SEPARATOR, parse_subset, subset_name
from nnunetv2_mmkd.evaluation.table_files import number, read_columns, write_table
from nnunetv2_mmkd.names import canonical

COLUMNS = ("method", "case", "subset", "region", "metric", "value")
"""Columns of a result table."""

SEED = "seed"
"""One more column where a method was trained several times."""


@dataclass(frozen=True, eq=False)
class ResultTable:
    """A result table that has been checked; make one by :meth:`from_frame` or :meth:`read`.

    Attributes:
        rows: :data:`COLUMNS`, and :data:`SEED` where methods were trained several times. All but ``value`` are text;
            a value is NaN where the metric is undefined, and infinite for a distance to nothing.
        modalities: of the data set, canonical, in channel order; the subsets are named by them. Empty: not known, the
            names of the subsets are as they were given.
        source: where it is from, for messages.
    """

    rows: pd.DataFrame
    modalities: tuple[str, ...] = ()
    source: str = "the result table"

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, modalities: Sequence[str] = (), source: str = "the result table"
    ) -> ResultTable:
        """Check a frame; other columns are left out.

        Args:
            frame: with :data:`COLUMNS`.
            modalities: of the data set in channel order, aliases accepted.
            source: for messages.

        Raises:
            InputError: a column is missing, a cell is empty, a value is no number, a result is given twice, or (where
                modalities are given) a subset of other modalities.
        """
        missing = [column for column in COLUMNS if column not in frame.columns]
        if missing:
            raise InputError(f"{source} lacks the columns {first_few(missing, 5)}; expected {', '.join(COLUMNS)}")
        keys = [*COLUMNS[:-1], *[SEED] * (SEED in frame.columns)]
        try:
            rows = frame[[*COLUMNS, *keys[5:]]].assign(value=pd.to_numeric(frame["value"]).astype(float))
        except (ValueError, TypeError) as error:
            raise InputError(f"{source} has a value that is no number: {error}") from error
        for column in keys:
            if rows[column].isna().any():
                line = int(np.flatnonzero(rows[column].isna())[0]) + 1
                raise InputError(f"{source} has no {column} in row {line}; every row needs all columns but value")
        rows = rows.astype(dict.fromkeys(keys, str))
        if modalities:
            names = {text: subset_name(parse_subset(text, modalities), modalities) for text in rows["subset"].unique()}
            rows = rows.assign(subset=rows["subset"].map(names))
        repeated = rows[rows.duplicated(keys)]
        if len(repeated):
            raise InputError(f"{_described(repeated)} has two values in {source}: give each result once")
        return cls(rows, tuple(canonical(name) for name in modalities), source)

    @classmethod
    def read(cls, *files: str | Path, seeds: bool = False) -> ResultTable:
        """Read CSV files, put together; columns that are not :data:`COLUMNS` are left out.

        With ``seeds`` the column :data:`SEED` is read, too; a file without it is of one training of each method.

        A value that is empty or ``nan`` is NaN, ``inf`` is infinity; all other columns are text, whatever they look
        like.

        Raises:
            InputError: unreadable, as :meth:`from_frame`, or a score outside 0 to 1, such as one in per cent.
        """
        more = (SEED,) if seeds else ()
        rows = [
            (
                *(cells[name] for name in COLUMNS[:-1]),
                number(cells["value"], file, line),
                *(cells.get(name, "-") for name in more),
            )
            for file in files
            for line, cells in read_columns(file, COLUMNS, "results", more)
        ]
        names = [*COLUMNS, *more]
        table = cls.from_frame(pd.DataFrame(rows, columns=names), source=", ".join(map(str, files)))
        for metric, values in table.rows.groupby("metric", sort=False)["value"]:
            outside = values[(values < 0) | (values > 1)]
            if metric_spec(str(metric)).is_score and len(outside):
                raise InputError(
                    f"{_described(table.rows.loc[outside.index])} is {outside.iloc[0]:g} in {table.source}: expected 0 "
                    "to 1, as `mmkd evaluate` writes it; divide values in per cent by 100"
                )
        return table

    @property
    def methods(self) -> list[str]:
        """Methods in the order of the rows."""
        return list(self.rows["method"].unique())

    @property
    def cases(self) -> list[str]:
        """Cases in the order of the rows."""
        return list(self.rows["case"].unique())

    @property
    def subsets(self) -> list[str]:
        """Subsets in the order of the rows."""
        return list(self.rows["subset"].unique())

    @property
    def regions(self) -> list[str]:
        """Regions in the order of the rows."""
        return list(self.rows["region"].unique())

    @property
    def metrics(self) -> list[str]:
        """Metrics in the order of the rows."""
        return list(self.rows["metric"].unique())

    def select(
        self,
        *,
        metric: str | None = None,
        regions: Sequence[str] | None = None,
        methods: Sequence[str] | None = None,
        subsets: Sequence[str] | None = None,
    ) -> ResultTable:
        """The rows of a metric, of regions, methods and subsets; ``None``: all. The order of the rows stays.

        Args:
            metric, regions, methods: names in the table.
            subsets: names; aliases and any order of the modalities accepted.

        Raises:
            InputError: the table has no such metric, region, method or subset.
        """
        rows = self.rows
        chosen: list[str] = []
        for column, names in (("metric", metric and [metric]), ("region", regions), ("method", methods)):
            if names is not None:
                self._require(rows, column, names, chosen)
                rows = rows[rows[column].isin(list(names))]
                chosen += names[:1]
        if subsets is not None:
            known = {_parts(name): name for name in rows["subset"].unique()}
            unknown = [name for name in subsets if _parts(name) not in known]
            if unknown:
                raise InputError(f"no subset {unknown[0]!r} in {self.source}; there are {', '.join(known.values())}")
            rows = rows[rows["subset"].isin([known[_parts(name)] for name in subsets])]
        return replace(self, rows=rows)

    def _require(self, rows: pd.DataFrame, column: str, names: Sequence[str], chosen: Sequence[str]) -> None:
        present = list(rows[column].unique())
        unknown = [name for name in names if name not in present]
        if unknown or not names:
            what = repr(unknown[0]) if unknown else "is chosen"
            among = f" with {', '.join(chosen)}" if chosen else ""
            listed = choices((*unknown, "")[0], present) or "no results"
            raise InputError(f"no {column} {what}{among} in {self.source}; there are {listed}")

    def renamed(self, methods: Mapping[str, str]) -> ResultTable:
        """With other names of methods; several may get one name if they share no result.

        Raises:
            InputError: two methods of one name have the same result.
        """
        frame = self.rows.assign(method=self.rows["method"].replace(dict(methods)))
        return self.from_frame(frame, self.modalities, self.source)

    def require_finite(self) -> None:
        """Refuse infinite values: so would be all means.

        Raises:
            InputError: there are some.
        """
        infinite = self.rows[np.isinf(self.rows["value"])]
        if len(infinite):
            raise InputError(
                f"{_described(infinite)} is infinite, so would be all means ({len(infinite)} such values in "
                f"{self.source}); use a table made with --empty legacy"
            )

    def write(self, file: Path) -> None:
        """Write a CSV, whole or not at all; floats with all their digits, NaN as nothing.

        Raises:
            InputError: it cannot be written.
        """
        write_table(self.rows, file)


def _parts(subset: str) -> frozenset[str]:
    return frozenset(canonical(part) for part in subset.split(SEPARATOR))


def _described(rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    return f"{row['method']}, case {row['case']}, {row['subset']}, {row['region']}, {row['metric']}"
