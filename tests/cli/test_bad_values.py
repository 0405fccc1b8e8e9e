"""Every argument of every verb, given what it cannot be: one line and not 0, before anything is written."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest
from refusals import refusal

from nnunetv2_mmkd.cli import arguments, last_resort
from nnunetv2_mmkd.cli.main import VERBS, main

WRONG_NUMBERS = ("nan", "-5", "1e400", "", "many", "9" * 30)
WRONG_PATHS = ("", "x" * 300, "y" * 5000)
PATHS = (arguments.path, arguments.folder, arguments.file, arguments.output_folder, arguments.output_file)


def parser_of(verb: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = importlib.import_module(f"nnunetv2_mmkd.cli.{verb}").build_parser()
    return parser


def options() -> list[tuple[str, str, str]]:
    """Verb, option and a bad value: numbers out of every range, paths that cannot be."""
    found = []
    for verb in VERBS:
        for action in parser_of(verb)._actions:
            if action.option_strings and action.nargs != 0 and action.type is not None:
                values = WRONG_PATHS if action.type in PATHS else ()
                values = (
                    ("", "z" * 300) if action.type in (arguments.name, arguments.file_name) else values or WRONG_NUMBERS
                )
                found += [(verb, action.option_strings[-1], value) for value in values]
    return found


def test_no_number_is_converted_without_its_bounds() -> None:
    for verb in VERBS:
        assert isinstance(parser_of(verb), arguments.Parser), verb
        for action in parser_of(verb)._actions:
            assert action.type not in (int, float, Path), (verb, action.dest)


def test_one_style_of_options() -> None:
    for verb in VERBS:
        parser = parser_of(verb)
        assert not [each for each in parser._option_string_actions if "-" in each.lstrip("-")], verb
        assert "default: [" not in parser.format_help(), verb


def test_bad_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    cases = options()
    assert len(cases) > 300
    for verb, option, value in cases:
        with pytest.raises(SystemExit) as stop:
            parser_of(verb).parse_args([option, value])
        said = capsys.readouterr().err
        assert stop.value.code == 2 and said.count("\n") == 1 and len(said) < 1200, said
        assert said.startswith(f"mmkd {verb}: error: argument ") and option in said, (option, value, said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("predict -i in -o out -m m -step_size 0", "-step_size: '0': expected a number above 0, at most 1"),
        ("predict -i in -o out -m m -step_size 2", "-step_size: '2'"),
        ("predict -i FILE -o out -m m", "a folder, and this is a file"),
        ("predict -i in -o out -m m -num_parts 2 -part_id 2 -device cpu", "give one from 0 to 1"),
        (
            "predict -i in -o out -m m -prev_stage_predictions FOLDER -device cpu",
            "no trainer of this package makes one",
        ),
        ("predict -i in -o out -m m -chk ../x", "-chk: '../x': expected the name of a file, without a folder"),
        ("predict -i in -o out -m FOLDER -device cpu", "Give the folder that has plans.json, dataset.json and fold_0"),
        ("predict -i in -o out -m m --output_name {case}/~x -device cpu", "'~' at their start"),
        ("predict -i in -o out -m m --output_name {case}\x07 -device cpu", "characters that cannot be printed"),
        ("predict -i in -o out -m m --modalities T1=x T2=X -device cpu", "'X' stands for T1 and for T2"),
        ("predict -i in -o out -m m --modalities T1=/ -device cpu", "'/' is no word of a file name"),
        ("predict -i in -o out -m m --modalities T1=x=y -device cpu", "'x=y' is no word of a file name"),
        ("align -i FOLDER -o out --reference ,", "--reference is empty: name a sequence"),
        ("train 7 2d 0 --foo", "unrecognized arguments: --foo"),
        ("sweep FILE -o out --dryrun", "unrecognized arguments: --dryrun; did you mean --dry_run?"),
        ("sweep FILE -o out --disable-progress-bar=1", "argument --disable_progress_bar: ignored explicit argument"),
        ("predict -i in -o out -m m -num_parts 0", "-num_parts: '0': expected a whole number from 1 on"),
        ("predict -i in -o out -m m -prev_stage_predictions FILE", "a folder, and this is a file"),
        ("evaluate -o out -m m -np -5", "-np: '-5': expected a whole number from 1 to 1024"),
        ("splits patients -d 7 --folds 0", "--folds: '0': expected a whole number from 2 on"),
        ("splits patients -d 7 --seed -1", "--seed: '-1'"),
        ("rates -d 7 --tag mr --rates t1=0.5 --seed -1", "--seed: '-1'"),
        (f"rates -d 7 --tag {'m' * 300} --rates t1=0.5", "at most 32 lower-case letters and digits"),
        ("compare A B -i FILE --seed -1", "--seed: '-1'"),
        ("compare A B -i FILE --confidence 1", "--confidence: '1': expected a number above 0, below 1"),
        ("benchmark --features_scale nan", "--features_scale: 'nan'"),
        ("benchmark --steps -1", "--steps: '-1': expected a whole number from 0 on"),
        ("benchmark -d /nope -device cpu", "data set '/nope': 0 folders"),
        ("phantom out --size 100000", "phantom size: one or three whole numbers from 16 to 512"),
        ("submit brats2018 -i FOLDER -ref FOLDER -o out --file_name {x}{case}.nii.gz", "no other braces"),
        ("convert brats2018x FOLDER", "did you mean brats2018?"),
        ("evaluate -o out -m m -d 1 -c 2d -f x", "-f: 'x': expected a number from 0 on, or all"),
        (
            "evaluate -m m -o DATA",
            "DATA is the folder of a data set or model, by its dataset.json: output",
        ),
        ("evaluate -m m -o LINK", "LINK is a part of the data set"),
        ("align -i FOLDER --reference t1 -o DATA/imagesTr", "is a part of the data set"),
        ("preprocess -i FOLDER --reference t1 -o DATA/imagesTr", "is a part of the data set"),
        ("submit brats2018 -i FOLDER -ref FOLDER -o MODEL/fold_0", "is a fold of a model"),
        ("sweep FILE -o MODEL/fold_0", "is a fold of a model"),
        ("demo --out DATA/imagesTr", "is a part of the data set"),
        ("phantom DATA/imagesTr", "is a part of the data set"),
        ("adni --csv FILE -o DATA", "is the folder of a data set or model"),
        ("avmnist --mnist FILE --fsdd FOLDER -o DATA", "is the folder of a data set or model"),
        ("benchmark -o DATA/dataset.json", "DATA/dataset.json exists and is none of ours"),
        ("benchmark --all MODEL/fold_0/checkpoint_best.pth", "exists and is none of ours"),
        ("compare A B -i FILE -o DATA/imagesTr/a_0000.nii.gz", "exists and is none of ours"),
        ("compare A B -i FILE -o FILE", "output FILE is FILE, which is read"),
        ("figure alpha -i MODEL/a.csv -o MODEL/a.png", "output MODEL/a.csv is MODEL/a.csv, which is read"),
        ("adni --csv FILE -o out --epochs 0", "--epochs: '0'"),
        ("avmnist --mnist FILE --fsdd FOLDER --rates 0", "--rates: '0': expected a number above 0"),
    ],
)
def test_messages(
    argv: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / "home" / name).mkdir(parents=True)
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / "home" / name))
    (tmp_path / "FILE").write_text("x")
    (tmp_path / "FOLDER").mkdir()
    for own in ("DATA/dataset.json", "DATA/imagesTr/a_0000.nii.gz", "MODEL/fold_0/checkpoint_best.pth", "MODEL/a.csv"):
        (tmp_path / own).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / own).write_text("x")
    (tmp_path / "LINK").symlink_to(tmp_path / "DATA" / "imagesTr")
    before = sorted(tmp_path.rglob("*"))
    assert said in refusal(argv.split(), capsys)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("value", "said"),
    [("", "is not set"), ("  ", "is not set"), ("~/raw", "instead of ~"), ("FILE", "which is a file")],
)
def test_variables_of_nnunet(
    value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, value)
    for argv in ("convert brats2018 FOLDER", "splits patients -d 7", "benchmark -d 7", "train 7 2d 0 -device cpu"):
        assert said in refusal(argv.split(), capsys)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("nnUNet_n_proc_DA", "x", "from 0 to 1024"),
        ("nnUNet_n_proc_DA", "-1", "from 0 to 1024"),
        ("nnUNet_n_proc_DA", "", "from 0 to 1024"),
        ("nnUNet_def_n_proc", "0", "from 1 to 1024"),
        ("nnUNet_def_n_proc", "9" * 5000, "from 1 to 1024"),
        ("OMP_NUM_THREADS", "4.5", "from 0 to 1024"),
        ("nnUNet_wandb_enabled", "maybe", "expected 0 or 1"),
        ("nnUNet_mmkd_bf16", "on", "expected 0 or 1"),
    ],
)
def test_variables_that_are_numbers_and_switches(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    error = refusal(["train", "7", "2d", "0", "-device", "cpu"], capsys)
    assert f"the environment variable {name} is " in error and said in error
    assert main(["env", "--shell", "bash"]) == 0


def test_sizes_leave_the_folder_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from nnunetv2_mmkd.cli import phantom

    seen = []
    monkeypatch.setattr(phantom, "write_phantom", lambda *given, **_: seen.append(given) or [])
    for sizes in (["--size", "64", "out"], ["out", "--size", "64", "64", "48"], ["--size", "64", "64", "48", "out"]):
        assert main(["phantom", *sizes]) == 0
    assert [given[0].name for given in seen] == ["out"] * 3
    assert [given[2].size for given in seen] == [(64, 64, 64), (64, 64, 48), (64, 64, 48)]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RuntimeError("first\nsecond"), 1, "mmkd env: error: first second (details, for a bug report: "),
        (KeyError("channel"), 1, "mmkd env: error: KeyError: 'channel' (details"),
        (
            OSError(28, "No space left on device", "out/a"),
            1,
            "mmkd env: error: out/a: No space left on device. Free space there, and run the same command again\n",
        ),
        (MemoryError(), 1, "mmkd env: error: not enough memory (details"),
        (KeyboardInterrupt(), 130, "mmkd env: interrupted\n"),
    ],
)
def test_what_nobody_foresaw_is_one_line_and_a_file(
    error: BaseException,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr("nnunetv2_mmkd.cli.env.main", fail)
    monkeypatch.setattr(last_resort.tempfile, "tempdir", str(tmp_path))
    assert main(["env", "--shell", "bash"]) == code
    line = capsys.readouterr().err
    assert line.startswith(said) and line.count("\n") == 1
    if "(details" in said:
        (file,) = tmp_path.iterdir()
        assert str(file) in line and "mmkd env --shell bash" in file.read_text() and "Traceback" in file.read_text()
        assert main(["env", "--debug"]) == 1
        assert "Traceback" in capsys.readouterr().err
        monkeypatch.setattr(last_resort.tempfile, "tempdir", str(tmp_path / "full"))
        assert main(["env"]) == 1
        assert "run it again with --debug" in capsys.readouterr().err


@pytest.mark.parametrize(("verb", "meant"), [("predcit", "predict"), ("evaluat", "evaluate"), ("Train", "train")])
def test_the_verb_that_was_meant(verb: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb]) == 2
    assert capsys.readouterr().err.endswith(f"; did you mean {meant}?\n")
