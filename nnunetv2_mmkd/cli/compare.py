"""``mmkd compare``: two methods of a table of results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.output_folders import check_apart

HELP = "two methods of a table of results: differences, intervals, tests"

DESCRIPTION = """\
Compare two methods. By default the case is the unit: each case's mean over subsets, paired between the methods, with a
bootstrap interval over patients and Wilcoxon's signed-rank test. --unit subsets is the papers' one-tailed paired
t-test over the subsets' means; it takes correlated means for independent ones and says nothing about new patients.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd compare``."""
    parser = arguments.Parser("mmkd compare", description=DESCRIPTION)
    parser.add_argument("first", metavar="A", help="method; differences are A - B")
    parser.add_argument("second", metavar="B", help="method")
    parser.add_argument(
        "-i",
        nargs="+",
        required=True,
        type=arguments.file,
        metavar="CSV",
        help="results.csv of `mmkd evaluate` (several are put together)",
    )
    parser.add_argument("-o", type=arguments.output_file, metavar="CSV", help="also write the comparison here")
    parser.add_argument("--metric", default="dice", help="(default: %(default)s)")
    parser.add_argument("--regions", nargs="+", help="(default: all)")
    parser.add_argument(
        "--subsets", nargs="+", metavar="SUBSET", help="e.g. t1+t2, which a specialist has (default: all)"
    )
    parser.add_argument("--unit", choices=("cases", "subsets"), default="cases", help="(default: %(default)s)")
    parser.add_argument(
        "--average_row", action="store_true", help="with --unit subsets: the average is one more pair, as in MetaKD"
    )
    parser.add_argument(
        "--patients",
        type=arguments.file,
        metavar="CSV",
        help="columns case and patient: cases of one patient are drawn together",
    )
    parser.add_argument("--common", action="store_true", help="leave out what only one method has")
    parser.add_argument(
        "--confidence",
        type=arguments.number(above=0, below=1),
        default=0.95,
        help="of the interval (default: %(default)s)",
    )
    parser.add_argument(
        "--resamples",
        type=arguments.whole(1, 10_000_000),
        default=10_000,
        help="of the bootstrap (default: %(default)s)",
    )
    parser.add_argument("--seed", type=arguments.seed, default=0, help="of the bootstrap (default: %(default)s)")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    args = build_parser().parse_args(argv)

    from nnunetv2_mmkd.evaluation.compare_report import CompareSettings, compare_files

    settings = CompareSettings(
        metric=args.metric,
        regions=tuple(args.regions or ()),
        subsets=tuple(args.subsets or ()),
        unit=args.unit,
        average_row=args.average_row,
        common_only=args.common,
        confidence=args.confidence,
        resamples=args.resamples,
        seed=args.seed,
    )
    if args.o is not None:
        check_apart(args.o, *args.i, args.patients)
    lines = compare_files(args.i, args.first, args.second, settings, args.patients, args.o)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
