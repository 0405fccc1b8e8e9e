"""``mmkd compare`` as a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunetv2_mmkd.cli.main import main

HEAD = "method,case,subset,region,metric,value\n"


@pytest.fixture
def results(tmp_path: Path) -> str:
    better = {"a": [0.11, 0.14, 0.12, 0.2], "b": [0, 0, 0, 0]}
    rows = [
        f"{method},c{case},{subset},WT,{metric},{0.5 + case / 100 + len(subset) * (0.02 + gain / 9) + gain}\n"
        for method, gains in better.items()
        for case, gain in enumerate(gains)
        for subset in ("t1", "t1+t2")
        for metric in ("dice", "hd95")
    ]
    (tmp_path / "results.csv").write_text(HEAD + "".join(rows))
    return str(tmp_path / "results.csv")


def test_done(results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.csv"
    assert main(["compare", "a", "b", "-i", results, "-o", str(output), "--resamples", "100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("a - b: Dice") and lines[1].startswith("WT: ")
    assert output.read_text().count("\n") == 2


def test_options_arrive(results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "a", "b", "-i", results]
    assert main([*arguments, "--unit", "subsets", "--average_row", "--metric", "hd95", "--regions", "WT"]) == 0
    out = capsys.readouterr().out
    assert "HD95, mm, less is better" in out and "3 pairs (average row included)" in out
    patients = tmp_path / "patients.csv"
    patients.write_text("case,patient\n" + "".join(f"c{case},p{case % 2}\n" for case in range(4)))
    assert main([*arguments, "--patients", str(patients), "--confidence", "0.5", "--seed", "7"]) == 0
    out = capsys.readouterr().out
    assert "50 % interval" in out and "4 cases of 2 patients" in out
    Path(results).write_text("".join(Path(results).read_text().splitlines(keepends=True)[:-2]))
    assert main(arguments) == 1
    assert main([*arguments, "--common"]) == 0
    assert "1 of one method only left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "c"], "no method 'c' with dice"),
        (["a", "b", "--metric", "nsd"], "no metric 'nsd'"),
        (["a", "b", "--average_row"], "--unit subsets"),
        (["a", "b", "--patients", "none.csv"], "none.csv: cannot be read"),
    ],
)
def test_bad_input(results: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["compare", *arguments, "-i", results]) == 1
    found = capsys.readouterr()
    assert found.out == "" and found.err.startswith("mmkd compare: error: ") and message in found.err


@pytest.mark.parametrize("arguments", [["a", "b"], ["a"], ["a", "b", "-i", "x.csv", "--unit", "voxels"]])
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["compare", *arguments])
    assert stop.value.code == 2 and "mmkd compare: error: " in capsys.readouterr().err
