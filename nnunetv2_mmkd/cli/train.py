"""``mmkd train``: nnUNetv2_train, with our trainers found and errors that can be read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from nnunetv2_mmkd.paths import set_ext_trainer

HELP = "nnUNetv2_train with its own flags, our trainers found"


class _UsageError(Exception):
    """The arguments make no sense; nnU-Net's parser will say why."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(message)


def build_parser() -> argparse.ArgumentParser:
    """The arguments that are checked beforehand; nnU-Net's own parser has the last word on all of them."""
    parser = _Parser("mmkd train", add_help=False)
    parser.add_argument("dataset")
    parser.add_argument("configuration")
    parser.add_argument("fold")
    parser.add_argument("-tr", default="nnUNetTrainer")
    parser.add_argument("-p", default="nnUNetPlans")
    parser.add_argument("-pretrained_weights")
    parser.add_argument("-device", default="cuda")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    set_ext_trainer()

    from nnunetv2.run.run_training import run_training_entry

    from nnunetv2_mmkd.training.preflight import check_training, readable_pretrained

    pretrained = None
    if not {"-h", "--help"} & set(argv):
        try:
            args, _ = build_parser().parse_known_args(argv)
        except _UsageError:
            pass
        else:
            pretrained = args.pretrained_weights
            check_training(args.dataset, args.configuration, args.fold, args.tr, args.p, pretrained, args.device)
    before = sys.argv
    sys.argv = ["mmkd train", *argv]
    try:
        with readable_pretrained(pretrained):
            run_training_entry()
    finally:
        sys.argv = before
    return 0
