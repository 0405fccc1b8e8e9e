"""``mmkd benchmark``: cost of trainers against the stock trainer on the same plan in the same run."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.files import write_text
from nnunetv2_mmkd.output_folders import check_writable

HELP = "cost of a trainer against the stock trainer on the same plan"

DESCRIPTION = """\
Cost of trainers against the stock nnUNetTrainer on the same plan, in the same run: FLOPs of a step (forward and
backward) and bytes kept for backward are counted for the full patch without computing anything, on any machine; time is
measured on real training steps, interleaved with the stock trainer's. Needs no data: noise of the plan's shape is used,
and of a user's data set (-d) only the plans are read.
"""

TRAINERS = ("nnUNetTrainerMetaKD", "nnUNetTrainerModalityDropout")

logger = logging.getLogger(__name__)


def _stages(text: str) -> int | None:
    return None if text == "default" else arguments.whole(0)(text)


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd benchmark``."""
    parser = arguments.Parser("mmkd benchmark", description=DESCRIPTION)
    parser.add_argument("-tr", nargs="+", metavar="NAME", default=TRAINERS,
                        help=f"trainers (default: {' '.join(TRAINERS)})")  # fmt: skip
    parser.add_argument(
        "--all",
        type=arguments.output_file,
        metavar="FILE",
        help="all trainers of this package, and a page about them as Markdown (-tr is not read); takes minutes",
    )
    plan = parser.add_argument_group("plan", "a synthetic one of BraTS topology, or that of a data set")
    plan.add_argument("--topology", choices=("plain", "resenc"), default="plain", help="of the synthetic plan")
    plan.add_argument("--features_scale", type=arguments.number(above=0, most=64), default=1.0, metavar="FACTOR",
                      help="factor on the synthetic plan's feature maps, for small machines")  # fmt: skip
    plan.add_argument(
        "-d", metavar="DATASET", help="a preprocessed data set, name or id, instead of the synthetic plan"
    )
    plan.add_argument("-c", default="3d_fullres", help="its configuration (default: %(default)s)")
    plan.add_argument("-p", default="nnUNetPlans", help="its plans identifier (default: %(default)s)")
    plan.add_argument(
        "--patch", type=arguments.positive, nargs="+", metavar="VOXELS", help="patch size (default: the plan's)"
    )
    plan.add_argument("--batch_size", type=arguments.positive, metavar="B", help="batch size (default: the plan's)")
    steps = parser.add_argument_group("steps")
    steps.add_argument("--subsets", default="uniform", metavar="DISTRIBUTION",
                       help="modality dropout of the measured steps: uniform (default), own (each trainer's, after its "
                            "warm-up), all (nothing dropped), or another distribution")  # fmt: skip
    steps.add_argument("--recomputed_stages", type=_stages, default=0, metavar="N",
                       help="encoder stages recomputed in backward in the step ratios; 'default' is the trainer's own "
                            "number (default: %(default)s; bytes are shown for none, default and all)")  # fmt: skip
    steps.add_argument("--steps", type=arguments.whole(0), default=3, metavar="N",
                       help="timed rounds, over all subset sizes; 0 only counts (default: %(default)s)")  # fmt: skip
    steps.add_argument(
        "--timed_patch",
        type=arguments.positive,
        nargs="+",
        metavar="VOXELS",
        help="patch of the timed steps (default: the plan's; on a CPU at most 64 per axis); each axis a multiple of "
        "the network's stride, and more than one voxel left at the bottleneck",
    )
    steps.add_argument("-device", default="cuda", choices=("cuda", "cpu", "mps"), help="of the timed steps")
    steps.add_argument("--compile", action="store_true", help="nnUNet_compile=true for both sides (default: false)")
    steps.add_argument("--cpu_time", action="store_true",
                       help="for a busy CPU: seconds that this process computes (set OMP_NUM_THREADS=1)")  # fmt: skip
    parser.add_argument("-o", type=arguments.output_file, metavar="FILE", help="also write everything as JSON")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    args = build_parser().parse_args(argv)

    from nnunetv2_mmkd.benchmark.all_methods import all_methods_page, all_trainers
    from nnunetv2_mmkd.benchmark.environment import temporary_environment
    from nnunetv2_mmkd.benchmark.plan import dataset_plan, synthetic_plan
    from nnunetv2_mmkd.benchmark.run import BenchmarkSettings, run_benchmark

    for file in (args.o, args.all):
        if file is not None:
            check_writable(str(file.parent))
    if args.d is None:
        plan = synthetic_plan(args.topology, args.features_scale)
    else:
        plan = dataset_plan(args.d, args.c, args.p)
    with temporary_environment():
        trainers = tuple(args.tr) if args.all is None else all_trainers()
    settings = BenchmarkSettings(
        trainers=trainers,
        distribution="full" if args.subsets == "all" else args.subsets,
        steps=args.steps,
        timed_patch=None if args.timed_patch is None else tuple(args.timed_patch),
        recomputed_stages=args.recomputed_stages,
        device=args.device,
        compiles=args.compile,
        cpu_time=args.cpu_time,
    )
    report = run_benchmark(plan.resized(args.patch, args.batch_size), settings, logger.info)
    if args.all is None:
        sys.stdout.write("\n" + report.table())
    else:
        write_text(args.all, all_methods_page(report))
        sys.stdout.write(f"\n{len(report.rows)} trainers, written to {args.all}\n")
    if args.o is not None:
        report.write(args.o)
    return 0
