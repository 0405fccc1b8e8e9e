"""All trainers on one GPU in ten minutes; prints a table for the README.

    python tests/gpu -o gpu.md                    # one GPU; 128^3, nnU-Net's plan of BraTS, mixed precision
    python tests/gpu --device cpu --patch 64 --features_scale 0.0625 --iterations 2    # a dry run

Every trainer takes 20 steps, validates, is saved and taken up again, and predicts a case with all 15 subsets; first
without ``torch.compile``, then with. Time and memory are alongside those of the stock trainer in the same run. What no
longer fits into the time is listed as not run, what fails with its reason; the table is written after each trainer.
With two GPUs some trainers train on both. Noise is trained on: there is nothing to learn, and no data are needed.
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
sys.path[:0] = [str(TESTS), str(TESTS / "gpu"), str(TESTS / "training")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code says whether anything failed."""
    import torch
    from every_trainer import every_trainer
    from gpu_report import run

    from nnunetv2_mmkd.benchmark.plan import synthetic_plan
    from nnunetv2_mmkd.benchmark.run import check_patch
    from nnunetv2_mmkd.errors import InputError

    parser = argparse.ArgumentParser(
        "python tests/gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [each.__name__ for each in every_trainer()]
    parser.add_argument("-tr", nargs="+", default=known, metavar="NAME", help="trainers (default: all)")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--minutes", type=float, default=10, help="in all (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=20, help="steps of each (default: %(default)s)")
    parser.add_argument("--patch", type=int, default=128, help="voxels an edge (default: %(default)s)")
    parser.add_argument("--features_scale", type=float, default=1.0, help="factor on feature maps, for a dry run")
    parser.add_argument("-o", type=Path, metavar="FILE", help="also write the table there, after each trainer")
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; a dry run: --device cpu --patch 64 --features_scale 0.0625")
    if args.iterations < 1:
        parser.error(f"--iterations {args.iterations}: expected 1 or more")
    try:
        plan = synthetic_plan(features_scale=args.features_scale).resized([args.patch] * 3)
        check_patch(plan)
    except InputError as error:
        parser.error(str(error))
    device = torch.device("cuda", 0) if args.device == "cuda" else torch.device("cpu")
    _, text = run(plan, args.tr, device, args.minutes, args.iterations, args.o)
    sys.stdout.write(text)
    return int("failed" in text)


if __name__ == "__main__":
    sys.exit(main())
