"""``mmkd phantom``: write the embedded data set."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.editions.catalogue import get_edition
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.phantom.case import PhantomConfig
from nnunetv2_mmkd.phantom.editions import Config, fitting_config
from nnunetv2_mmkd.phantom.heart_case import HeartConfig
from nnunetv2_mmkd.phantom.writer import write_phantom

HELP: str = "write phantoms, of brain tumours or infarcts, as the unpacked archives of any edition"

DESCRIPTION = """\
Write a data set of digital phantoms in the folders, file names and label values of an edition, so that its conversion
can be tried without its data. For the editions of BraTS and FeTS it is a brain with a tumour, for MyoPS a heart with an
infarct in two to six slices.
"""

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd phantom``."""
    defaults = PhantomConfig()
    parser = arguments.Parser(prog="mmkd phantom", description=DESCRIPTION)
    parser.add_argument(
        "out",
        metavar="OUT",
        type=arguments.output_folder,
        help="folder to write to (empty, or an interrupted run of this)",
    )
    parser.add_argument(
        "--edition", default="brats2018", help="see `mmkd convert --list` (default: %(default)s)"
    )  # fmt: skip
    parser.add_argument(
        "-n", "--cases", type=arguments.whole(1, 100_000), default=12, metavar="N", help="cases (default: %(default)s)"
    )
    parser.add_argument(
        "--validation",
        type=arguments.whole(0, 100_000),
        default=0,
        metavar="N",
        help="cases without label besides (default: %(default)s)",
    )
    parser.add_argument("--size", type=_sizes, metavar="VOXELS",
                        help="voxels per axis, one number or three (default 64); of a heart within a slice, one number "
                        "(default 96)")  # fmt: skip
    parser.add_argument("--spacing", type=arguments.number(above=0), metavar="MM",
                        help="edge of a voxel (default: for a field of view of 192 mm, of a heart 160 mm)")  # fmt: skip
    parser.add_argument("--full_grid", action="store_true",
                        help="pad to the edition's own grid at 1 mm; some platforms insist on it")  # fmt: skip
    parser.add_argument(
        "--seed", type=arguments.seed, default=defaults.seed, help="seed of the data set (default %(default)s)"
    )
    parser.add_argument("--noise", type=arguments.number(0), default=defaults.noise,
                        help="noise relative to the mean signal (default %(default)s)")  # fmt: skip
    parser.add_argument("--enhancing", metavar="NAME",
                        help="modality in which enhancing tumour lights up (default t1ce)")  # fmt: skip
    parser.add_argument("--exchangeable", action="store_true",
                        help="all modalities have the contrast of the enhancing one")  # fmt: skip
    parser.add_argument(
        "-np", "--processes", type=arguments.processes, default=2, help="worker processes (default %(default)s)"
    )
    parser.add_argument("--disable_progress_bar", action="store_true", help="draw no progress bar")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb."""
    args = build_parser().parse_args(_with_joined_sizes(sys.argv[1:] if argv is None else argv))
    spec = get_edition(args.edition)
    folders = write_phantom(
        args.out,
        args.cases,
        _config(spec, args),
        edition=spec,
        validation=args.validation,
        processes=args.processes,
        show_progress=not args.disable_progress_bar,
    )
    logger.info("%s: %d phantom cases in %s", spec.title, len(folders), args.out)
    return 0


def _with_joined_sizes(argv: Sequence[str]) -> list[str]:
    """``--size 64 64 48 OUT`` -> ``--size 64,64,48 OUT``: argparse would take OUT for a size, too."""
    joined: list[str] = []
    for word in argv:
        if len(joined) > 1 and joined[-2] == "--size" and word.isdigit():
            joined[-1] += f",{word}"
        else:
            joined.append(word)
    return joined


def _sizes(text: str) -> list[int]:
    return [arguments.positive(each) for each in text.split(",")]


def _config(spec: EditionSpec, args: argparse.Namespace) -> Config:
    shared = {"spacing": args.spacing, "noise": args.noise, "seed": args.seed}
    if isinstance(fitting_config(spec), HeartConfig):
        if args.enhancing or args.exchangeable or args.full_grid or len(args.size or [0]) != 1:
            raise InputError(
                f"{spec.title}: its phantom is a heart; --enhancing, --exchangeable, --full_grid and a --size of three "
                "numbers are the brain's"
            )
        return HeartConfig(**shared, **({"size": args.size[0]} if args.size else {}))
    size = args.size or [64]
    grid = spec.grid if args.full_grid else None
    if args.full_grid:
        shared["spacing"] = args.spacing or 1.0
    return PhantomConfig(
        **shared,
        size=size[0] if len(size) == 1 else tuple(size),
        grid=grid,
        exchangeable=args.exchangeable,
        enhancing=args.enhancing or "t1ce",
    )
