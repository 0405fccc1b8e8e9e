"""Entry point of ``mmkd``: finds the verb's module and turns exceptions into exit codes.

A verb is a module of this package with ``HELP`` (one line) and ``main(argv) -> int``. It is imported only when it is
asked for, so that ``mmkd -h`` and ``mmkd env`` need neither torch nor nnU-Net.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import sys
import traceback
from collections.abc import Sequence

from nnunetv2_mmkd import __version__
from nnunetv2_mmkd.chatter import silence_warnings
from nnunetv2_mmkd.cli.last_resort import plain_output, unexpected
from nnunetv2_mmkd.errors import InputError, choices, one_line
from nnunetv2_mmkd.paths import check_variables
from nnunetv2_mmkd.workers import TERMINATED, end_with_starter

VERBS: dict[str, str] = {
    "demo": "see it work in minutes, without data: phantoms, training, prediction with and without T1ce",
    "info": "versions, devices, trainers with paper and status, endings, editions, metrics",
    "env": "print the export line that lets the plain nnUNetv2_train and nnUNetv2_predict find our trainers",
    "phantom": "write phantoms, of brain tumours or infarcts, as the unpacked archives of any edition",
    "convert": "turn a challenge's folder into nnU-Net raw format; cases with missing modalities are welcome",
    "complete": "give an nnU-Net raw data set zero images for those that do not exist, and declare them missing",
    "align": "bring the sequences of each exam onto the grid of one of them, rigidly; the way back is kept",
    "preprocess": "as align, and into an atlas's space, without the skull (extra: preprocessing)",
    "splits": "write splits_final.json from the literature's case lists, by patients or by institutions",
    "rates": "write a missing-rate table: by rates and a seed, from the literature's CSV, or by institution",
    "train": "nnUNetv2_train with its own flags, our trainers found",
    "predict": "nnUNetv2_predict with its own flags, and --missing / --available",
    "evaluate": "all subsets of the modalities: scores, the papers' tables, pictures, performance card",
    "compare": "two methods of a table of results: differences, intervals, tests",
    "figure": "the papers' figures of finished trainings: importance, preference, elections, curves over alpha",
    "sweep": "methods x folds x seeds x missing rates from one file, here or on Slurm, ending in tables",
    "card": "write a model card for the Hugging Face Hub from what a model's folder knows",
    "submit": "turn predictions into a challenge's submission files",
    "benchmark": "cost of a trainer against the stock trainer on the same plan",
    "avmnist": "MetaKD's table of Audiovision-MNIST, reproduced alongside the published one",
    "adni": "classify subjects by tables and volumes of which any may be missing, as in ADNI",
}


LONGEST_MESSAGE = 4000
"""Characters; some errors list all offenders."""

if multiprocessing.current_process().name != "MainProcess" and (
    __name__ == "__mp_main__" or os.path.basename(sys.argv[0]).startswith("mmkd")
):  # a worker that nnU-Net has spawned: it imports the main module of the command first, and this one with it
    end_with_starter()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (0 done, 1 bad input or a failure, 2 wrong usage, 130 interrupted).

    Whatever goes wrong is said in one line. ``--debug``, or ``MMKD_DEBUG=1``, shows the traceback, too.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args or os.environ.get("MMKD_DEBUG", "") not in ("", "0")
    args = [arg for arg in args if arg != "--debug"]
    name = f"mmkd {args[0]}" if args and args[0] in VERBS else "mmkd"
    try:
        with plain_output():
            code = _run(args)
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # the reader of our output has gone, e.g. `mmkd convert --list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as end:
        if end.code == TERMINATED:
            sys.stderr.write(f"{name}: ended by SIGTERM\n")
        raise
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted\n")
        return 130
    except InputError as error:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"{name}: error: {one_line(error, LONGEST_MESSAGE)}\n")
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"{name}: error: {unexpected(error, args)}\n")
        return 1


def _run(args: Sequence[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0 if args else 2
    if args[0] == "--version":
        sys.stdout.write(f"mmkd {__version__}\n")
        return 0
    verb = args[0]
    if verb not in VERBS:
        sys.stderr.write(f"mmkd: unknown verb {one_line(verb, 60)!r}: choose from {choices(verb, VERBS)}\n")
        return 2
    if verb != "env":  # which runs in every new shell
        check_variables()
    silence_warnings()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("nnunetv2_mmkd").setLevel(logging.INFO)
    return int(importlib.import_module(f"nnunetv2_mmkd.cli.{verb}").main(args[1:]) or 0)


def usage() -> str:
    """The text of ``mmkd -h``."""
    width = max(map(len, VERBS))
    lines = "\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items())
    more = "mmkd VERB -h for a verb's own options; --debug shows tracebacks"
    return f"usage: mmkd VERB [options]      ({more})\n\n{lines}\n"


def train_alias() -> int:
    """``nnUNetv2_train_mmkd``: the same as ``mmkd train``."""
    return main(["train", *sys.argv[1:]])


def predict_alias() -> int:
    """``nnUNetv2_predict_mmkd``: the same as ``mmkd predict``."""
    return main(["predict", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
