"""What the verbs' parsers share: errors on one line, and types of arguments that refuse a bad value before any work."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from nnunetv2_mmkd.errors import InputError, one_line
from nnunetv2_mmkd.files import LONGEST_NAME
from nnunetv2_mmkd.output_folders import check_not_nnunets, check_overwrites_nothing_else

LARGEST = 10**9
"""No count is larger."""
LARGEST_SEED = 2**63 - 1
MOST_PROCESSES = 1024
_LONGEST_SHOWN = 300


class Parser(argparse.ArgumentParser):
    """Errors are one line; ``--dry-run`` is ``--dry_run``; of other misspelt options the nearest is said."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse does it."""
        given = sys.argv[1:] if args is None else args
        parsed, unknown = self.parse_known_args([self._underscored(each) for each in given], namespace)
        if unknown:
            option = next((each for each in unknown if each.startswith("-")), "").partition("=")[0]
            near = difflib.get_close_matches(option, self._option_string_actions, n=1)
            self.error(f"unrecognized arguments: {' '.join(unknown)}" + (f"; did you mean {near[0]}?" if near else ""))
        return parsed

    def _underscored(self, text: str) -> str:
        option, equals, value = text.partition("=")
        name = f"--{option[2:].replace('-', '_')}"
        return name + equals + value if option.startswith("--") and name in self._option_string_actions else text

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and leave with 2."""
        self.exit(2, f"{self.prog}: error: {one_line(message)} (options: {self.prog} -h)\n")


def whole(least: int, most: int = LARGEST) -> Callable[[str], int]:
    """The type of a whole number within bounds.

    >>> whole(0, 9)("7")
    7
    """

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            bounds = f"from {least} on" if most == LARGEST else f"from {least} to {most}"
            raise _bad(text, f"a whole number {bounds}" if value is None or value < least else f"at most {most}")
        return value

    return convert


def number(
    least: float | None = None, most: float = LARGEST, above: float | None = None, below: float | None = None
) -> Callable[[str], float]:
    """The type of a finite number within bounds; ``above`` and ``below`` are not allowed themselves.

    >>> number(above=0, most=1)("0.5")
    0.5
    """
    bounds = {"above": above, "below": below, "at least": least, "at most": most}
    words = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
    if most == LARGEST:
        words.pop()

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        good = math.isfinite(value) and value <= most and (least is None or value >= least)
        if not good or (above is not None and value <= above) or (below is not None and value >= below):
            raise _bad(text, " ".join(["a number", ", ".join(words)]).strip())
        return value

    return convert


positive = whole(1)
seed = whole(0, LARGEST_SEED)
dataset_id = whole(1, 999)
workers = whole(0, MOST_PROCESSES)
"""Worker processes; 0: this process does the work."""
processes = whole(1, MOST_PROCESSES)
window_step = number(above=0, most=1)
"""Step of the sliding window as a share of the patch."""


def fold(text: str) -> int | str:
    """The type of a fold: a number or ``"all"``."""
    return text if text == "all" else _fold(text)


def _fold(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 5):
        raise _bad(text, "a number from 0 on, or all")
    return int(text)


def path(text: str) -> Path:
    """The type of a path that may or may not exist."""
    if not text.strip() or "\0" in text:
        raise _bad(text, "a path")
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in Path(text).parts) or len(os.fsencode(text)) > 4000:
        raise _bad(text, f"names of at most {LONGEST_NAME} bytes in a path")
    return Path(text).expanduser()  # shells leave --out=~/x as it is


def folder(text: str) -> Path:
    """The type of a folder: it may be absent, but it is no file."""
    found = path(text)
    if os.path.lexists(found) and not os.path.isdir(found):
        raise _bad(
            text, "a folder, and this is " + ("a file" if os.path.exists(found) else "a link that leads nowhere")
        )
    return found


def output_folder(text: str) -> Path:
    """The type of a folder for output: as :func:`folder`, and not what nnU-Net keeps."""
    return _checked(folder(text), check_not_nnunets)


def file(text: str) -> Path:
    """The type of a file: it may be absent, but it is no folder, pipe or device."""
    found = path(text)
    if os.path.exists(found) and not os.path.isfile(found):
        raise _bad(text, "a file, and this is " + ("a folder" if os.path.isdir(found) else "a pipe or device"))
    return found


def output_file(text: str) -> Path:
    """The type of a file for output: as :func:`file`, and nothing that nnU-Net keeps."""
    return _checked(file(text), check_overwrites_nothing_else)


def _checked(found: Path, check: Callable[[Path], None]) -> Path:
    try:
        check(found)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return found


def name(text: str) -> str:
    """The type of a name that becomes, or becomes a part of, the name of a file."""
    if not text.strip() or len(os.fsencode(text)) > 100 or not text.isprintable():
        raise _bad(text, "a name of at most 100 printable characters")
    return text


def file_name(text: str) -> str:
    """The type of the name of a file in a folder that is given elsewhere."""
    if "/" in name(text) or text in (".", ".."):
        raise _bad(text, "the name of a file, without a folder")
    return text


def _bad(text: str, expected: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{one_line(text, _LONGEST_SHOWN)!r}: expected {expected}")
