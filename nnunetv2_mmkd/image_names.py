"""What lies in a folder of images: the images, and what only looks like one.

That an image is absent must be proven: nothing in its folder may begin with its name. An upload that was broken off
(``.part``), a copy (``x (1).nii.gz``), another letter case (``.NII.GZ``), a folder of that name or a link that leads
nowhere is no image, and no proof either. Names are compared without regard to letter case and blanks.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_mmkd.errors import InputError, first_few

log = logging.getLogger(__name__)

LONGEST_CASE = 200
"""Bytes in a case's name; endings follow it."""

_COPY = re.compile(r"copyof(.+)|(.+?)[_-]*(?:\(\d+\)|copy)")  # of a plain name

REMEDY = "Rename or complete it; if there is no such image, take it out of the folder"


@dataclass(frozen=True)
class FolderContent:
    """Names in a folder, sorted.

    Attributes:
        folder: the folder.
        ending: of its images, e.g. ``".nii.gz"``.
        images: regular files (or links to some) that end so and are not hidden.
        others: everything else.
    """

    folder: Path
    ending: str
    images: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def stems(self) -> list[str]:
        """Names of the images without their ending, sorted."""
        return sorted(name[: -len(self.ending)] for name in self.images)

    def refuse_lookalikes(
        self, absent: Mapping[str, str], unknown: Callable[[str], str | None] = lambda name: None
    ) -> None:
        """Refuse entries that look like an image that is absent, or like a second one of an image that exists.

        Args:
            absent: name of each expected image that is absent, without ending -> what it is, for the message.
            unknown: name of any other entry -> what image it could be that was not expected, or None.

        Raises:
            InputError: there is such an entry; the message names it.
        """
        present = {plain(stem) for stem in self.stems}
        wanted = {plain(stem): (stem, what) for stem, what in absent.items()}
        ignored = []
        for name in self.others:
            entry = self.folder / name
            hits = [wanted[begin] for begin in _beginnings(name) if begin in wanted]
            if hits:
                stem, what = hits[-1]  # the longest
                raise InputError(
                    f"{entry} looks like {stem}{self.ending} ({what}), which does not exist: {self._reason(name)}. "
                    f"{REMEDY}"
                )
            if present.intersection(_beginnings(name)):
                if name.startswith("._"):
                    continue  # macOS writes them alongside the files of other disks
                if plain(name).endswith(self.ending.casefold()) and not entry.is_dir():
                    raise InputError(
                        f"{entry} and an image differ only in letter case or blanks: keep one of them in the folder"
                    )
                if f"{name}.gz" in self.images:
                    raise twin_error(self.folder / f"{name}.gz")
                ignored.append(name)
                continue
            kind = unknown(name) or self._as_image(name)
            if kind is not None:
                raise InputError(f"{entry} looks like {kind}, but {self._reason(name)}. {REMEDY}")
        if ignored:
            log.info("%s: not images, not read: %s", self.folder, first_few(ignored, 5))

    def _as_image(self, name: str) -> str | None:
        """Whether an entry has the ending of the images somewhere in its name."""
        first = "." + self.ending.split(".")[1]  # .nii of .nii.gz
        found = re.search(rf"{re.escape(first.casefold())}(?![a-z0-9])", plain(name))
        return f"an image *{self.ending}" if found else None

    def _reason(self, name: str) -> str:
        path = self.folder / name
        try:
            mode = os.stat(path).st_mode
        except OSError:
            return "it is a link that leads nowhere"
        if stat.S_ISDIR(mode):
            return "it is a folder"
        if not stat.S_ISREG(mode):
            return "it is no regular file"
        return "it is what macOS writes alongside an image" if name.startswith("._") else "its name is another one"


def twin_error(image: Path) -> InputError:
    """The error for ``x.nii.gz`` beside a file ``x.nii``: SimpleITK, nnU-Net's reader, mixes them up."""
    return InputError(
        f"{image} lies beside {image.stem}, whose voxels SimpleITK, nnU-Net's reader, would take for its own: keep one "
        "of them in the folder"
    )


def list_images(folder: Path | str, ending: str) -> FolderContent:
    """The entries of a folder, told apart by name and kind; no file is opened.

    Raises:
        InputError: no such folder, or it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            files = {entry.name: _is_file(entry) for entry in entries}
    except OSError as error:
        what = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be listed: {error.strerror}"
        what = "is a file, not a folder" if isinstance(error, NotADirectoryError) else what
        raise InputError(f"the folder {folder} {what}") from error
    require_utf8(files, folder)
    images = [name for name in files if files[name] and name.endswith(ending) and not name.startswith(".")]
    return FolderContent(Path(folder), ending, tuple(sorted(images)), tuple(sorted(files.keys() - {*images})))


def require_utf8(names: Iterable[str], folder: Path | str) -> None:
    """Refuse names that cannot be written.

    Raises:
        InputError: a name is not UTF-8.
    """
    for name in names:
        if any(0xD800 <= ord(letter) < 0xE000 for letter in name):
            raise InputError(f"{folder}: the name {name!r} is not UTF-8; rename the file")


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def plain(name: str) -> str:
    """A name without what people and machines confuse: letter case, blanks, composed letters, what hides a file."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split()).lstrip("._~$")


def _beginnings(name: str) -> Iterator[str]:
    """What a name begins with, up to each end of a word or number."""
    for index in range(1, len(name) + 1):
        after = name[index : index + 1]
        if not after.isalnum() or (name[index - 1].isdigit() and not after.isdigit()):
            yield plain(name[:index])


def check_case_name(case: str, where: Path | str) -> None:
    """Refuse a name that cannot be that of files in any folder, or leaves it.

    Raises:
        InputError: it cannot; the message names it.
    """
    if not case.strip() or case.startswith((".", "-")) or set(case) & set('/\\:"*?<>|') or not case.isprintable():
        raise InputError(
            f"{where}: {case!r} cannot be the name of a case, which becomes that of files: expected letters, digits, "
            "'_', '-' and '.', and no folders"
        )
    if len(os.fsencode(case)) > LONGEST_CASE:
        raise InputError(f"{where}: the case name {case[:40]!r}... is longer than {LONGEST_CASE} bytes")


def refuse_twins(cases: Iterable[str], where: Path | str) -> None:
    """Refuse case names that differ only in letter case or blanks, or in what file managers add to copies.

    Raises:
        InputError: there are two; the message names them.
    """
    seen: dict[str, str] = {}
    for case in cases:
        other = seen.setdefault(plain(case), case)
        if other != case:
            raise _twins(other, case, "letter case or blanks", where)
    for name, case in seen.items():
        copied = _COPY.fullmatch(name)
        original = copied and seen.get(copied[1] or copied[2])
        if original:
            raise _twins(original, case, "what marks a copy", where)


def _twins(first: str, second: str, what: str, where: Path | str) -> InputError:
    return InputError(
        f"{where}: the case names {first!r} and {second!r} differ only in {what}: give all images of a case one name, "
        "and different cases different names"
    )


def refuse_halves(cases: Mapping[str, Collection[int]], where: Path | str) -> None:
    """Refuse incomplete cases that complete each other and whose names differ only in separators or words for a copy.

    Args:
        cases: name of each incomplete case -> its channels.
        where: folder, for the message.

    Raises:
        InputError: there are two; the message names them.
    """
    seen: dict[str, str] = {}
    for case, channels in cases.items():
        name = re.sub(r"\bcopy( of)?\b|\(\d+\)", "", case.casefold().replace("_", " "))
        other = seen.setdefault(re.sub(r"[\W_]+", "-", name).strip("-"), case)
        if other != case and not set(channels) & set(cases[other]):
            raise InputError(
                f"{where}: {other!r} and {case!r} have different images and look like one case: give all images of a "
                "case one name, and different cases different names"
            )
