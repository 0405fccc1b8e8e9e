"""``mmkd avmnist``: MetaKD's table of Audiovision-MNIST, reproduced."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunetv2_mmkd.cli import arguments

HELP = "MetaKD's table of Audiovision-MNIST, reproduced alongside the published one"

DESCRIPTION = """\
Pairs of handwritten and spoken digits: eight cells (audio or images for 5, 10, 15, 20 % of the training pairs, tested
on the other modality alone), our own bounds, modality dropout, LCKD, MetaKD and an ablation, over several seeds, each
with its own split; ShaSpec, AutoEncoder, SMIL and Flex-MoE on request. Needs the extra:
pip install "nnunetv2-mmkd[classification]". In the output folder: table.md, results.csv, comparisons.csv, figures/,
runs/. An interrupted run continues where it stopped.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd avmnist``."""
    parser = arguments.Parser("mmkd avmnist", description=DESCRIPTION)
    parser.add_argument(
        "--mnist", required=True, type=arguments.file, metavar="FILE", help=".npz with images and labels"
    )
    parser.add_argument(
        "--fsdd", required=True, type=arguments.folder, metavar="FOLDER", help="wav files, 7_jackson_32.wav"
    )
    parser.add_argument(
        "-o",
        default=Path("mmkd_avmnist"),
        type=arguments.output_folder,
        metavar="FOLDER",
        help="(default: %(default)s)",
    )
    parser.add_argument(
        "--seeds", type=arguments.positive, default=10, metavar="N", help="repetitions (default: %(default)s)"
    )
    parser.add_argument(
        "--rates",
        type=arguments.number(above=0, most=1),
        nargs="+",
        default=(0.05, 0.1, 0.15, 0.2),
        metavar="R",
        help="(default: 0.05 0.1 0.15 0.2)",
    )
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", help="(default: all but rivals and alpha 0; a wrong name lists them)"
    )
    parser.add_argument("--published_split", action="store_true", help="the published test part for all seeds")
    parser.add_argument(
        "--alpha", type=arguments.number(0), default=0.1, help="weight of the distillation (default: %(default)s)"
    )
    parser.add_argument(
        "--modality_dropout",
        default="full",
        metavar="NAME",
        help="how modalities are dropped in training, per subject, in addition to the rate; never of the upper "
        "bound (default: %(default)s, nothing is dropped)",
    )
    parser.add_argument("--epochs", type=arguments.positive, default=60, help="(default: %(default)s)")
    parser.add_argument("--batch_size", type=arguments.positive, default=64, help="(default: %(default)s)")
    parser.add_argument(
        "-np", type=arguments.processes, default=1, metavar="N", help="trainings at a time (default: %(default)s)"
    )
    parser.add_argument("--disable_progress_bar", action="store_true", help="no progress bars")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    args = build_parser().parse_args(argv)

    from nnunetv2_mmkd.classification.avmnist.pairs import read_data
    from nnunetv2_mmkd.classification.avmnist.protocol import AudiovisionProtocol
    from nnunetv2_mmkd.classification.avmnist.report import write_accuracy_report
    from nnunetv2_mmkd.classification.avmnist.run import run_all
    from nnunetv2_mmkd.modalities import ModalityDropoutConfig

    defaults = AudiovisionProtocol()
    protocol = AudiovisionProtocol(
        rates=tuple(args.rates),
        seeds=args.seeds,
        arms=tuple(args.methods or defaults.arms),
        alpha=args.alpha,
        published_split=args.published_split,
        train=replace(
            defaults.train,
            epochs=args.epochs,
            batch_size=args.batch_size,
            modality_dropout=ModalityDropoutConfig(args.modality_dropout),
        ),
    )
    data = read_data(args.mnist, args.fsdd, progress=not args.disable_progress_bar)
    run_all(data, protocol, args.o, processes=args.np, progress=not args.disable_progress_bar)
    sys.stdout.write(write_accuracy_report(protocol, args.o))
    return 0
