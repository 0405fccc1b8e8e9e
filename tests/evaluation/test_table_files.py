"""Result tables as CSV files: round trip, whole or not at all, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.table_files import read_table, write_table

NAN, INF = math.nan, math.inf

TABLE = pd.DataFrame(
    [
        ("001", "NA", "t1", "WT", "dice", 0.1 + 0.2),
        ("001", "nan", "t1", "WT", "dice", NAN),
        ('a, "b"', "1e5", "t1+t2", "ET", "hd95", INF),
        ("ü", "c", "t1", "WT", "dice", 1 / 3),
        ("ü", "d", "t1", "WT", "dice", 5e-324),
    ],
    columns=["method", "case", "subset", "region", "metric", "value"],
)


def test_table_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "new" / "table.csv"
    write_table(TABLE, file)
    found = read_table(file)
    assert found["value"].dtype == np.float64
    pd.testing.assert_frame_equal(found, TABLE, check_exact=True)
    assert [path.name for path in file.parent.iterdir()] == ["table.csv"]
    generator = np.random.default_rng(0)
    many = TABLE.iloc[[0] * 1000].assign(value=generator.random(1000) * 10.0 ** generator.integers(-9, 9, 1000))
    write_table(many, file)
    assert read_table(file)["value"].tolist() == many["value"].tolist()


def test_table_with_more_columns_other_order_and_a_mark(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    TABLE.assign(more=1)[["value", "more", *TABLE.columns[:-1]]].to_csv(file, index=False, encoding="utf-8-sig")
    pd.testing.assert_frame_equal(read_table(file), TABLE, check_exact=True)


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "table.csv"
    write_table(TABLE, file)
    before = file.read_text()

    def full(self: pd.DataFrame, path: Path, **options: object) -> None:
        Path(path).write_text("method,ca")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", full)
        with pytest.raises(InputError, match=r"cannot write .*table\.csv: No space left"):
            write_table(TABLE.iloc[:1], file)
    assert file.read_text() == before and [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*folder"):
        write_table(TABLE, tmp_path / "folder")


HEAD = "method,case,subset,region,metric,value\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method,case\n", "has no column 'subset'; a table of results has method, case"),
        ("", "has no column 'method'"),
        (HEAD.replace(",", ";"), "with commas"),
        (HEAD + "a,c,t1,WT,dice,0.5\n\na,d,t1,WT,dice,good\n", "line 4: value 'good' is not a number"),
        (HEAD + "a,c,t1,WT,dice\n", "line 2: 5 cells; expected 6"),
        (HEAD + "a,c,t1,WT,dice,0.5,1\n", "line 2: 7 cells; expected 6"),
        (HEAD + "a,c,,WT,dice,0.5\n", "line 2: no subset"),
    ],
)
def test_bad_tables_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "table.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"table\.csv.*{message}"):
        read_table(file)


def test_what_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00\x81")
    for file in (tmp_path / "table.csv", tmp_path / "none.csv", tmp_path):
        with pytest.raises(InputError, match=f"{file.name}: cannot be read"):
            read_table(file)
