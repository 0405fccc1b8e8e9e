"""Missing-rate tables: drawn, from the literature's CSV, by institution; the trainer's own reader takes them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from listed import write_lines, write_names

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.protocols.missing_masks import (
    draw_missing,
    parse_lacks,
    parse_rates,
    share_missing,
    site_pattern,
)
from nnunetv2_mmkd.protocols.missing_rates import WrittenRates, write_rates

NAMES = ("t1", "t1ce", "t2", "flair")
CASES = [f"BraTS20_Training_{number:03d}" for number in range(1, 7)]
HIGH = dict(zip(NAMES, (0.2, 0.4, 0.6, 0.8), strict=True))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_names(tmp_path, monkeypatch, CASES, missing={CASES[0]: ["t1c"], CASES[1]: ["T1", "T2"]})


def read(written: WrittenRates):
    return json.loads(written.path.read_text())


def passion(tmp_path: Path, *rows: str) -> Path:
    return write_lines(tmp_path / "imb_split_mr2468.csv", "data_name,mask_id,mask,pos_mask_ids", *rows)


def test_missing_is_independent_given_that_something_stays() -> None:
    cases = [f"{number:05d}" for number in range(20_000)]
    missing = draw_missing(cases, NAMES, HIGH, 1037, {})
    assert max(map(len, missing.values())) == 3
    nothing = math.prod(HIGH.values())
    expected = [(rate - nothing) / (1 - nothing) for rate in HIGH.values()]
    assert expected == pytest.approx([0.168, 0.376, 0.584, 0.792], abs=5e-4)  # as the docstring says
    assert share_missing(missing, cases, NAMES) == pytest.approx(expected, abs=0.015)
    both = np.mean([{"t1", "flair"} <= set(names) for names in missing.values()])
    assert both == pytest.approx((0.2 * 0.8 - nothing) / (1 - nothing), abs=0.015)


def test_draws_are_repeatable_and_do_not_depend_on_the_order_of_cases() -> None:
    first = draw_missing(CASES, NAMES, HIGH, 5, {})
    assert first == draw_missing(CASES[::-1], NAMES, HIGH, 5, {})
    assert first != draw_missing(CASES, NAMES, HIGH, 6, {})
    assert draw_missing(CASES, NAMES, dict.fromkeys(NAMES, 0.0), 5, {}) == dict.fromkeys(CASES, ())


def test_certain_rates() -> None:
    rates = {"t1": 1.0, "t1ce": 1.0, "t2": 0.0, "flair": 1.0}
    assert draw_missing(["a"], NAMES, rates, 0, {}) == {"a": ("t1", "t1ce", "flair")}
    with pytest.raises(InputError, match=r"^a: with these rates"):
        draw_missing(["a"], NAMES, dict.fromkeys(NAMES, 1.0), 0, {})
    with pytest.raises(InputError, match=r"^a: with these rates"):
        draw_missing(["a"], NAMES, rates, 0, {"a": ["t2"]})


def test_what_a_case_lacks_anyway_is_not_counted_twice() -> None:
    cases = [f"{number:05d}" for number in range(4000)]
    declared = dict.fromkeys(cases, ("t1", "t1ce"))
    missing = draw_missing(cases, NAMES, dict.fromkeys(NAMES, 0.5), 0, declared)
    assert {name for names in missing.values() for name in names} == {"t2", "flair"}
    assert max(map(len, missing.values())) == 1
    assert share_missing(missing, cases, NAMES)[2:] == pytest.approx([1 / 3, 1 / 3], abs=0.03)


def test_one_draw_for_an_institution() -> None:
    site_of = {case: str(number % 2) for number, case in enumerate(CASES[:4])}
    for seed in range(20):
        missing = draw_missing(CASES, NAMES, HIGH, seed, {CASES[0]: ["t1"]}, site_of)
        assert missing[CASES[1]] == missing[CASES[3]]
        assert {*missing[CASES[0]], "t1"} == {*missing[CASES[2]], "t1"} and "t1" not in missing[CASES[0]]
        assert len(missing[CASES[0]]) < 3 and set(missing) == set(CASES)


def test_drawn_table_is_what_the_trainer_reads(folder: Path) -> None:
    from nnunetv2_mmkd.protocols.missing_table import read_missing_table, table_path
    from nnunetv2_mmkd.training.present_modalities import present_masks, realised_rates

    written = write_rates(501, "mr2468", rates=["T1=0.2", "t1c=0.4", "t2=0.6", "flair=0.8"], seed=1037)
    assert written.path == table_path(folder, "mr2468")
    table = read_missing_table(written.path, NAMES, CASES)
    assert table["rates"] == HIGH and table["seed"] == 1037 and table["source"] == "drawn for each case"
    declared = {CASES[0]: ["t1ce"], CASES[1]: ["t1", "t2"]}
    masks = present_masks(CASES, NAMES, declared, table["missing"])
    assert tuple(realised_rates(masks, NAMES).values()) == pytest.approx(written.realised["all cases"][1])
    assert "t1ce" not in table["missing"].get(CASES[0], [])


def test_the_tag_is_one_the_trainers_names_take(folder: Path) -> None:
    from nnunetv2_mmkd.training.suffixes import parse_suffixes

    assert parse_suffixes("_mr2468_300epochs") == {"suffix_table": "mr2468", "suffix_epochs": 300}
    for tag in ("MR2468", "2468", "mr_2468", ""):
        assert (parse_suffixes(f"_{tag}") or {}).get("suffix_table") != tag
        with pytest.raises(InputError, match="lower-case letters"):
            write_rates(501, tag, rates=["t1=0.2"])


def test_the_csv_of_the_literature(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = passion(
        tmp_path,
        f'HG_{CASES[2]},10,"[True, True, True, False]","[1, 2, 3, 5, 6, 9, 10]"',
        f'HG_{CASES[3]},2,"[False, False, True, False]",[2]',
        f'LG_{CASES[4]},14,"[True, True, True, True]","[0, 1]"',
        f'{CASES[5]},1,"[False, True, False, False]",[1]',
    )
    written = write_rates(501, "mr2468", table=table)
    content = read(written)
    assert content["missing"] == {
        CASES[2]: ["t2"],
        CASES[3]: ["t1ce", "t2", "flair"],
        CASES[5]: ["t1", "t2", "flair"],
    }
    assert content["rates"] == {"t1": 0.25, "t1ce": 0.25, "t2": 0.75, "flair": 0.5} and content["seed"] is None
    assert content["source"] == "imb_split_mr2468.csv, masks in the order flair, t1ce, t1, t2"
    assert written.realised["all cases"] == (6, pytest.approx((2 / 6, 2 / 6, 4 / 6, 2 / 6)))  # with missing_modalities
    assert f"2 cases are not in the table and miss nothing by it: {CASES[0]}, {CASES[1]}" in caplog.text
    other = write_rates(501, "turned", table=table, order=["t1", "t2", "flair", "t1ce"])
    assert read(other)["missing"][CASES[3]] == ["t1", "t1ce", "t2"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f'{CASES[2]},0,"[False, False, False, False]",[]', "line 2: .* is no mask"),
        (f'{CASES[2]},0,"[True, True]",[]', "line 2: .* it needs 4 entries"),
        (f'{CASES[2]},0,"[True, True, maybe, False]",[]', "line 2: .* is no mask"),
        (f"{CASES[2]},0,,[]", "the column 'mask' is empty"),
        ('HG_stranger,0,"[True, True, True, True]",[]', r"1 ids are no training cases .*HG_stranger"),
        (f'{CASES[1]},0,"[False, True, True, True]",[]', None),
        (f'{CASES[0]},0,"[False, True, False, False]",[]', f"left with no modality: {CASES[0]}"),
    ],
)
def test_bad_csv(row: str, message: str | None, tmp_path: Path, folder: Path) -> None:
    table = passion(tmp_path, row)
    if message is None:
        assert read(write_rates(501, "x", table=table))["missing"] == {CASES[1]: ["flair"]}
        return
    with pytest.raises(InputError, match=message):
        write_rates(501, "x", table=table)
    assert not folder.exists()


def test_csv_of_other_modalities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_names(tmp_path, monkeypatch, ["a"], channels=("bSSFP", "LGE", "T2"))
    table = passion(tmp_path, 'a,0,"[0, 1, 0]",[0]', 'b,0,"[1, 1, 1]",[0]')
    with pytest.raises(
        InputError, match="--order flair t1ce t1 t2: name each modality of Dataset501_Names once: bssfp"
    ):
        write_rates(501, "x", table=table, partial=True)
    written = write_rates(501, "x", table=table, order=["C0", "DE", "T2"], partial=True)
    assert read(written)["missing"] == {"a": ["bssfp", "t2"]}


def test_institutions_that_lack_sequences(tmp_path: Path, folder: Path) -> None:
    rows = [f"{site},{case}" for case, site in zip(CASES, ("01", "01", "02", "02", "03", "-1"), strict=True)]
    sites = write_lines(tmp_path / "partitioning_1.csv", "Partition_ID,Subject_ID", *rows)
    written = write_rates(501, "site", lacks=["01=FLAIR", "02=t2f,t1gd"], sites=sites)
    content = read(written)
    assert content["missing"] == {
        CASES[0]: ["flair"],
        CASES[1]: ["flair"],
        CASES[2]: ["t1ce", "flair"],
        CASES[3]: ["t1ce", "flair"],
    }
    assert content["rates"] == {"t1": 0.0, "t1ce": 0.4, "t2": 0.0, "flair": 0.8}
    assert content["source"] == "01=FLAIR 02=t2f,t1gd, institutions of partitioning_1.csv"
    with pytest.raises(InputError, match=f"left with no modality: {CASES[1]}"):
        write_rates(501, "other", lacks=["01=t1ce,flair"], sites=sites)
    with pytest.raises(InputError, match=r"case_map.json names no institutions"):
        write_rates(501, "other", lacks=["01=t1ce"])
    drawn = write_rates(501, "drawn", rates=["t1ce=0.5"], sites=sites, seed=2)
    assert read(drawn)["source"] == "drawn for the institutions of partitioning_1.csv"
    with pytest.raises(InputError, match="--sites goes with"):
        write_rates(501, "other", table=sites, sites=sites)
    with pytest.raises(InputError, match=r"--lacks 7=...: no case is of this institution; there are 01, 02, 03"):
        site_pattern({"a": "02", "b": "01", "c": "03"}, {"7": ("t1",)})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["t1"], "not of the form t1=0.2"),
        (["=0.2"], "not of the form"),
        (["t1="], "not of the form"),
        (["t1=a"], "'a' is no number"),
        (["t1=1.5"], "between 0 and 1"),
        (["t1=-1"], "between 0 and 1"),
        (["t1=nan"], "between 0 and 1"),
        (["t1ce=0.1", "T1Gd=0.2"], "names t1ce twice"),
        (["pd=0.2"], "unknown modality 'pd'"),
    ],
)
def test_bad_rates(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_rates(words, NAMES)


def test_rates_and_lacks_by_name() -> None:
    assert parse_rates(["T1c=0.4", "fl=.1"], NAMES) == {"t1": 0.0, "t1ce": 0.4, "t2": 0.0, "flair": 0.1}
    assert parse_lacks(["3=flair,T1"], NAMES) == {"3": ("t1", "flair")}
    with pytest.raises(InputError, match="at least one modality"):
        parse_lacks(["3=t1,t1ce,t2,flair"], NAMES)
    with pytest.raises(InputError, match="give one of --rates"):
        write_rates(501, "x")


def test_an_existing_table_is_kept(folder: Path) -> None:
    first = write_rates(501, "x", rates=["t1=0.5"], seed=1)
    before = first.path.read_bytes()
    write_rates(501, "x", rates=["t1=0.5"], seed=1)
    with pytest.raises(InputError, match=r"mmkd_missing_x.json exists and says something else.*--overwrite"):
        write_rates(501, "x", rates=["t1=0.5"], seed=2)
    assert first.path.read_bytes() == before
    assert read(write_rates(501, "x", rates=["t1=0.5"], seed=2, overwrite=True))["seed"] == 2
    assert not list(folder.glob(".*"))


def test_realised_rates_are_shown_by_fold(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.mkdir(parents=True)
    split = [{"train": CASES[2:4], "val": CASES[:2]}, {"train": CASES[3:5], "val": CASES[5:]}]
    (folder / "splits_final.json").write_text(json.dumps(split))
    table = passion(tmp_path, f'{CASES[2]},0,"[1, 0, 1, 1]",[0]', f'{CASES[3]},0,"[1, 1, 1, 1]",[0]')
    lines = write_rates(501, "x", table=table).lines()
    assert lines[1].split() == list(NAMES)
    assert [line.split()[-4:] for line in lines[2:6]] == [
        ["0.000", "0.500", "0.000", "0.000"],
        ["0.167", "0.333", "0.167", "0.000"],
        ["0.000", "0.500", "0.000", "0.000"],
        ["0.000", "0.000", "0.000", "0.000"],
    ]
    assert lines[4].startswith("fold 0, training (2)") and lines[-1] == str(folder / "mmkd_missing_x.json")
    assert f"1 training cases are not in the table and miss nothing by it: {CASES[4]}" in caplog.text
    (folder / "splits_final.json").write_text("[3]")
    with pytest.raises(InputError, match=r"splits_final.json, fold 0 is a whole number: expected an object"):
        write_rates(501, "y", table=table)
    assert not (folder / "mmkd_missing_y.json").exists()


def test_a_modality_that_no_training_case_has(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_rates(501, "gone", rates=["t2=1"])
    assert "all cases: no case is left with t2" in caplog.text
    caplog.clear()
    write_rates(501, "some", rates=["t2=0.5"], seed=2)
    assert "no case is left" not in caplog.text
