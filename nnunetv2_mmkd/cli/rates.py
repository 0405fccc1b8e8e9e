"""``mmkd rates``: which modalities each case is trained without."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nnunetv2_mmkd.cli import arguments

HELP = "write a missing-rate table: by rates and a seed, from the literature's CSV, or by institution"

DESCRIPTION = """\
Write mmkd_missing_TAG.json, the table of trainers whose name ends in _TAG, into the data set's folder of
nnUNet_preprocessed, and show the realised rates. No case is left with nothing, so high rates come out lower than asked
for. Data sets that are incomplete themselves need no table: missing_modalities of dataset.json says it.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd rates``."""
    parser = arguments.Parser("mmkd rates", description=DESCRIPTION)
    parser.add_argument(
        "-d", dest="dataset_id", type=arguments.dataset_id, required=True, metavar="ID", help="data set id"
    )
    parser.add_argument("--tag", required=True, help="lower-case letters and digits, such as mr2468")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--rates", nargs="+", default=[], metavar="NAME=RATE", help="such as t1=0.2 t1ce=0.4; others 0")
    how.add_argument(
        "--csv", type=arguments.file, metavar="FILE", help="columns data_name and mask, as PASSION publishes them"
    )
    how.add_argument("--lacks", nargs="+", default=[], metavar="SITE=NAMES", help="such as 3=t1ce,flair (FeTS)")
    parser.add_argument("--seed", type=arguments.seed, default=0, help="of --rates (default: %(default)s)")
    parser.add_argument(
        "--order",
        nargs="+",
        default=["flair", "t1ce", "t1", "t2"],
        metavar="NAME",
        help="modalities of the masks of --csv (default: flair t1ce t1 t2, as in the literature)",
    )
    parser.add_argument(
        "--sites",
        type=arguments.file,
        metavar="CSV",
        help="columns Subject_ID and Partition_ID (with --lacks, default: as FeTS was converted); with --rates, one "
        "draw for all cases of an institution",
    )
    parser.add_argument("--partial", action="store_true", help="leave out ids that the data set does not have")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing table")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    args = build_parser().parse_args(argv)

    from nnunetv2_mmkd.protocols.missing_rates import write_rates

    written = write_rates(
        args.dataset_id,
        args.tag,
        rates=args.rates,
        seed=args.seed,
        table=args.csv,
        order=args.order,
        lacks=args.lacks,
        sites=args.sites,
        partial=args.partial,
        overwrite=args.overwrite,
    )
    sys.stdout.write("\n".join(written.lines()) + "\n")
    return 0
