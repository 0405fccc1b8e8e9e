"""``mmkd info``: versions, devices, and the trainers, editions and metrics there are."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from nnunetv2_mmkd.cli import arguments

HELP = "versions, devices, trainers with paper and status, endings, editions, metrics"


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd info``."""
    parser = arguments.Parser("mmkd info", description=f"Show {HELP}. Add this to a bug report.")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    args = build_parser().parse_args(argv)

    from nnunetv2_mmkd.workflows.info import as_text, information

    facts = information()
    sys.stdout.write(json.dumps(facts, indent=2) + "\n" if args.json else as_text(facts))
    return 0
