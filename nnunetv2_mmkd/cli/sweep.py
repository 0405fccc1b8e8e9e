"""``mmkd sweep``: methods x folds x seeds x missing rates from one file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.paths import TRUST_HELP, set_ext_trainer, trusting

HELP = "methods x folds x seeds x missing rates from one file, here or on Slurm, ending in tables"

DESCRIPTION = """\
Train and evaluate what a small YAML file asks for, each training in a process of its own, and write the tables: all
methods over all subsets, means over seeds, the comparisons of `mmkd compare` with intervals over patients and over
seeds. Everything is checked before the first training. Called again it goes on where it was stopped: what is finished
is left alone, a training goes on from its last checkpoint. A failed task does not stop the others; the exit code is 1
then. The file's keys: dataset, configuration, trainers (MetaKD, or MetaKD_50epochs with a length of its own); plans,
device, folds, seeds, length (epochs, iterations), missing_rates (complete; tag, rates, seed), evaluation (metrics,
subsets, disable_tta, ...), compare (pairs, metrics, regions, patients), slurm (submitit's parameters). An example:
results_templates/sweep_example.yaml.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd sweep``."""
    parser = arguments.Parser("mmkd sweep", description=DESCRIPTION)
    parser.add_argument("file", type=arguments.file, metavar="FILE", help="what to do")
    parser.add_argument(
        "-o",
        type=arguments.output_folder,
        required=True,
        metavar="FOLDER",
        help="output: tables, evaluations, logs (jobs/*/log.txt)",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "slurm", "submitit"),
        default="local",
        help="local (default): processes here; slurm: a job array through submitit, pip install "
        "'nnunetv2-mmkd[cluster]'; submitit: the same with submitit's local executor, all at once",
    )
    parser.add_argument(
        "-np",
        type=arguments.processes,
        default=1,
        metavar="N",
        help="with local: trainings at a time; several GPUs are shared out",
    )
    parser.add_argument("--dry_run", action="store_true", help="check everything and list the tasks; write nothing")
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    parser.add_argument("--disable_progress_bar", action="store_true", help="no progress bar")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    args = build_parser().parse_args(argv)
    set_ext_trainer()

    from nnunetv2_mmkd.workflows.sweep.run import SweepSettings, run_sweep

    settings = SweepSettings(args.engine, args.np, args.dry_run, not args.disable_progress_bar)
    with trusting(args.trust):  # the tasks inherit it
        outcome = run_sweep(args.file, args.o, settings)
    sys.stdout.write("\n".join(outcome.lines) + "\n")
    for problem in outcome.problems:
        sys.stderr.write(f"mmkd sweep: {problem}\n")
    return 1 if outcome.problems else 0
