"""How a command refuses: not 0, and one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from nnunetv2_mmkd.cli.main import main


def refusal(argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command refuses; nothing else is said."""
    capsys.readouterr()
    try:
        code = main(argv)
    except SystemExit as stop:  # argparse
        code = int(stop.code or 0)
    said = capsys.readouterr()
    assert code in (1, 2) and said.out == "", (code, said.out)
    assert said.err.startswith(f"mmkd {argv[0]}: error: ") and said.err.count("\n") == 1, said.err
    assert len(said.err) < 3000 and "details, for a bug report" not in said.err, said.err
    return said.err
