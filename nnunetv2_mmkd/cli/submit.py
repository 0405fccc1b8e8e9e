"""``mmkd submit``: predictions -> a challenge's submission files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.editions.catalogue import get_edition
from nnunetv2_mmkd.output_folders import check_apart
from nnunetv2_mmkd.submission.check import check_submission
from nnunetv2_mmkd.submission.uncertainty import write_uncertainty
from nnunetv2_mmkd.submission.write import write_submission

logger = logging.getLogger(__name__)

HELP = "turn predictions into a challenge's submission files"


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd submit``."""
    parser = arguments.Parser(prog="mmkd submit", description=HELP)
    parser.add_argument("edition", help="the edition, e.g. brats2018 (mmkd convert --list shows all)")
    parser.add_argument(
        "-i", dest="predictions", type=arguments.folder, metavar="PREDICTIONS", help="folder of predictions"
    )
    parser.add_argument(
        "-ref", dest="originals", nargs="+", required=True, type=arguments.path, metavar="SRC",
        help="folder with the original cases; their headers are copied",
    )  # fmt: skip
    parser.add_argument(
        "-o", dest="out", type=arguments.output_folder, metavar="OUT", help="folder for the files and the zip"
    )
    parser.add_argument(
        "--zip",
        dest="zip_name",
        type=arguments.name,
        metavar="NAME",
        help="name of the archive, .zip or .tar.gz (default: by edition)",
    )
    parser.add_argument(
        "--file_name", type=arguments.name, metavar="NAME", help="names of the files, e.g. '{case}_seg.nii.gz'"
    )
    parser.add_argument(
        "--uncertainty", action="store_true",
        help="also write maps of uncertainty, from <case>.npz in PREDICTIONS, to OUT/uncertainty (BraTS 2019, 2020)",
    )  # fmt: skip
    parser.add_argument(
        "--check", type=arguments.file, metavar="ARCHIVE", help="only check an archive, as after writing one"
    )
    parser.add_argument("--allow_missing", action="store_true", help="leave out original cases without a prediction")
    parser.add_argument("--disable_progress_bar", action="store_true", help="show no progress bar")
    return parser


def main(argv: Sequence[str]) -> int:
    """``mmkd submit EDITION -i PREDICTIONS -ref ORIGINALS -o OUT``, or ``--check ARCHIVE``; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    spec = get_edition(args.edition)
    if args.check is not None:
        if args.predictions is not None or args.out is not None:
            parser.error("--check only reads the archive: leave out -i and -o")
        check_submission(spec, args.check, args.originals, allow_missing=args.allow_missing)
        logger.info("%s: nothing to object to", args.check)
        return 0
    if args.predictions is None or args.out is None:
        parser.error("give the folder of predictions (-i) and the folder for the submission (-o)")
    check_apart(args.out, args.predictions, *args.originals)
    if args.uncertainty:  # first: it may not be possible
        write_uncertainty(
            spec,
            args.predictions,
            args.originals,
            Path(args.out) / "uncertainty",
            allow_missing=args.allow_missing,
            show_progress=not args.disable_progress_bar,
        )
    write_submission(
        spec,
        args.predictions,
        args.originals,
        args.out,
        zip_name=args.zip_name,
        file_name=args.file_name,
        allow_missing=args.allow_missing,
        show_progress=not args.disable_progress_bar,
    )
    return 0
