"""What other packages say without need: silenced by its exact words, so that nothing else is lost."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import TextIOBase
from typing import Any

WARNINGS = ("`torch.jit.interface` is deprecated", "`torch.jit.script` is deprecated")
"""Beginnings of warnings that concern nobody here: of packages that nnU-Net imports, about PyTorch's next version."""

LINES = re.compile(
    r"Searching (for class|in external trainer paths|in:) |  Inspecting module: |Found class \S+ in "
    r"|Trainer \S+ not found in nnunetv2|Using trainer \S+ from: |GPU prediction completed|Prediction done$"
    r"|perform_everything_on_device(: |=True is only supported)|sending off prediction to background worker"
    r"|Predicting .*:$|use_folds is None, attempting"
    r"|There are \d+ cases (in the source folder|that I would like to predict)$|I am processing \d+ out of \d+ "
)
"""Beginnings of lines that nnU-Net prints about its own affairs."""


def silence_warnings() -> None:
    """Ignore :data:`WARNINGS`, in worker processes, too."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    told = [rule for rule in os.environ.get("PYTHONWARNINGS", "").split(",") if rule]
    rules = [f"ignore:{message}" for message in WARNINGS]
    os.environ["PYTHONWARNINGS"] = ",".join(dict.fromkeys([*told, *rules]))


@contextmanager
def without_chatter() -> Iterator[None]:
    """Leave :data:`LINES` out of standard output, while the context lasts."""
    sieve = _Sieve(sys.stdout)
    with redirect_stdout(sieve):
        try:
            yield
        finally:
            sieve.end()


class _Sieve(TextIOBase):
    """Hands on whole lines but those of :data:`LINES`, and the empty ones before them."""

    def __init__(self, sink: Any) -> None:
        self.sink, self.begun, self.blank = sink, "", ""

    def write(self, text: str) -> int:
        *lines, self.begun = (self.begun + text).split("\n")
        for line in lines:
            if LINES.match(line):
                self.blank = ""
            elif not line:
                self.blank += "\n"
            else:
                self.sink.write(f"{self.blank}{line}\n")
                self.blank = ""
        return len(text)

    def flush(self) -> None:
        self.sink.flush()

    def fileno(self) -> int:
        result: int = self.sink.fileno()
        return result

    def isatty(self) -> bool:
        return bool(self.sink.isatty())

    def end(self) -> None:
        """Hand on what has no end of line yet."""
        self.sink.write(self.blank + self.begun)
        self.blank = self.begun = ""
