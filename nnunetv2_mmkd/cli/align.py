"""``mmkd align``: the sequences of each exam onto the grid of one of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.editions.custom import parse_modalities
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.names import canonical, parse_names
from nnunetv2_mmkd.output_folders import check_apart
from nnunetv2_mmkd.workers import supervised_workers

HELP = "bring the sequences of each exam onto the grid of one of them, rigidly; the way back is kept"

DESCRIPTION = """\
Rigid registration of the sequences of each exam to one of them, on its grid. The output folder has a folder for each
case: images for mmkd predict, transforms for the way back (mmkd predict --native), and check.png, by which you see
whether they lie on one another. A sequence that does not fit the reference is refused.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd align``."""
    parser = arguments.Parser("mmkd align", description=DESCRIPTION)
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``mmkd preprocess`` has, too."""
    parser.add_argument("-i", type=arguments.folder, help="input folder, named as for mmkd predict")
    parser.add_argument(
        "-o", required=True, type=arguments.output_folder, help="output folder; made if it does not exist"
    )
    parser.add_argument(
        "--reference", nargs="+", required=True, metavar="NAME",
        help="the sequence that the others are brought onto, e.g. t1ce; of several the first that a case has",
    )  # fmt: skip
    parser.add_argument(
        "--modalities", nargs="+", default=[], metavar="NAME[=WORD,WORD]",
        help="words in file names that stand for a modality, as for mmkd predict; of CASE_XXXX files the names of the "
        "channels in their order, where no dataset.json says them",
    )  # fmt: skip
    parser.add_argument(
        "--ignore", nargs="+", default=[], metavar="WORD", help="leave out files with this word, e.g. dwi"
    )
    parser.add_argument(
        "--manifest",
        type=arguments.file,
        metavar="CSV",
        help="table of the exams, as for mmkd predict: case, and a column for each sequence with a path in -i "
        "(default: the table's folder)",
    )
    parser.add_argument(
        "--accept", nargs="+", default=[], metavar="CASE", help="cases whose picture you have looked at: not refused"
    )
    parser.add_argument("-np", dest="processes", type=arguments.processes, default=1, help="processes (default: 1)")
    parser.add_argument("--disable_progress_bar", action="store_true", help="no progress bar")


def run(args: argparse.Namespace, atlas: Path | None = None, strip: bool = False, device: str = "cpu") -> int:
    """Find and align the exams; returns the exit code."""
    from nnunetv2_mmkd.registration.align import align_folder
    from nnunetv2_mmkd.registration.case import AlignmentJob
    from nnunetv2_mmkd.workflows.exams import find_exams

    if args.i is None and args.manifest is None:
        raise InputError("give the input folder with -i, or a table with --manifest")
    if args.manifest is not None and (args.modalities or args.ignore):
        raise InputError("--manifest names every image: leave out --modalities and --ignore")
    folder = args.manifest.parent if args.i is None else args.i
    check_apart(args.o, folder)
    if not folder.is_dir():
        raise InputError(f"input folder {folder} does not exist")
    reference = tuple(map(canonical, parse_names(args.reference)))
    if not reference:
        raise InputError("--reference is empty: name a sequence, e.g. t1ce")
    exams = find_exams(folder, parse_modalities(args.modalities), args.ignore, args.manifest)
    job = AlignmentJob(args.o, reference, frozenset(args.accept), atlas, strip, device)
    with supervised_workers():
        align_folder(exams, folder, job, processes=args.processes, show_progress=not args.disable_progress_bar)
    return 0


def main(argv: Sequence[str]) -> int:
    """``mmkd align -i FOLDER -o FOLDER --reference NAME``; returns the exit code."""
    return run(build_parser().parse_args(argv))
