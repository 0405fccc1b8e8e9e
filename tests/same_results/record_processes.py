"""Commands in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

from same_results.converted_phantoms import conversion_home
from same_results.tried_trainings import META_KD
from same_results.value_record import INTERNAL
from same_results.workbench import HOW, QUICK, Bench


def record_processes(bench: Bench) -> None:
    """The command line in processes of its own that start workers: what is handed to them can be pickled."""
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None

    def one_core() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})

    def run(name: str, *arguments: object) -> None:
        command = [sys.executable, "-m", "nnunetv2_mmkd.cli.main", *map(str, arguments)]
        done = subprocess.run(command, stdout=sys.stdout, stderr=sys.stderr, preexec_fn=one_core, cwd=bench.root)
        bench.record.add(f"{name}/exit code", done.returncode)
        if done.returncode:
            bench.record.problems.append(f"{name}: exit code {done.returncode}")

    folders = conversion_home(bench)
    with bench.part("processes/convert"), bench.variables(**folders):
        source = bench.new("phantom")
        run("processes/phantom", "phantom", source, "-n", 3, "--size", 24, "-np", 2, "--disable_progress_bar")
        run("processes/convert", "convert", "brats2018", source, "-d", 681, "-np", 2, "--disable_progress_bar")
        (dataset,) = folders["nnUNet_raw"].glob("Dataset681_*")
        bench.record.add_folder("processes/convert", dataset)
    with bench.part("processes/evaluate"):
        model, out = bench.copy_of(META_KD), bench.new("evaluated")
        what = ["-m", model, "-f", 0, "--metrics", "dice", "--subsets", "singles", "-np", 2, "-nps", 1]
        run("processes/evaluate", "evaluate", "-o", out, *what, *HOW, *QUICK)
        bench.record.add_folder("processes/evaluate", out, INTERNAL)
    with bench.part("processes/predict"):
        images, out = bench.images(META_KD, "case_2", "case_3", without={"case_3": [1]}), bench.new("predicted")
        what = ["-m", model, "-f", 0, "-i", images, "-o", out, "-npp", 1, "-nps", 1, "--save_probabilities"]
        run("processes/predict", "predict", *what, *HOW, *QUICK)
        bench.record.add_folder("processes/predict", out, ["dataset.json"])
