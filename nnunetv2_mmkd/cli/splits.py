"""``mmkd splits``: who is trained on and who is not."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nnunetv2_mmkd.cli import arguments

HELP = "write splits_final.json from the literature's case lists, by patients or by institutions"

DESCRIPTION = """\
Write splits_final.json of a data set into its folder of nnUNet_preprocessed, before or after preprocessing. HOW is
`patients` (5 folds, no patient divided), `institutions` (FeTS: by the table that was above the cases when they were
converted, or by the CSV given; as many folds as institutions leave one out each), or text files of one id a line, whose
names say train, val or test: train1.txt and val1.txt make a fold, test1.txt its test list, written to
mmkd_test_cases.json, which `mmkd evaluate --test` reads.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd splits``."""
    parser = arguments.Parser("mmkd splits", description=DESCRIPTION)
    parser.add_argument("how", nargs="+", metavar="HOW", help="`patients`, `institutions [CSV]`, or lists")
    parser.add_argument(
        "-d", dest="dataset_id", type=arguments.dataset_id, required=True, metavar="ID", help="data set id"
    )
    parser.add_argument("--folds", type=arguments.whole(2), metavar="N",
                        help="number of folds, not with lists (default: 5, or as many as groups)")  # fmt: skip
    parser.add_argument(
        "--seed", type=arguments.seed, default=0, help="of the shuffling, not with lists (default: %(default)s)"
    )
    parser.add_argument(
        "--patient_key",
        metavar="REGEX",
        help="one group, the patient, for a whole case name (default: as case_map.json of `mmkd convert` says, else "
        "BraTS-GLI-00001-000 is of BraTS-GLI-00001 and any other case is a patient of its own)",
    )
    parser.add_argument("--partial", action="store_true", help="leave out ids that the data set does not have")
    parser.add_argument("--overwrite", action="store_true", help="replace existing splits")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    args = build_parser().parse_intermixed_args(argv)

    from nnunetv2_mmkd.protocols.splits import write_splits

    written = write_splits(
        args.dataset_id,
        args.how,
        folds=args.folds,
        seed=args.seed,
        patient_key=args.patient_key,
        partial=args.partial,
        overwrite=args.overwrite,
    )
    sys.stdout.write("\n".join(written.lines()) + "\n")
    return 0
