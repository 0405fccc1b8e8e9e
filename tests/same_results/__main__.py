"""Proof that a refactoring changed nothing that users rely on: record a commit, record the next, compare.

    python tests/same_results record BEFORE.json --models MODELS     # with the package of one commit
    python tests/same_results record AFTER.json --models MODELS      # the same files, with the package of another one
    python tests/same_results compare BEFORE.json AFTER.json         # every difference by name; exit code 1 if any

It is no test for pytest. A black box: it uses the command line, trainers by their names through nnU-Net's look-up, what
nnU-Net's trainers have anyway, and nnU-Net itself; of the package it imports only ``trainer_variants`` and
``cli.main``, so that the very same files run where internal modules are named otherwise. Everything happens on the CPU,
in one thread, seeded, with tiny data sets, in a temporary folder.

Recorded are exact numbers (``float.hex``), texts of tables, and SHA-256 of arrays, under names such as
``trainers/MetaKD 3d/losses``. Not recorded: messages and logs, pictures, what ``mmkd_config.json`` and ``debug.json``
say about classes, time stamps, paths of the temporary folder, version numbers.

The folder of ``--models`` is made by the first ``record`` and used by the next one: models that the one commit trained
predict and go on training in the other.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)
"""``tests``: this package and ``tiny_nnunet``."""

THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "nnUNet_def_n_proc": "1"}
"""Set before numpy, torch and nnU-Net are imported."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="same_results", description="Prove that a refactoring changed nothing that users rely on."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    record = verbs.add_parser("record", help="record what the importable package does")
    record.add_argument("out", type=Path, metavar="OUT.json")
    record.add_argument("--only", default="", metavar="A,B", help="sections: keys of SECTIONS in record_package.py")
    record.add_argument("--models", type=Path, metavar="FOLDER", help="made if the folder is not there, else used")
    record.add_argument("--keep", type=Path, metavar="FOLDER", help="work here, and keep everything, with the log")
    record.add_argument(
        "--match",
        default="",
        metavar="REGEX",
        help="of trainers, late, saved and convert only the parts whose names match, e.g. 'MetaKD|LCKD'",
    )
    compare = verbs.add_parser("compare", help="print every difference; exit code 1 if there is any")
    compare.add_argument("before", type=Path, metavar="BEFORE.json")
    compare.add_argument("after", type=Path, metavar="AFTER.json")
    return parser


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args()
    if args.verb == "compare":
        from same_results.compare_records import compare

        return compare(args.before, args.after)
    if args.keep is not None and args.keep.exists() and any(args.keep.iterdir()):
        parser.error(f"--keep {args.keep}: the folder must be empty")
    os.environ.update(THREADS)
    from same_results.record_package import SECTIONS, record_package

    only = [name.strip() for name in args.only.split(",") if name.strip()] or list(SECTIONS)
    unknown = [name for name in only if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown section {unknown[0]}; there are {', '.join(SECTIONS)}")
    return record_package(args.out, only, args.models, args.keep, args.match)


if __name__ == "__main__":
    sys.exit(main())
