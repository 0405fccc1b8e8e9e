"""BIDS: what a file is, by the entities and the suffix of its name.

``sub-01_ses-2_ce-gd_run-1_T1w.nii.gz`` is of the case ``sub-01_ses-2_run-1``: its name is made of the entities ``sub``,
``ses`` and ``run``. A modality is a suffix, with entities in front of it where they matter: ``T1w``, ``ce-gd_T1w``, or
``ce_T1w`` for any value. An image with a contrast agent (``ce``) is of no modality whose spelling does not say so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_mmkd.editions.reading import Reading
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.images import stem_of

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "t1": ("T1w",),
    "t1ce": ("ce_T1w", "T1ce", "T1c", "T1Gd"),
    "t2": ("T2w",),
    "flair": ("FLAIR",),
}
"""How modalities are spelled; others by their own name."""

CASE = ("sub", "ses", "run")
"""Entities that make the name of a case."""

NO_IMAGES = ("derivatives", "sourcedata", "code", "stimuli", "phenotype")
"""Folders of a data set whose files are not its raw images."""

_ENTITY = re.compile(r"(?P<key>[A-Za-z0-9]+)-(?P<value>[A-Za-z0-9+.]+)")


@dataclass(frozen=True)
class BidsName:
    """The name of a file.

    Attributes:
        entities: in order.
        suffix: what follows them.
    """

    entities: Mapping[str, str]
    suffix: str

    @property
    def case(self) -> str:
        """The case it belongs to."""
        return "_".join(f"{key}-{self.entities[key]}" for key in CASE if key in self.entities)

    def is_spelled(self, spelling: str) -> int:
        """Whether it is what a spelling says: 0, or 1 and one more for each entity that the spelling names."""
        *entities, suffix = spelling.casefold().split("_")
        named = dict(entity.partition("-")[::2] for entity in entities)
        if suffix != self.suffix.casefold() or ("ce" in self.entities and "ce" not in named):
            return 0
        fits = all(self.entities.get(key, "").casefold() in ([value] if value else self._values(key))
                   for key, value in named.items())  # fmt: skip
        return 1 + len(named) if fits else 0

    def _values(self, key: str) -> list[str]:
        return [self.entities[key].casefold()] if key in self.entities else []


def bids_name(name: str) -> BidsName | None:
    """The parts of a file's name; None: it is no BIDS image of a subject."""
    stem = stem_of(name)
    *parts, suffix = (stem or "").split("_")
    matches = [_ENTITY.fullmatch(part) for part in parts]
    if not parts or not all(matches) or not re.fullmatch(r"[A-Za-z0-9]+", suffix):
        return None
    entities = {match["key"]: match["value"] for match in matches if match is not None}
    return BidsName(entities, suffix) if next(iter(entities)) == "sub" and len(entities) == len(parts) else None


def index_of(name: BidsName, spellings: Sequence[Iterable[str]]) -> int | None:
    """Which of some modalities a file is, by their spellings; the most exact one decides."""
    fits = [max(map(name.is_spelled, each), default=0) for each in spellings]
    return fits.index(max(fits)) if any(fits) else None


def bids_reader(spec: EditionSpec) -> Callable[[Path, Path], Reading | None]:
    """What a file below a source folder is; None: no image or segmentation of the edition."""

    def read(root: Path, path: Path) -> Reading | None:
        name = bids_name(path.name)
        if name is None:
            return None
        index = None
        if not set(NO_IMAGES) & set(path.relative_to(root).parts[:-1]):
            index = index_of(name, [channel.suffixes for channel in spec.channels])
        if index is None and spec.label_template and name.is_spelled(spec.label_template):
            index = len(spec.channels)
        return None if index is None else Reading(path, name.case, index, f"sub-{name.entities['sub']}")

    return read


def check_entities(readings: Iterable[Reading]) -> None:
    """Refuse sessions that the names of the files do not say, and runs that some images of a session have.

    Raises:
        InputError: there are such; the message names a file.
    """
    first: dict[tuple[str, ...], tuple[str, Path]] = {}
    for reading in sorted(readings, key=lambda each: each.path.as_posix()):
        name = bids_name(reading.path.name)
        if name is None:
            continue
        folder = next((part for part in reversed(reading.path.parts[:-1]) if part.startswith("ses-")), None)
        session = f"ses-{name.entities['ses']}" if "ses" in name.entities else None
        if folder is not None and session != folder:
            said = f"says {session}" if session else "has no entity ses"
            raise InputError(
                f"{reading.path}: it lies in the session {folder}, and its name {said}; BIDS asks for both alike: name "
                f"it sub-{name.entities['sub']}_{folder}_..., or say where images are, by --manifest, or for a "
                "conversion, without --bids, by --images '{patient}/{session}/anat/*_{modality}.nii.gz'"
            )
        for key, scope in (("ses", CASE[:1]), ("run", CASE[:2])):
            where = (key, *(name.entities.get(each, "") for each in scope))
            has = key in name.entities
            word, other = first.setdefault(where, ("with" if has else "without", reading.path))
            if has != (word == "with"):
                raise InputError(
                    f"{other} and {reading.path}: one name has the entity {key}, the other has not, so that it cannot "
                    f"be told which images belong together; give all of them {key}-..., or none"
                )
