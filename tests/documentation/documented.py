"""What README and documentation tell the reader to type: blocks of code, and the commands in them."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "results_templates" / "README.md",
    *sorted((ROOT / "documentation").rglob("*.md")),
)
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: relative to the repository.
        language: as fenced, e.g. ``"bash"``.
        text: without indentation.
    """

    page: str
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the first line names in a comment, if it does."""
        named = re.match(r"# ([\w./-]+\.\w+)\n", self.text)
        return named[1] if named else None

    @property
    def commands(self) -> list[list[str]]:
        """The commands of a bash block, split into words; comments and continuation lines resolved."""
        joined = self.text.replace("\\\n", " ")
        parts = [part for line in joined.splitlines() for part in line.split("&&")]
        return [words for part in parts if (words := shlex.split(part, comments=True))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [Block(name, match["language"], textwrap.dedent(match["text"])) for match in FENCE.finditer(text)]


def all_blocks(language: str) -> list[Block]:
    """The blocks of a language in all pages."""
    return [block for page in PAGES for block in blocks(page) if block.language == language]


class Parsed(BaseException):
    """The parser took the arguments; no handler of exceptions stops it."""


@contextmanager
def only_parsing() -> Iterator[None]:
    """Commands end by :class:`Parsed` when their parser has taken all arguments."""
    names = ("parse_args", "parse_intermixed_args", "parse_known_args")
    originals = {name: getattr(argparse.ArgumentParser, name) for name in names}
    inside: list[str] = []

    def replacement(name: str) -> Callable[..., Any]:
        def parse(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> Any:
            inside.append(name)
            try:
                result = originals[name](self, *args, **kwargs)
            finally:
                inside.pop()
            if inside:
                return result
            if name == "parse_known_args":  # nnU-Net passes over what it does not know
                assert not result[1], f"{result[1]}: no such arguments"
            raise Parsed

        return parse

    for name in names:
        setattr(argparse.ArgumentParser, name, replacement(name))
    try:
        yield
    finally:
        for name in names:
            setattr(argparse.ArgumentParser, name, originals[name])


def run(words: list[str]) -> None:
    """Run ``mmkd ...`` or ``nnUNetv2_...`` in this process.

    Raises:
        AssertionError: it failed.
    """
    program, arguments = words[0], words[1:]
    if program == "mmkd":
        from nnunetv2_mmkd.cli.main import main

        assert main(arguments) == 0, shlex.join(words)
        return
    with called_as(words):
        assert not nnunet_command(program)(), shlex.join(words)


def parse(words: list[str]) -> None:
    """Hand the arguments of ``mmkd ...`` or ``nnUNetv2_...`` to its own parser, and do nothing else.

    Raises:
        SystemExit: the parser refuses them.
    """
    program, arguments = words[0], words[1:]
    if words[:2] == ["mmkd", "train"]:
        program, arguments = "nnUNetv2_train", words[2:]
    try:
        with only_parsing(), called_as([program, *arguments]):
            if program == "mmkd":
                importlib.import_module(f"nnunetv2_mmkd.cli.{arguments[0]}").main(arguments[1:])
            else:
                nnunet_command(program)()
    except Parsed:
        return
    raise AssertionError(f"{shlex.join(words)}: nothing was parsed")


def nnunet_command(name: str) -> Callable[[], object]:
    """The function behind a command of nnU-Net."""
    (found,) = entry_points(group="console_scripts", name=name)
    function: Callable[[], object] = found.load()
    return function


@contextmanager
def called_as(words: list[str]) -> Iterator[None]:
    """``sys.argv`` for a while."""
    before = sys.argv
    sys.argv = words
    try:
        yield
    finally:
        sys.argv = before
