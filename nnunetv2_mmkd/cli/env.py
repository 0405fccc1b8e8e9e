"""``mmkd env``: the line that lets the plain nnU-Net commands find our trainers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.paths import EXT_TRAINER, SHELLS, export_line, ext_trainer_value, guess_shell

HELP = "print the export line that lets the plain nnUNetv2_train and nnUNetv2_predict find our trainers"

EPILOG = f"""\
bash, zsh:    eval "$(mmkd env)"
fish:         mmkd env --shell fish | source
PowerShell:   mmkd env --shell powershell | Invoke-Expression

Folders that are in {EXT_TRAINER} already stay.
Put the line into your shell's start file to have it always.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd env``."""
    parser = arguments.Parser(
        "mmkd env", description=HELP, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shell", choices=SHELLS, help="the shell to print for (default: yours)")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    args = build_parser().parse_args(argv)
    sys.stdout.write(export_line(args.shell or guess_shell(), ext_trainer_value()) + "\n")
    return 0
