"""What the trainers' files say about themselves, read as text: neither torch nor nnU-Net is imported.

A trainer file may have the constants ``PAPER``, ``PAPER_URL`` and ``STATUS``; a class may have its own of them. The
first line of a class's docstring is its summary.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_mmkd.errors import InputError

STATUSES = {
    "recommended": "compared, and what to take if nothing speaks for another",
    "compared": "trained and compared with the control on 12 real BraTS 2018 cases, at 600 iterations or more",
    "compared briefly": "the same with 300 iterations, under unequal missing rates",
    "tested": "by the test suite alone",
}
"""What ``STATUS`` can be. None says that a trainer was trained at nnU-Net's full length."""


@dataclass(frozen=True)
class TrainerEntry:
    """A trainer.

    Attributes:
        name: of the class.
        summary: first line of its docstring.
        paper: authors, method and venue; empty: no paper.
        url: of the paper.
        status: how far it was tried, one of :data:`STATUSES`; empty: its author does not say.
        file: name of its file.
    """

    name: str
    summary: str
    paper: str
    url: str
    status: str
    file: str


def trainers_of(folder: str | Path) -> tuple[TrainerEntry, ...]:
    """The trainers of a folder, by file name and then in the order of the file.

    Raises:
        InputError: a file is not Python.
    """
    return tuple(entry for file in sorted(Path(folder).glob("*.py")) for entry in _trainers_in(file))


def _trainers_in(file: Path) -> list[TrainerEntry]:
    try:
        module = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{file} cannot be read as Python ({error}); mend it, or take it out of its folder") from error
    shared = _constants(module.body)
    entries = []
    for node in module.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("nnUNetTrainer"):
            known = {**shared, **_constants(node.body)}
            paper, url, status = (known.get(name, "") for name in ("PAPER", "PAPER_URL", "STATUS"))
            summary = (ast.get_docstring(node) or "").partition("\n")[0]
            entries.append(TrainerEntry(node.name, summary, paper, url, status, file.name))
    return entries


def _constants(body: Iterable[ast.stmt]) -> dict[str, str]:
    return {
        target.id: node.value.value
        for node in body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
