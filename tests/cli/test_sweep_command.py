"""``mmkd sweep``: what the command line takes, and its exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.workflows.sweep import run
from nnunetv2_mmkd.workflows.sweep.run import SweepOutcome, SweepSettings


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the command would have run, instead of it; the first entry is what it says of the end."""
    seen: list[Any] = [SweepOutcome(("line",), ())]

    def called(*arguments: Any) -> SweepOutcome:
        seen.append(arguments)
        return seen[0]

    monkeypatch.setattr(run, "run_sweep", called)
    return seen


def test_options_arrive(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "a.yaml", "-o", "out"]) == 0
    argv = ["sweep", "a.yaml", "-o", "out", "--engine", "slurm", "-np", "3", "--dry_run", "--disable_progress_bar"]
    assert main(argv) == 0
    assert calls[1] == (Path("a.yaml"), Path("out"), SweepSettings())
    assert calls[2] == (Path("a.yaml"), Path("out"), SweepSettings("slurm", 3, True, False))
    assert capsys.readouterr().out == "line\nline\n"


def test_a_failure_is_told(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    calls[0] = SweepOutcome(("line",), ("1 of 2 tasks failed, first train_A; see log.txt",))
    assert main(["sweep", "a.yaml", "-o", "out"]) == 1
    found = capsys.readouterr()
    assert found.out == "line\n" and found.err == "mmkd sweep: 1 of 2 tasks failed, first train_A; see log.txt\n"


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("dataset: 1\nconfigurations: 2d\n")
    assert main(["sweep", str(file), "-o", str(tmp_path / "out")]) == 1
    found = capsys.readouterr()
    assert found.err.startswith(f"mmkd sweep: error: {file}: configurations is no key") and found.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "argv", [[], ["a.yaml"], ["a.yaml", "-o", "x", "--engine", "pbs"], ["a", "-o", "x", "-np", "0"]]
)
def test_wrong_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["sweep", *argv])
    assert caught.value.code == 2 and "mmkd sweep: error: " in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("dataset: 1\nconfiguration: 2d\ntrainers: [MetaKD]\n")
    with pytest.raises(InputError, match="cannot be made"):
        run.run_sweep(file, file / "out", SweepSettings())
