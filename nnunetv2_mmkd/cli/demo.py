"""``mmkd demo``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

HELP = "the whole chain on the embedded data: phantom, convert, train, predict with and without T1ce"

DESCRIPTION = """\
Phantoms -> conversion -> plan and preprocessing -> a short training -> prediction of held-out cases with all
modalities and with T1ce missing -> Dice table, picture and a BraTS 2018 submission. Needs no environment variable and
no download; minutes on two CPU cores.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd demo``."""
    parser = argparse.ArgumentParser("mmkd demo", description=DESCRIPTION)
    parser.add_argument(
        "--out", type=Path, default=Path("mmkd_demo"), help="everything is kept in this folder (default: %(default)s)"
    )
    parser.add_argument("-tr", default="nnUNetTrainerMetaKD", help="trainer (default: %(default)s)")
    parser.add_argument("-n", type=int, default=12, help="phantoms to train on, at least 5 (default: %(default)s)")
    parser.add_argument("--size", type=int, default=48, help="edge of a phantom in voxels (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--iterations", type=int, default=40, help="per epoch (default: %(default)s)")
    parser.add_argument("-device", default="cpu", choices=["cpu", "cuda"], help="default: %(default)s")
    parser.add_argument("--disable_progress_bar", action="store_true", help="no progress bars")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    args = build_parser().parse_args(argv)

    from nnunetv2_mmkd.workflows.demo.run import DemoConfig, run_demo

    config = DemoConfig(
        trainer=args.tr,
        cases=args.n,
        size=args.size,
        epochs=args.epochs,
        iterations=args.iterations,
        device=args.device,
        progress=not args.disable_progress_bar,
    )
    run_demo(args.out.resolve(), config)
    return 0
