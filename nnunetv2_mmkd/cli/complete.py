"""``mmkd complete``: an nnU-Net raw data set whose images are not all there becomes one that can be trained on."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nnunetv2_mmkd.cli import arguments

HELP = "give an nnU-Net raw data set zero images for those that do not exist, and declare them missing"

DESCRIPTION = """\
Take a data set in nnUNet_raw whose cases do not have all channels: for each image that does not exist an all-zero one
is written, and dataset.json gets "missing_modalities". Existing images are not touched. An image that is there and all
zero is declared missing, too. Names and headers of all cases are checked before the first image is written.
"""


def build_parser() -> arguments.Parser:
    """The parser of ``mmkd complete``."""
    parser = arguments.Parser(prog="mmkd complete", description=DESCRIPTION)
    parser.add_argument(
        "-d", dest="dataset_id", required=True, type=arguments.dataset_id, metavar="ID", help="data set id"
    )
    parser.add_argument("--dry_run", action="store_true", help="only say what would be done")
    parser.add_argument("--disable_progress_bar", action="store_true", help="show no progress bar")
    return parser


def main(argv: Sequence[str]) -> int:
    """``mmkd complete -d ID``; returns the exit code."""
    args = build_parser().parse_args(argv)

    from nnunetv2_mmkd.workflows.complete import complete  # needs torch

    done = complete(args.dataset_id, dry_run=args.dry_run, show_progress=not args.disable_progress_bar)
    end = "dry run: nothing was written" if args.dry_run else f"complete: {done.folder}"
    sys.stdout.write("\n".join([*done.lines, end]) + "\n")
    return 0
