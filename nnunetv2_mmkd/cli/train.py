"""``mmkd train``: nnUNetv2_train, with our trainers found and errors that can be read."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from contextlib import ExitStack

from nnunetv2_mmkd.chatter import without_chatter
from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.disk import naming_full_disk
from nnunetv2_mmkd.files import locked
from nnunetv2_mmkd.paths import TRUST_HELP, set_ext_trainer, trusting
from nnunetv2_mmkd.workers import supervised_workers

HELP = "nnUNetv2_train with its own flags, our trainers found"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of nnU-Net's own parser, which reads them, too; here they are checked."""
    parser = arguments.Parser("mmkd train", add_help=False, usage=argparse.SUPPRESS)
    parser.add_argument("dataset")
    parser.add_argument("configuration")
    parser.add_argument("fold")
    parser.add_argument("-tr", default="nnUNetTrainer")
    parser.add_argument("-p", default="nnUNetPlans")
    parser.add_argument("-pretrained_weights")
    parser.add_argument("-device", default="cuda")
    parser.add_argument("-num_gpus", type=arguments.positive, default=1)
    for flag in ("--c", "--val", "--val_best", "--disable_checkpointing", "--npz", "--trust"):
        parser.add_argument(flag, action="store_true")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    set_ext_trainer()

    from nnunetv2.run.run_training import run_training_entry

    from nnunetv2_mmkd.training.preflight import (
        check_gpus,
        check_run,
        check_training,
        pretrained_file,
        readable_pretrained,
        removing_failed_start,
    )

    args = None
    if {"-h", "--help"} & set(argv):
        trust = textwrap.fill(f"  --trust  {TRUST_HELP}", 100, subsequent_indent=" " * 11)
        sys.stdout.write(f"mmkd train has the flags of nnUNetv2_train, and\n{trust}\n\n")
    else:
        args = build_parser().parse_args(argv)
    before = sys.argv
    sys.argv = ["mmkd train", *(each for each in argv if each != "--trust")]
    try:
        with trusting(args is not None and args.trust), ExitStack() as stack:
            if args is None or args.num_gpus == 1:  # the processes of several GPUs take Ctrl-C themselves
                stack.enter_context(supervised_workers())
            if args is not None:
                output = check_training(
                    args.dataset, args.configuration, args.fold, args.tr, args.p, args.device, _loaded(args)
                )
                check_gpus(args.num_gpus, args.device)
                check_run(
                    output,
                    resume=args.c,
                    validate=args.val,
                    validate_best=args.val_best,
                    pretrained=args.pretrained_weights is not None,
                    saves=not args.disable_checkpointing,
                )
                start = stack.enter_context(
                    pretrained_file(args.dataset, args.configuration, args.tr, args.p, args.pretrained_weights)
                )
                if start != (args.pretrained_weights or ""):
                    sys.argv += ["-pretrained_weights", start]  # the last one counts
                stack.enter_context(locked(output))
                stack.enter_context(removing_failed_start(output))
                stack.enter_context(naming_full_disk(output))
                stack.enter_context(readable_pretrained(args.pretrained_weights))
            stack.enter_context(without_chatter())
            run_training_entry()
    finally:
        sys.argv = before
    return 0


def _loaded(args: argparse.Namespace) -> list[str]:
    """The checkpoints that nnU-Net may load."""
    names = ["final", "latest", "best"] if args.c else ["final"] if args.val else []
    return [f"checkpoint_{name}.pth" for name in dict.fromkeys([*names, *["best"] * args.val_best])]
