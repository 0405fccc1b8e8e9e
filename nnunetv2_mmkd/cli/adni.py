"""``mmkd adni``: classification from tables and volumes, any of them missing."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.files import locked

HELP = "classify subjects by tables and volumes of which any may be missing, as in ADNI"

DESCRIPTION = """\
Train on a CSV with tabular modalities and paths of volumes, and score every subset of the modalities. One line per
subject: the columns subject, diagnosis, imaging (path of a volume, relative to the CSV) and modality:name for the
tables, with clinical, genomic and biospecimen as modalities; :category after a name for codes that are not numbers. A
modality whose cells are all empty is missing. SMOTE needs the extra: pip install "nnunetv2-mmkd[classification]".
ADNI itself is restricted; nothing of it is shipped.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd adni``."""
    parser = arguments.Parser("mmkd adni", description=DESCRIPTION)
    parser.add_argument("--csv", required=True, type=arguments.file, metavar="FILE", help="the table of subjects")
    parser.add_argument(
        "-o", default=Path("mmkd_adni"), type=arguments.output_folder, metavar="FOLDER", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="also ShaSpec AutoEncoder SMIL Flex-MoE (default: ModalityDropout LCKD MetaKD)",
    )
    parser.add_argument(
        "--seeds", type=arguments.positive, default=1, metavar="N", help="splits (default: %(default)s)"
    )
    parser.add_argument("--balance", default="smote", help="smote (default), weights or none")
    parser.add_argument(
        "--grid", type=arguments.whole(1, 512), default=32, metavar="VOXELS", help="of a volume (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=arguments.positive, default=100, help="(default: %(default)s)")
    parser.add_argument("--batch_size", type=arguments.positive, default=32, help="(default: %(default)s)")
    parser.add_argument(
        "--modality_dropout",
        default="count_uniform",
        metavar="NAME",
        help="how modalities are dropped in training, per subject (default: %(default)s)",
    )
    parser.add_argument(
        "--smooth", type=arguments.positive, default=1, metavar="N",
        help="moving average of the importance weights in figures/importance.png over N epochs (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda", "mps"), help="(default: %(default)s)")
    parser.add_argument("--disable_progress_bar", action="store_true", help="no progress bars")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    args = build_parser().parse_args(argv)

    from nnunetv2_mmkd.classification.tabular.reader import read_sheet
    from nnunetv2_mmkd.classification.tabular.run import TabularProtocol, run_sheet
    from nnunetv2_mmkd.modalities import ModalityDropoutConfig

    defaults = TabularProtocol()
    protocol = TabularProtocol(
        methods=tuple(args.methods or defaults.methods),
        seeds=args.seeds,
        balance=args.balance,
        grid=args.grid,
        train=replace(
            defaults.train,
            epochs=args.epochs,
            batch_size=args.batch_size,
            modality_dropout=ModalityDropoutConfig(args.modality_dropout),
        ),
    )
    sheet = read_sheet(args.csv)
    if sheet.left_out:
        logging.getLogger(__name__).warning("left out, they contain the diagnosis: %s", ", ".join(sheet.left_out))
    with locked(args.o):
        run_sheet(
            sheet, protocol, args.o, device=args.device, progress=not args.disable_progress_bar, smooth=args.smooth
        )
    sys.stdout.write((args.o / "tables" / "accuracy.md").read_text(encoding="utf-8"))
    return 0
