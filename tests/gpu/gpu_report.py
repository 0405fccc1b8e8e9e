"""Trials of many trainers within a time, as a table."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from gpu_trial import STOCK, Trial, rank, try_trainer

from nnunetv2_mmkd.benchmark.plan import Plan
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
