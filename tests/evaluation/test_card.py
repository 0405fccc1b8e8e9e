"""The performance card: made per fold, pooled over folds, kept in ``dataset.json``."""

from __future__ import annotations

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.card import CARD_KEY, Expected, carried, expected_scores, fold_card, read_card, write_card
from nnunetv2_mmkd.evaluation.result_table import ResultTable

ABOUT = {"checkpoint": "final", "empty": "legacy", "step_size": 0.5, "mirroring": True}
FOLDS = {"0": ["c0", "c1", "c2"], "1": ["c3", "c4"], "2": ["c5"]}


def table() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        [
            ("m", f"c{case}", subset, region, metric, float(generator.random()))
            for case in range(6)
            for subset in ("t1", "t1+t2")
            for region in ("WT", "ET")
            for metric in ("dice", "hd95")
        ],
        columns=["method", "case", "subset", "region", "metric", "value"],
    )


def card(frame: pd.DataFrame, **folds: list[str]) -> dict[str, Any]:
    made = {fold: fold_card(ResultTable.from_frame(frame), cases, ABOUT) for fold, cases in (folds or FOLDS).items()}
    return dict(json.loads(json.dumps(made)))


def cells(frame: pd.DataFrame, cases: list[str], subset: str = "t1", region: str = "WT") -> np.ndarray:
    rows = frame[(frame["subset"] == subset) & (frame["region"] == region) & (frame["metric"] == "dice")]
    return rows[rows["case"].isin(cases)]["value"].dropna().to_numpy(float)


def test_entry_of_a_fold() -> None:
    frame = table()
    entry = fold_card(ResultTable.from_frame(frame), FOLDS["0"], ABOUT)
    assert {key: entry[key] for key in ABOUT} == ABOUT and entry["metric"] == "dice"
    assert list(entry["subsets"]) == ["t1", "t1+t2"] and list(entry["subsets"]["t1"]) == ["WT", "ET"]
    values = cells(frame, FOLDS["0"], "t1+t2", "ET")
    assert entry["subsets"]["t1+t2"]["ET"] == {
        "mean": pytest.approx(values.mean(), abs=1e-15),
        "sd": pytest.approx(values.std(ddof=1), abs=1e-15),
        "cases": 3,
    }


def test_single_case_has_no_sd() -> None:
    entry = card(table())["2"]
    assert set(entry["subsets"]["t1"]["WT"]) == {"mean", "cases"}
    found = expected_scores({"2": entry}, [2], "final", "t1")
    assert found is not None and math.isnan(found["WT"].sd) and found["WT"].cases == 1
    assert str(Expected(0.876, math.nan, 1)) == "Dice 0.88 in validation (1 case)"
    assert str(Expected(0.876, 0.123, 20)) == "Dice 0.88 ± 0.12 in validation (20 cases)"


@pytest.mark.parametrize("folds", [["0"], [0, 1], ["0", "1", "2"], ["2", "1"]])
@pytest.mark.parametrize("subset", ["t1", "t1+t2"])
def test_pooled_folds_are_the_pooled_cases(folds: list[str], subset: str) -> None:
    frame = table()
    frame.loc[frame["case"] == "c0", "value"] = math.nan
    found = expected_scores(card(frame), folds, "final", subset)
    assert found is not None and list(found) == ["WT", "ET"]
    for region, of in found.items():
        values = cells(frame, [case for fold in folds for case in FOLDS[str(fold)]], subset, region)
        assert of.cases == len(values)
        assert of.mean == pytest.approx(values.mean(), abs=1e-14)
        assert of.sd == pytest.approx(values.std(ddof=1), abs=1e-14)


def test_pooled_by_hand() -> None:
    frame = table()
    frame.loc[:, "value"] = frame["case"].map({"c0": 0.2, "c1": 0.4, "c2": 0.6, "c3": 0.8, "c4": 1.0, "c5": 0.0})
    found = expected_scores(card(frame), [0, 1, 2], "final", "t1")
    assert found is not None
    assert found["ET"] == Expected(pytest.approx(0.5), pytest.approx(math.sqrt(0.14)), 6)


def test_nothing_is_expected_where_a_fold_lacks() -> None:
    whole = card(table())
    assert expected_scores(whole, [0, 3], "final", "t1") is None
    assert expected_scores(whole, [0, 1], "best", "t1") is None
    assert expected_scores(whole, [0, 1], "final", "t2") is None
    assert expected_scores(whole, [], "final", "t1") is None
    assert expected_scores({}, [0], "final", "t1") is None
    for change in ({"checkpoint": "best"}, {"empty": "nan"}, {"mirroring": False}, {"step_size": 1.0}, {"subsets": {}}):
        other = {**whole, "1": {**whole["1"], **change}}
        assert expected_scores(other, [0, 1], "final", "t1") is None
        assert expected_scores(other, [0], "final", "t1") is not None
    assert expected_scores({**whole, "1": {**whole["1"], "date": "today"}}, [0, 1], "final", "t1") is not None


def test_undefined_is_left_out() -> None:
    frame = table()
    frame.loc[(frame["subset"] == "t1") & (frame["region"] == "ET"), "value"] = math.nan
    frame.loc[(frame["subset"] == "t1+t2") & frame["case"].isin(FOLDS["1"]), "value"] = math.nan
    whole = card(frame)
    found = expected_scores(whole, [0, 1], "final", "t1")
    assert found is not None and list(found) == ["WT"]
    assert expected_scores(whole, [0, 1], "final", "t1+t2") is None
    assert "NaN" not in json.dumps(whole)


def test_a_card_needs_dice_of_its_cases() -> None:
    frame = table()
    with pytest.raises(InputError, match="add dice to --metrics"):
        fold_card(ResultTable.from_frame(frame[frame["metric"] == "hd95"]), FOLDS["0"], ABOUT)
    with pytest.raises(InputError, match="results of the validation cases z1, z2"):
        fold_card(ResultTable.from_frame(frame), ["z1", "z2"], ABOUT)


CONTENT = {
    "channel_names": {"0": "T1", "1": "Ü"},
    "labels": {"background": 0},
    "mine": [1, {"a": None}],
    "pi": 0.1 + 0.2,
}


def test_writing_keeps_all_else(tmp_path: Path) -> None:
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps(CONTENT, ensure_ascii=False), encoding="utf-8")
    os.chmod(file, 0o664)
    whole = card(table())
    write_card(tmp_path, {"1": whole["1"]})
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found == {**CONTENT, CARD_KEY: {"1": whole["1"]}} and list(found) == [*CONTENT, CARD_KEY]
    write_card(tmp_path, {"0": whole["0"], "1": whole["2"]})
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found == {**CONTENT, CARD_KEY: {"0": whole["0"], "1": whole["2"]}} and list(found[CARD_KEY]) == ["0", "1"]
    assert read_card(found, "dataset.json") == found[CARD_KEY]
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]
    assert file.stat().st_mode & 0o777 == 0o664


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps(CONTENT))
    before = file.read_bytes()

    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(InputError, match=r"cannot write .*dataset\.json: No space left"):
            write_card(tmp_path, {"0": {}})
    with pytest.raises(InputError, match=r"cannot be written to .*dataset\.json"):
        write_card(tmp_path, {"0": {"mean": object()}})
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["dataset.json"]


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset\.json"):
        write_card(tmp_path, {"0": {}})
    assert carried(tmp_path, 0) == {}
    for text in ("{", "[1, 2]", ""):
        (tmp_path / "dataset.json").write_text(text)
        assert carried(tmp_path, 0) == {}
        with pytest.raises(InputError, match=r"dataset\.json"):
            write_card(tmp_path, {"0": {}})
        assert (tmp_path / "dataset.json").read_text() == text


def test_a_fold_that_is_trained_again_drops_only_its_entry(tmp_path: Path) -> None:
    whole = card(table(), **{"0": ["c0"], "1": ["c1"], "10": ["c2"], "all": ["c3"]})
    (tmp_path / "dataset.json").write_text(json.dumps(CONTENT))
    assert carried(tmp_path, 0) == {}
    write_card(tmp_path, whole)
    for fold in (1, "1"):
        assert carried(tmp_path, fold) == {key: whole[key] for key in ("0", "10", "all")}
    assert carried(tmp_path, "all") == {key: whole[key] for key in ("0", "1", "10")}
    assert carried(str(tmp_path), 7) == whole


def scores(mean: Any = 0.5, cases: Any = 2, sd: Any = 0.1) -> dict[str, Any]:
    return {"WT": {"mean": mean, "cases": cases, "sd": sd}}


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ([1], "'mmkd_performance' is damaged (it is no object)"),
        ({"0": 3}, "'mmkd_performance' of fold 0 is damaged (it has no subsets)"),
        ({"0": {"subsets": 3}}, "of fold 0 is damaged (it has no subsets)"),
        ({"0": {"subsets": {"t1": 3}}}, "of fold 0 is damaged (t1, "),
        ({"0": {"subsets": {"t1": {"WT": 3}}}}, "of fold 0 is damaged (t1, WT: 3)"),
        *(
            ({"0": {"subsets": {"t1": values}}}, "of fold 0 is damaged (t1, WT: {'mean'")
            for values in (scores(mean="x"), scores(mean=1.5), scores(cases=0), scores(cases=1.5), scores(sd=math.nan))
        ),
    ],
)
def test_damaged_entries_are_named_and_left_out(card: Any, said: str, caplog: pytest.LogCaptureFixture) -> None:
    assert read_card({}, "x") == {} == read_card({CARD_KEY: None}, "x") and not caplog.text
    good = {"1": {"subsets": {"t1": scores()}}, "2": {"subsets": {"t1": {"WT": {"mean": 1, "cases": 1}}}}}
    content = {CARD_KEY: {**card, **good} if isinstance(card, dict) else card}
    assert read_card(content, "dataset.json") == (good if isinstance(card, dict) else {})
    (record,) = caplog.records
    assert record.getMessage().startswith("dataset.json: ") and said in record.getMessage()


def test_scoring_some_subsets_again_keeps_the_others(tmp_path: Path) -> None:
    file = tmp_path / "dataset.json"
    file.write_text("{}")
    write_card(tmp_path, {"0": {"checkpoint": "a", "subsets": {"t1": scores(0.1), "t2": scores(0.2)}}})
    write_card(tmp_path, {"0": {"checkpoint": "a", "subsets": {"t2": scores(0.3)}}})
    assert json.loads(file.read_text())[CARD_KEY]["0"]["subsets"] == {"t1": scores(0.1), "t2": scores(0.3)}
    write_card(tmp_path, {"0": {"checkpoint": "b", "subsets": {"t2": scores(0.4)}}})
    assert json.loads(file.read_text())[CARD_KEY]["0"]["subsets"] == {"t2": scores(0.4)}


def test_entries_written_at_once_are_all_there(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda fold: write_card(tmp_path, {fold: {"subsets": {"t1": scores()}}}), map(str, range(8))))
    assert len(json.loads((tmp_path / "dataset.json").read_text())[CARD_KEY]) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]
