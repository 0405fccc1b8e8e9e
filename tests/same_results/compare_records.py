"""Compares two records."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SHOWN = 200
"""So many differences are shown in full; of the others only the names."""


def compare(before: Path, after: Path) -> int:
    """Print every difference by name.

    Args:
        before: JSON file.
        after: JSON file.

    Returns:
        1 if there is a difference in the parts that both have, or nothing that both have.
    """
    first, second = (json.loads(file.read_text(encoding="utf-8")) for file in (before, after))
    for key in sorted((first["about"].keys() | second["about"].keys()) - {"seconds", "CPU seconds"}):
        values = first["about"].get(key), second["about"].get(key)
        if values[0] != values[1]:
            print(f"note: {key}: {values[0]} before, {values[1]} after")
    alone = sorted(first["parts"].keys() ^ second["parts"].keys())
    if alone:
        print(f"note: in one of the files only, and not compared: {', '.join(alone)}")
    parts = [name for name in first["parts"] if name in second["parts"]]
    old, new = ({(part, name): value for part in parts for name, value in each["parts"][part].items()}
                for each in (first, second))  # fmt: skip
    keys = list(dict.fromkeys([*old, *new]))
    different = [key for key in keys if key not in old or key not in new or old[key] != new[key]]
    for number, key in enumerate(different):
        if key not in new:
            print(f"- {key[1]}: only before")
        elif key not in old:
            print(f"+ {key[1]}: only after")
        else:
            print(f"! {key[1]}")
            for line in explain(old[key], new[key]) if number < SHOWN else ():
                print(f"      {line}")
    sections = ", ".join(dict.fromkeys(part.partition("/")[0] for part in parts))
    if different or not keys:
        print(f"{len(different)} of {len(keys)} values differ ({sections or 'nothing in common'})")
        return 1
    print(f"all {len(keys)} values are equal ({sections})")
    return 0


def explain(before: Any, after: Any) -> Iterator[str]:
    """Lines that say how two values differ."""
    if isinstance(before, list) and isinstance(after, list) and len(before) != len(after):
        yield f"{len(before)} entries before, {len(after)} after"
        yield from changed_lines(list(map(str, before)), list(map(str, after)))
    elif isinstance(before, list) and isinstance(after, list):
        changed = [n for n, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]]
        if changed:
            far = [distance(before[n], after[n]) for n in changed]
            numbers = [each for each in far if each is not None]
            largest = f", largest relative difference {max(numbers):.3g}" if numbers else ""
            yield f"{len(changed)} of {len(before)} entries differ, the first is number {changed[0]}{largest}"
            yield f"{shown(before[changed[0]])} before, {shown(after[changed[0]])} after"
    elif isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
        yield from changed_lines(before.splitlines(), after.splitlines())
    else:
        far_apart = distance(before, after)
        more = "" if far_apart is None else f", relative difference {far_apart:.3g}"
        yield f"{shown(before)} before, {shown(after)} after{more}"


def changed_lines(before: Sequence[str], after: Sequence[str], most: int = 10) -> Iterator[str]:
    """The first lines that differ."""
    lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
    yield from (line[:200] for line in lines[:most])
    if len(lines) > most:
        yield f"... and {len(lines) - most} more lines"


def number_of(value: Any) -> float | None:
    """A number from what :func:`exact` made of it."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and re.fullmatch(r"-?0x[01]\.[0-9a-f]+p[+-]\d+", value):
        return float.fromhex(value)
    return None


def distance(before: Any, after: Any) -> float | None:
    """Relative difference of two numbers; None for anything else."""
    first, second = number_of(before), number_of(after)
    if first is None or second is None:
        return None
    return abs(first - second) / max(abs(first), abs(second), 1e-300)


def shown(value: Any) -> str:
    """A value for the eye."""
    number = number_of(value)
    return f"{number!r}" if number is not None and isinstance(value, str) else repr(value)[:160]
