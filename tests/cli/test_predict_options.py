"""``mmkd predict`` has the options of the host's command, with the same defaults, and ours."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from nnunetv2.inference import predict_from_raw_data

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.cli.predict import build_parser

OURS = {"--trust", "--missing", "--available", "-m", "--models", "--native"}
OURS |= {
    "--modalities",
    "--ignore",
    "--edition",
    "--manifest",
    "--output_name",
    "--dry_run",
    "--uncertainty",
    "--report",
}
STAND_INS = ("-d", "-c", "-i", "-o")  # for -m, --manifest and --dry_run


@pytest.fixture
def host_parser(monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser of nnUNetv2_predict, caught when it is about to parse."""
    caught = []

    def catch(self: argparse.ArgumentParser, *_: object) -> None:
        caught.append(self)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", catch)
        with pytest.raises(SystemExit):
            predict_from_raw_data.predict_entry_point()
    return caught[0]


def options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {name: action for action in parser._actions for name in action.option_strings}


def test_same_options_as_the_host(host_parser: argparse.ArgumentParser) -> None:
    host, ours = options(host_parser), options(build_parser())
    assert set(ours) - OURS == set(host)
    for name, action in host.items():
        assert type(ours[name]) is type(action), name
        assert (ours[name].default, ours[name].nargs) == (action.default, action.nargs), name
        if action.type in (int, float):
            assert ours[name].type("1") == action.type("1"), name
        assert ours[name].required == (action.required and name not in STAND_INS), name


def test_same_options_in_the_help(host_parser: argparse.ArgumentParser) -> None:
    pattern = re.compile(r"^  (--?[\w-]+)", re.MULTILINE)
    host = set(pattern.findall(host_parser.format_help()))
    assert len(host) > 15
    assert set(pattern.findall(build_parser().format_help())) == host | OURS


def test_workers_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_npp", "5")
    monkeypatch.setenv("nnUNet_nps", "many")
    args = build_parser().parse_args(["-i", "in", "-o", "out"])
    assert (args.npp, args.nps) == (5, 3)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "-d 1",
        "-d 1 -c 3d_fullres -m folder",
        "-m folder -f x",
        "-m folder -step_size 0",
        "--models a b -d 1",
        "--models a -m b -d 1 -c 2d",
        "--models a -prev_stage_predictions b",
    ],
)
def test_usage_errors(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["predict", "-i", "in", "-o", "out", *arguments.split()])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("mmkd predict: error: ") and error.count("\n") == 1


def test_errors_are_readable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_name = ["predict", "-i", "in", "-o", str(tmp_path / "out"), "-d", "7", "-c", "3d_fullres", "-device", "cpu"]
    monkeypatch.delenv("nnUNet_results", raising=False)
    assert main(by_name) == 1
    assert "nnUNet_results is not set" in capsys.readouterr().err
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    assert main(by_name) == 1
    assert "Could not find a dataset with the ID 7" in capsys.readouterr().err
    for trainer in ("A", "B"):
        (tmp_path / "Dataset007_X" / f"nnUNetTrainer{trainer}__nnUNetPlans__2d" / "fold_0").mkdir(parents=True)
    (tmp_path / "Dataset007_X" / "nnUNetTrainerA__nnUNetPlans__2d" / "fold_0" / "checkpoint_best.pth").touch()
    assert main(by_name) == 1
    assert "Trained for this data set: nnUNetTrainerA__nnUNetPlans__2d. Check" in capsys.readouterr().err
    assert main(["predict", "-i", "in", "-o", "out", "-m", str(tmp_path / "no"), "-device", "cpu"]) == 1
    assert "is not the folder of a trained model" in capsys.readouterr().err
    assert main(["predict", "-i", "in", "-o", "out", "-m", "x", "-num_parts", "2", "-part_id", "2"]) == 1
    assert "-part_id is 2: with -num_parts 2 give one from 0 to 1" in capsys.readouterr().err
    assert main(["predict", "-i", "in", "-o", "out", "-m", "x", "-device", "gpu"]) == 1
    assert "must be cuda, cpu or mps" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
