"""Result tables as CSV files: round trip, whole or not at all, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.table_files import write_table

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
    found = ResultTable.read(file).rows
    assert found["value"].dtype == np.float64
    pd.testing.assert_frame_equal(found, TABLE, check_exact=True)
    assert [path.name for path in file.parent.iterdir()] == ["table.csv"]
    generator = np.random.default_rng(0)
    many = TABLE.iloc[[0] * 1000].assign(
        case=[str(case) for case in range(1000)],
        metric="hd95",
        value=generator.random(1000) * 10.0 ** generator.integers(-9, 9, 1000),
    )
    write_table(many, file)
    assert ResultTable.read(file).rows["value"].tolist() == many["value"].tolist()


def test_table_with_more_columns_other_order_and_a_mark(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    TABLE.assign(more=1)[["value", "more", *TABLE.columns[:-1]]].to_csv(file, index=False, encoding="utf-8-sig")
    pd.testing.assert_frame_equal(ResultTable.read(file).rows, TABLE, check_exact=True)


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
        (HEAD + "a,c,t1,WT,hd95,3\na,d,t1,WT,dice,87.5\n", "expected 0 to 1, .*divide values in per cent by 100"),
        (HEAD + "a,c,t1,WT,sensitivity,-0.1\n", "expected 0 to 1"),
    ],
)
def test_bad_tables_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "table.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"table\.csv.*{message}"):
        ResultTable.read(file)


def test_what_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00\x81")
    for file in (tmp_path / "table.csv", tmp_path / "none.csv", tmp_path):
        with pytest.raises(InputError, match=f"{file.name}: cannot be read"):
            ResultTable.read(file)


def test_a_frame_is_checked_once_and_for_all() -> None:
    table = ResultTable.from_frame(TABLE.assign(more=1).sample(frac=1, random_state=0))
    assert list(table.rows.columns) == list(TABLE.columns)
    with pytest.raises(InputError, match="lacks the columns case"):
        ResultTable.from_frame(TABLE.drop(columns="case"))
    with pytest.raises(InputError, match="no number"):
        ResultTable.from_frame(TABLE.assign(value="high"))
    with pytest.raises(InputError, match=r"001, case NA, t1, WT, dice has two values in a\.csv"):
        ResultTable.from_frame(pd.concat([TABLE, TABLE.head(1)]), source="a.csv")
    with pytest.raises(InputError, match="no case in row 2"):
        ResultTable.from_frame(TABLE.assign(case=["NA", None, "a", "b", "c"]))
    with pytest.raises(InputError, match="unknown modality"):
        ResultTable.from_frame(TABLE, ("t1", "flair"))


def test_seeds_tell_results_apart() -> None:
    twice = pd.concat([TABLE.assign(seed=3), TABLE.assign(seed=5)])
    assert set(ResultTable.from_frame(twice).rows["seed"]) == {"3", "5"}
    with pytest.raises(InputError, match="two values"):
        ResultTable.from_frame(twice.assign(seed=3))


def test_select() -> None:
    table = ResultTable.from_frame(TABLE, ("t1", "t2"))
    assert table.select(metric="dice", methods=["ü"]).cases == ["c", "d"]
    assert table.select(subsets=["T2w+T1"]).subsets == ["t1+t2"]
    assert table.select(regions=["ET", "WT"]).rows.equals(table.rows)
    for options, message in (
        ({"metric": "nsd"}, "no metric 'nsd' in the result table; there are dice, hd95"),
        ({"metric": "hd95", "regions": ["WT"]}, "no region 'WT' with hd95 in the result table; there are ET"),
        ({"methods": ["x"]}, 'no method .x. in the result table; there are 001; a, "b"; ü'),
        ({"methods": []}, "no method is chosen"),
        ({"subsets": ["t2"]}, r"no subset 't2' in the result table; there are t1, t1\+t2"),
    ):
        with pytest.raises(InputError, match=message):
            table.select(**options)  # type: ignore[arg-type]


def test_several_methods_get_one_name_if_they_share_no_result() -> None:
    table = ResultTable.from_frame(TABLE)
    assert table.renamed({"001": "one", "ü": "one"}).methods == ["one", 'a, "b"']
    alike = pd.concat([TABLE, TABLE.head(1).assign(method="ü")])
    with pytest.raises(InputError, match="one, case NA, t1, WT, dice has two values"):
        ResultTable.from_frame(alike).renamed({"001": "one", "ü": "one"})
