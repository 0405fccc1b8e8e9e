"""What the trainers' files say about themselves, read as text: neither torch nor nnU-Net is imported.

A trainer file may have the constants ``PAPER``, ``PAPER_URL`` and ``STATUS``; a class may have its own of them. The
first line of a class's docstring is its summary; its table ``endings`` says what its name can end in.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.paths import ext_trainer_value

STATUSES = {
    "recommended": "compared, and what to take if nothing speaks for another",
    "compared": "trained and compared with the control on 12 real BraTS 2018 cases, at 600 iterations or more",
    "compared briefly": "compared on all of them with 300 iterations, under unequal missing rates",
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
        endings: what its name can end in, and what that does; its own and those of its bases.
    """

    name: str
    summary: str
    paper: str
    url: str
    status: str
    file: str
    endings: Mapping[str, str] = field(default_factory=dict)


def trainers_of(folder: str | Path) -> tuple[TrainerEntry, ...]:
    """The trainers of a folder, by file name and then in the order of the file.

    Raises:
        InputError: a file is not Python.
    """
    return tuple(entry for file in sorted(Path(folder).glob("*.py")) for entry in _trainers_in(file))


def known_endings() -> dict[str, tuple[str, ...]]:
    """Every ending of this package's trainers and of the user's own, and the trainers that have it.

    Raises:
        InputError: a file of the user's own trainers is not Python.
    """
    owners: dict[str, tuple[str, ...]] = {}
    for folder in ext_trainer_value().split(os.pathsep):
        for entry in trainers_of(folder):
            for ending in entry.endings:
                owners[ending] = (*owners.get(ending, ()), entry.name)
    return owners


def endings_with_owners(entries: Iterable[TrainerEntry]) -> list[tuple[str, str, tuple[str, ...]]]:
    """``(ending, what it does, trainers)`` of some trainers; those that most have first."""
    entries = list(entries)
    owners: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        for ending, text in entry.endings.items():
            owners.setdefault((ending, text), []).append(entry.name)
    rows = [(ending, text, tuple(names)) for (ending, text), names in owners.items()]
    return sorted(rows, key=lambda row: 2 * len(row[2]) < len(entries))


def owners_text(owners: Iterable[str], entries: Iterable[TrainerEntry]) -> str:
    """Names of trainers without their common beginning; of most trainers, those that are not among them."""
    owners = list(owners)
    others = [entry.name for entry in entries if entry.name not in owners]
    names, before = (others, "all but ") if len(others) < len(owners) else (owners, "")
    return before + ", ".join(name.removeprefix("nnUNetTrainer") for name in names)


def _trainers_in(file: Path) -> list[TrainerEntry]:
    module = _parsed(file)
    shared = _constants(module.body)
    entries = []
    for node in module.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("nnUNetTrainer"):
            known = {**shared, **_constants(node.body)}
            paper, url, status = (known.get(name, "") for name in ("PAPER", "PAPER_URL", "STATUS"))
            summary = (ast.get_docstring(node) or "").partition("\n")[0]
            endings = {name: text for name, text in _endings(node, module).items() if text is not None}
            entries.append(TrainerEntry(node.name, summary, paper, url, status, file.name, endings))
    return entries


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{file} cannot be read as Python ({error}); mend it, or take it out of its folder") from error


def _endings(node: ast.ClassDef, module: ast.Module) -> dict[str, str | None]:
    """The table ``endings`` of a class, after those of its bases; None where an inherited one is taken away."""
    found: dict[str, str | None] = {}
    for base in reversed(node.bases):
        if isinstance(base, ast.Name):
            found |= _endings_of_base(base.id, module)
    for statement in node.body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        table = getattr(statement, "value", None)
        if isinstance(target, ast.Name) and target.id == "endings" and isinstance(table, ast.Dict):
            for key, value in zip(table.keys, table.values, strict=True):
                if isinstance(key, ast.Constant):
                    found[str(key.value)] = _text(value)
    return found


def _text(value: ast.expr) -> str | None:
    first = value.args[0] if isinstance(value, ast.Call) and value.args else None
    return str(first.value) if isinstance(first, ast.Constant) else None


def _endings_of_base(name: str, module: ast.Module) -> dict[str, str | None]:
    """The same of a class that a file defines or imports from a module of this package."""
    for node in module.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _endings(node, module)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("nnunetv2_mmkd."):
            original = next((each.name for each in node.names if (each.asname or each.name) == name), None)
            if original is not None:
                return dict(_endings_in_package(str(node.module), original))
    return {}


@cache
def _endings_in_package(module: str, name: str) -> Mapping[str, str | None]:
    spec = find_spec(module)  # imports the packages above it, which are empty
    return _endings_of_base(name, _parsed(Path(spec.origin))) if spec is not None and spec.origin else {}


def _constants(body: Iterable[ast.stmt]) -> dict[str, str]:
    return {
        target.id: node.value.value
        for node in body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
