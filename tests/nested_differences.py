"""Where nested structures differ; needs no pytest, as ``python tests/gpu`` has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def differences(first: Any, second: Any, where: str = "") -> list[str]:
    """Where two nested structures differ by a bit; NaN equals NaN."""
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first.nan_to_num(1e30), second.nan_to_num(1e30)) else [where]
    if isinstance(first, Mapping):
        if first.keys() != second.keys():
            return [f"{where}: {sorted(map(str, first.keys() ^ second.keys()))}"]
        return [line for key in first for line in differences(first[key], second[key], f"{where}/{key}")]
    if isinstance(first, (list, tuple)):
        if len(first) != len(second):
            return [f"{where}: {len(first)} and {len(second)} entries"]
        return [
            line
            for i, pair in enumerate(zip(first, second, strict=True))
            for line in differences(*pair, f"{where}/{i}")
        ]
    equal = np.array_equal(first, second, equal_nan=isinstance(first, (float, np.floating)))
    return [] if equal else [f"{where}: {first} and {second}"]
