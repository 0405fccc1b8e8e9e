"""``mmkd phantom``: write the embedded data set."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_mmkd.phantom import PhantomConfig, write_phantom

HELP: str = "write a data set of digital brain-tumour phantoms in BraTS 2018 layout"

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb."""
    defaults = PhantomConfig()
    parser = argparse.ArgumentParser(prog="mmkd phantom", description=HELP)
    parser.add_argument(
        "out", metavar="OUT", type=Path, help="folder to write to (empty, or an interrupted run of this)"
    )
    parser.add_argument("-n", type=int, default=12, metavar="CASES", help="number of cases (default %(default)s)")
    parser.add_argument("--size", type=int, nargs="+", default=[64], metavar="VOXELS",
                        help="voxels per axis, one number or three (default 64)")  # fmt: skip
    parser.add_argument("--spacing", type=float, metavar="MM",
                        help="edge of a voxel (default: such that the longest axis covers 192 mm)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=defaults.seed, help="seed of the data set (default %(default)s)")
    parser.add_argument("--noise", type=float, default=defaults.noise,
                        help="noise relative to the mean brain signal (default %(default)s)")  # fmt: skip
    parser.add_argument("--enhancing", default=defaults.enhancing, metavar="NAME",
                        help="modality in which enhancing tumour lights up (default %(default)s)")  # fmt: skip
    parser.add_argument("--exchangeable", action="store_true",
                        help="all modalities have the contrast of the enhancing one")  # fmt: skip
    parser.add_argument("-np", "--processes", type=int, default=2, help="worker processes (default %(default)s)")
    parser.add_argument("--disable_progress_bar", action="store_true", help="draw no progress bar")
    args = parser.parse_args(argv)
    config = PhantomConfig(
        size=args.size[0] if len(args.size) == 1 else tuple(args.size),
        spacing=args.spacing,
        exchangeable=args.exchangeable,
        enhancing=args.enhancing,
        noise=args.noise,
        seed=args.seed,
    )
    folders = write_phantom(
        args.out, args.n, config, processes=args.processes, show_progress=not args.disable_progress_bar
    )
    logger.info("%d phantom cases in %s", len(folders), folders[0].parent)
    return 0
