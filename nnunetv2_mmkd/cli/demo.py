"""``mmkd demo``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.workflows.next_steps import TRAINER

HELP = "see it work in minutes, without data: phantoms, training, prediction with and without T1ce"

DESCRIPTION = """\
Phantoms -> conversion -> plan and preprocessing -> a short training -> segmentation of held-out phantoms with all
images, without T1ce and with FLAIR alone -> Dice, picture and a BraTS 2018 submission. Needs no environment variable
and no download; about two minutes on two CPU cores.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd demo``."""
    parser = arguments.Parser("mmkd demo", description=DESCRIPTION)
    parser.add_argument(
        "--out",
        type=arguments.output_folder,
        default=Path("mmkd_demo"),
        help="everything is kept in this folder (default: %(default)s)",
    )
    parser.add_argument("-tr", default=TRAINER, help="trainer (default: %(default)s)")
    parser.add_argument(
        "--configuration",
        default="2d",
        choices=["2d", "3d_fullres"],
        help="3d_fullres takes ten times as long (default: 2d)",
    )
    parser.add_argument("-n", type=arguments.whole(5, 10_000), help="phantoms to train on, at least 5 (default: 15)")
    parser.add_argument("--size", type=arguments.whole(16, 512), help="edge of a phantom in voxels (default: 64)")
    parser.add_argument("--epochs", type=arguments.whole(1, 10_000), help="default: 6, in 3d 10")
    parser.add_argument("--iterations", type=arguments.whole(1, 10_000), help="per epoch (default: 120, in 3d 60)")
    parser.add_argument(
        "--seed", type=arguments.whole(0, 999_999_999), help="of weights and modality dropout (default: 0)"
    )
    parser.add_argument("-device", default="cpu", choices=["cpu", "cuda"], help="default: %(default)s")
    parser.add_argument("--disable_progress_bar", action="store_true", help="no progress bars")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    args = build_parser().parse_args(argv)

    from nnunetv2_mmkd.workers import supervised_workers
    from nnunetv2_mmkd.workflows.demo.run import SIZES, DemoConfig, run_demo

    numbers = {"cases": args.n, "size": args.size, "epochs": args.epochs, "iterations": args.iterations}
    given = {name: value for name, value in {**numbers, "seed": args.seed}.items() if value is not None}
    progress = not args.disable_progress_bar
    settings = {**SIZES[args.configuration], **given, "trainer": args.tr, "device": args.device, "progress": progress}
    with supervised_workers():
        run_demo(args.out.resolve(), DemoConfig(**settings))
    return 0
