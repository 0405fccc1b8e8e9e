"""All trainers on one GPU in ten minutes; prints a table for the README.

    python tests/gpu -o gpu.md                    # one GPU; 128^3, nnU-Net's plan of BraTS, mixed precision
    python tests/gpu --device cpu --patch 64 --features_scale 0.0625 --iterations 2    # a dry run

Every trainer takes 20 steps, validates, is saved and taken up again, and predicts a case with all 15 subsets; first
without ``torch.compile``, then with. Time and memory are alongside those of the stock trainer in the same run. What no
longer fits into the time is listed as not run, what fails with its reason; the table is written after each trainer.
With two GPUs some trainers train on both. Noise is trained on: there is nothing to learn, and no data are needed.
It needs the package alone, `pip install -e .`, and none of its extras.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("nnUNet_def_n_proc", "1")  # nnU-Net reads it when it is imported
os.environ.setdefault("nnUNet_n_proc_DA", "0")
TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "gpu")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code says whether anything failed."""
    try:
        import torch
        from gpu_report import run

        from nnunetv2_mmkd.benchmark.all_methods import all_trainers
        from nnunetv2_mmkd.benchmark.environment import temporary_environment
        from nnunetv2_mmkd.benchmark.plan import synthetic_plan
        from nnunetv2_mmkd.cli.arguments import Parser, number, output_file, positive
        from nnunetv2_mmkd.errors import InputError
        from nnunetv2_mmkd.networks.architecture import check_patch
        from nnunetv2_mmkd.output_folders import check_writable
        from nnunetv2_mmkd.training.preflight import find_own_trainer
    except ImportError as error:
        sys.stderr.write(f"python tests/gpu: error: {error}; install the package first: pip install -e .\n")
        return 1

    parser = Parser("python tests/gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-tr", nargs="+", metavar="NAME", help="trainers (default: all)")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--minutes", type=number(above=0), default=10, help="in all (default: %(default)s)")
    parser.add_argument("--iterations", type=positive, default=20, help="steps of each (default: %(default)s)")
    parser.add_argument("--patch", type=positive, default=128, help="voxels an edge (default: %(default)s)")
    parser.add_argument(
        "--features_scale", type=number(above=0), default=1.0, help="factor on feature maps, for a dry run"
    )
    parser.add_argument("-o", type=output_file, metavar="FILE", help="also write the table there, after each trainer")
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; a dry run: --device cpu --patch 64 --features_scale 0.0625")
    try:
        plan = synthetic_plan(features_scale=args.features_scale).resized([args.patch] * 3)
        check_patch(plan.patch, plan.architecture["strides"])
        if args.o is not None:
            check_writable(str(args.o.parent))
        with temporary_environment():
            names = args.tr or all_trainers()
            for name in names:
                find_own_trainer(name)
    except InputError as error:
        parser.error(str(error))
    device = torch.device("cuda", 0) if args.device == "cuda" else torch.device("cpu")
    _, text = run(plan, names, device, args.minutes, args.iterations, args.o)
    sys.stdout.write(text)
    return int("failed" in text)


if __name__ == "__main__":
    sys.exit(main())
