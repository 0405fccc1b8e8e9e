"""Records what the importable package does."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from same_results.record_conversion import record_convert, record_splits
from same_results.record_other_commands import record_adni, record_benchmark
from same_results.record_predictions import record_evaluate, record_predict
from same_results.record_processes import record_processes
from same_results.record_submissions import record_submit
from same_results.record_tables import record_tables
from same_results.record_trainers import keep_models, record_late, record_saved, record_train, record_trainers
from same_results.value_record import Record
from same_results.workbench import Bench, cpu_seconds

import nnunetv2_mmkd

SECTIONS: dict[str, Callable[[Bench], None]] = {
    "trainers": record_trainers,
    "late": record_late,
    "saved": record_saved,
    "convert": record_convert,
    "splits": record_splits,
    "submit": record_submit,
    "tables": record_tables,
    "evaluate": record_evaluate,
    "predict": record_predict,
    "train": record_train,
    "processes": record_processes,
    "adni": record_adni,
    "benchmark": record_benchmark,
}


def record_package(out: Path, only: Sequence[str], models: Path | None, keep: Path | None, match: str) -> int:
    """Record what the importable package does.

    Args:
        out: JSON file.
        only: sections.
        models: folder of models of another commit; made if it is not there.
        keep: keep the temporary folder, with the log, here.
        match: of the long sections only parts whose names match.

    Returns:
        0, or 1 if something failed that should not.
    """
    began = time.monotonic()
    terminal = sys.stderr
    with contextlib.ExitStack() as stack:
        root = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="same_results_")))
        root.mkdir(parents=True, exist_ok=True)
        found = Record(root)
        log = stack.enter_context((root / "log.txt").open("w", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(log))
        stack.enter_context(contextlib.redirect_stderr(log))

        def say(text: str) -> None:
            print(text, file=terminal, flush=True)

        stack.enter_context(quiet_host())
        where = about()
        say(f"package: {where['package']}")
        bench = Bench(root, found, say, models, match)
        for section in only:
            print(f"\n======== {section}", flush=True)
            SECTIONS[section](bench)
        if models is not None and not models.exists() and not match:
            keep_models(bench, models)
        where["seconds"], where["CPU seconds"] = round(time.monotonic() - began), round(cpu_seconds())
    content = {"about": where, "parts": found.parts}
    number = sum(map(len, found.parts.values()))
    out.write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")
    for problem in found.problems:
        print(f"PROBLEM: {problem}", file=terminal)
    print(f"{out}: {number} values, {len(found.problems)} problems", file=terminal)
    print(f"{where['seconds']} s, {where['CPU seconds']} s on the CPU", file=terminal)
    return 1 if found.problems else 0


@contextlib.contextmanager
def quiet_host() -> Iterator[None]:
    """One thread whatever is asked for, and pictures without content, which take longer than everything else."""
    torch.set_num_threads(1)
    before = torch.set_num_threads, Figure.savefig

    def savefig(self: Figure, fname: Any, *_: Any, **__: Any) -> None:
        if isinstance(fname, (str, os.PathLike)):
            Path(fname).write_bytes(b"")

    torch.set_num_threads, Figure.savefig = lambda _: None, savefig  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        torch.set_num_threads, Figure.savefig = before  # type: ignore[method-assign]


def about() -> dict[str, Any]:
    """What may explain a difference, and is none itself."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scipy", "nnunetv2", "pandas")}
    return {"package": str(Path(str(nnunetv2_mmkd.__file__)).parent), "machine": platform.machine(), **versions}
