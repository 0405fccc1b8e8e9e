"""Tasks that are quick verbs of ``mmkd``, for tests of the engines; nodes of a cluster import this file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Verb:
    """``mmkd env`` ends well at once, an unknown verb ends badly, ``mmkd phantom`` lasts."""

    name: str
    words: tuple[str, ...]
    parent: Path

    @property
    def folder(self) -> Path:
        return self.parent / self.name

    def finished(self) -> bool:
        return (self.folder / "concluded").exists()

    def arguments(self) -> list[str]:
        return list(self.words)

    def conclude(self) -> None:
        (self.folder / "concluded").touch()
