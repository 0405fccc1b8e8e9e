"""``mmkd env``: the export line of each shell, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nnunetv2_mmkd import paths
from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.errors import InputError


def test_folder_holds_the_trainers() -> None:
    import nnunetv2_mmkd.trainer_variants as variants

    assert Path(paths.trainer_folder()) == Path(next(iter(variants.__path__))).resolve()


def test_value_keeps_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = paths.trainer_folder()
    assert paths.ext_trainer_value("") == ours
    assert paths.ext_trainer_value(os.pathsep.join(["/a b", "/c"])) == os.pathsep.join([ours, "/a b", "/c"])
    for value in (ours, os.pathsep.join(["/a", ours, "/b"])):
        assert paths.ext_trainer_value(value) == value
    assert paths.ext_trainer_value(os.pathsep.join(["/a", "", ours + "/", "/a"])) == os.pathsep.join(["/a", ours + "/"])
    monkeypatch.setenv(paths.EXT_TRAINER, "/a")
    paths.set_ext_trainer()
    paths.set_ext_trainer()
    assert os.environ[paths.EXT_TRAINER] == os.pathsep.join([ours, "/a"])


@pytest.mark.parametrize(
    ("shell", "value", "line"),
    [
        ("bash", "/a:/b", "export nnUNet_extTrainer=/a:/b"),
        ("zsh", "/a b:/it's", "export nnUNet_extTrainer='/a b:/it'\"'\"'s'"),
        ("fish", "/a b/it's", "set -gx nnUNet_extTrainer '/a b/it\\'s'"),
        ("powershell", "C:\\a b\\it's", "$env:nnUNet_extTrainer = 'C:\\a b\\it''s'"),
        (
            "powershell",
            "\u2018a\u2019; \u201ab\u201b",
            "$env:nnUNet_extTrainer = '\u2018\u2018a\u2019\u2019; \u201a\u201ab\u201b\u201b'",
        ),
        ("cmd", "C:\\a b", 'set "nnUNet_extTrainer=C:\\a b"'),
    ],
)
def test_export_line(shell: str, value: str, line: str) -> None:
    assert paths.export_line(shell, value) == line


def test_unknown_shell() -> None:
    with pytest.raises(InputError, match="unknown shell"):
        paths.export_line("tcsh", "/a")


@pytest.mark.parametrize("shell", [shell for shell in ("bash", "zsh", "fish") if shutil.which(shell)])
def test_the_shell_understands_it(shell: str) -> None:
    value = "/a b:/it's:/back\\slash:/$HOME"
    script = paths.export_line(shell, value) + "\nenv"
    printed = subprocess.run([str(shutil.which(shell)), "-c", script], capture_output=True, text=True, check=True)
    assert f"{paths.EXT_TRAINER}={value}" in printed.stdout.splitlines()


@pytest.mark.parametrize(("name", "shell"), [("/bin/zsh", "zsh"), ("/usr/bin/fish", "fish"), ("/bin/dash", "bash")])
def test_shell_is_guessed(monkeypatch: pytest.MonkeyPatch, name: str, shell: str) -> None:
    monkeypatch.setenv("SHELL", name)
    assert paths.guess_shell() == shell


def test_verb(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(paths.EXT_TRAINER, "/x")
    assert main(["env", "--shell", "fish"]) == 0
    expected = paths.export_line("fish", os.pathsep.join([paths.trainer_folder(), "/x"]))
    assert capsys.readouterr().out == expected + "\n"


def test_needs_no_torch() -> None:
    code = (
        "import sys; from nnunetv2_mmkd.cli.main import main; main(['env']); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'nnunetv2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
