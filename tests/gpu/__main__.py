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
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("nnUNet_def_n_proc", "1")
os.environ.setdefault("nnUNet_n_proc_DA", "0")
TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "gpu"), str(TESTS / "training")]

import torch
from every_trainer import every_trainer
from trial import STOCK, Trial, rank, try_trainer

from nnunetv2_mmkd.benchmark.plan import Plan, synthetic_plan
from nnunetv2_mmkd.benchmark.run import check_patch
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import write_text

GIB = 2**30
ON_TWO_GPUS = ["nnUNetTrainerModalityDropout", "nnUNetTrainerMetaKD", "nnUNetTrainerMSTKDNet", "nnUNetTrainerPMR"]
NO_TIME = "not run: no time left"


def table(trials: Sequence[Trial], title: str) -> str:
    """The trials as Markdown; ratios are to the stock trainer, compiled or not as the row is."""
    stock = {each.compiled: each for each in trials if each.trainer == STOCK}
    lines = [
        title,
        "",
        "| trainer | compiled | s / step | x stock | GiB | x stock | checks |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in trials:
        base = stock.get(each.compiled)
        cells = ["-"] * 4
        if each.seconds is not None:
            cells[0] = f"{each.seconds:.3f}"
            cells[1] = f"{each.seconds / base.seconds:.2f}" if base and base.seconds else "-"
        if each.peak is not None:
            cells[2] = f"{each.peak / GIB:.1f}"
            cells[3] = f"{each.peak / base.peak:.2f}" if base and base.peak else "-"
        checks = "all passed" if each.trainer != STOCK else "-"
        lines.append(
            f"| {each.trainer} | {'yes' if each.compiled else 'no'} | {' | '.join(cells)} | {each.note or checks} |"
        )
    return "\n".join(lines) + "\n"


def two_ranks(plan: Plan, names: Sequence[str]) -> str:
    """Two processes with a GPU each; what came of it."""
    if torch.cuda.device_count() < 2:
        return f"not run: {torch.cuda.device_count()} GPU"
    with tempfile.TemporaryDirectory() as folder:
        try:
            torch.multiprocessing.spawn(rank, (2, list(names), plan, f"{folder}/store"), nprocs=2)
        except Exception as error:
            return f"failed: {' '.join(str(error).split())[-300:]}"
    return f"the same weights on both after 3 steps: {', '.join(names)}"


def run(
    plan: Plan, names: Sequence[str], device: torch.device, minutes: float, iterations: int, output: Path | None = None
) -> tuple[list[Trial], str]:
    """Try trainers, the stock one first.

    Args:
        plan: what they train on.
        names: of the trainers.
        device: where.
        minutes: no trial is begun that may not be over by then.
        iterations: steps of each.
        output: file for the table, written after each trial.

    Returns:
        the trials, and the table.
    """
    end, longest = time.monotonic() + 60 * minutes, {False: 0.0, True: 0.0}
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    patch = " x ".join(map(str, plan.patch))
    title = f"{card}, PyTorch {torch.__version__}, patch {patch}, batch {plan.batch_size}, {iterations} steps"
    trials: list[Trial] = []
    for compiled in (False, True) if device.type == "cuda" else (False,):  # nnU-Net compiles on a GPU only
        for name in (STOCK, *names):
            begun = time.monotonic()
            if begun + longest[compiled] > end:
                trials.append(Trial(name, compiled, note=NO_TIME))
                continue
            trials.append(try_trainer(name, plan, device, compiled, iterations))
            longest[compiled] = max(longest[compiled], time.monotonic() - begun)
            sys.stderr.write(f"{trials[-1]}\n")
            if output is not None:
                write_text(output, table(trials, title))
    ranks = two_ranks(plan, ON_TWO_GPUS) if time.monotonic() < end else NO_TIME
    text = f"{table(trials, title)}\nTwo ranks: {ranks}\n"
    if output is not None:
        write_text(output, text)
    return trials, text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code says whether anything failed."""
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
