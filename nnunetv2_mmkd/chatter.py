"""What other packages say without need: silenced by its exact words, so that nothing else is lost."""

from __future__ import annotations

import os
import warnings

MESSAGES = ("`torch.jit.interface` is deprecated", "`torch.jit.script` is deprecated")
"""Beginnings of warnings that concern nobody here: packages that PyTorch's next version breaks."""


def silence_warnings() -> None:
    """Ignore these warnings, in worker processes, too."""
    for message in MESSAGES:
        warnings.filterwarnings("ignore", message=message)
    told = [rule for rule in os.environ.get("PYTHONWARNINGS", "").split(",") if rule]
    rules = [f"ignore:{message}" for message in MESSAGES]
    os.environ["PYTHONWARNINGS"] = ",".join(dict.fromkeys([*told, *rules]))
