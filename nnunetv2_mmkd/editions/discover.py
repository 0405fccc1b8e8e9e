"""Find the cases of an edition below some folders, whatever the nesting, and their files.

A case is a directory whose name matches the edition's pattern, or the files of one beginning, by the edition's layout.
Only names are looked at; nothing is read but a file that lies beside the same one compressed.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnunetv2_mmkd.editions.lookalikes import refuse_copy, refuse_in_case, refuse_stray_files, refuse_unlike
from nnunetv2_mmkd.editions.own_files import own_cases
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.folder_contents import contents
from nnunetv2_mmkd.image_names import check_case_name, refuse_twins, require_utf8
from nnunetv2_mmkd.images import stem_of

logger = logging.getLogger(__name__)

_GRADE = re.compile(r"hgg|lgg", re.IGNORECASE)


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        case: name of the case (of its directory).
        folder: its directory (of files in several: that of the first image).
        root: the source folder it was found in.
        images: per channel the file, or None where the modality is missing.
        label: the segmentation, or None.
        grade: ``"HGG"``, ``"LGG"`` or None, from the names of the folders above.
        patient: name of the patient, where its path says it; else its name does (:meth:`EditionSpec.patient`).
        volumes: number of images in each image file: 1, or all of the case.
    """

    case: str
    folder: Path
    root: Path
    images: tuple[Path | None, ...]
    label: Path | None
    grade: str | None
    patient: str | None = None
    volumes: int = 1

    def volumes_in(self, path: Path) -> int:
        """Number of images in one of its files."""
        return self.volumes if path in self.images else 1

    @property
    def relative(self) -> str:
        """Its directory, relative to the source folder."""
        return self.folder.relative_to(self.root).as_posix()

    @property
    def files(self) -> tuple[Path, ...]:
        """All existing files, images in channel order, then the label."""
        return tuple(dict.fromkeys(file for file in (*self.images, self.label) if file is not None))


def discover(spec: EditionSpec, sources: Sequence[Path | str]) -> list[CaseFiles]:
    """All cases of an edition below the given folders, sorted by name.

    A case that is found twice is taken from the later folder (within one folder: the later path), with a message; in
    the layout ``"files"`` that holds for each file. In a user's own layouts (:mod:`.own_files`) it is an error.

    Raises:
        InputError: a folder does not exist, holds no case, or a case has no image or two files for one modality (a
            file and the same one compressed are one).
    """
    find = {"folders": _by_folder, "files": _by_file}.get(spec.layout, _own)
    found = find(spec, sources)
    refuse_twins(found, ", ".join(map(str, sources)))
    empty = [case for case in found.values() if not any(case.images)]
    if empty:
        case, more = empty[0], first_few((case.case for case in empty[1:]), 3)
        expected = spec.image_template or ", ".join(
            f"{case.case}_{channel.suffixes[0]}.nii.gz" for channel in spec.channels
        )
        raise InputError(
            f"case {case.case}: no image at all in {case.folder}; expected at least one of {expected}, or take it "
            f"out{f'. The same holds of {more}' * bool(more)}"
        )
    return [found[name] for name in sorted(found)]


def source_root(source: Path | str) -> Path:
    """A source folder, resolved.

    Raises:
        InputError: it does not exist, or is a file.
    """
    root = Path(os.path.realpath(source))  # Path.resolve() fails where links lead in a circle
    if not root.is_dir():
        what = "is a file: unpack it and give the folder" if root.exists() else "does not exist"
        raise InputError(f"source folder {source} {what}")
    return root


def listed(folder: Path) -> list[Path]:
    """What is in a folder.

    Raises:
        InputError: it cannot be listed.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"cannot list the folder {folder}: {error.strerror or error}") from error


def walk(root: Path, leaf: Callable[[str], bool] = lambda name: False) -> Iterator[Path]:
    """All folders below ``root``, itself included, none twice; below those whose name is a ``leaf`` none.

    What a Mac leaves in archives and what is hidden is passed over.
    """
    visited: set[str] = set()
    stack = [root]
    while stack:
        folder = stack.pop()
        real = os.path.realpath(folder)
        if real in visited:
            continue  # links may lead in circles
        visited.add(real)
        yield folder
        if leaf(folder.name):
            continue
        stack += [path for path in listed(folder) if path.name != "__MACOSX" and path.name[0] != "." and path.is_dir()]


def _by_folder(spec: EditionSpec, sources: Sequence[Path | str]) -> dict[str, CaseFiles]:
    found: dict[str, CaseFiles] = {}
    corrected: dict[str, Path] = {}
    for source in sources:
        root = source_root(source)
        folders = _wanted(spec, root, sorted(_case_folders(spec, root), key=lambda folder: folder.parts))
        labels: dict[str, Path] = {}
        for folder in walk(root, spec.is_case):
            content = listed(folder)
            if folder != root and not spec.is_case(folder.name):
                refuse_copy(spec, folder, content)
            if any(re.search(spec.corrections, part) for part in folder.parts[len(root.parts) - 1 :]):
                labels |= _labels_alone(spec, content)
                folders = [other for other in folders if other != folder]
        if not folders and not labels:
            raise InputError(
                f"no case of {spec.title} below {source}: no directory name matches {spec.case_pattern!r}; "
                f"{contents(root)}. Is this the right edition and the unpacked folder?"
            )
        corrected |= labels
        for folder in folders:
            case = _case_files(spec, folder, root)
            if case.case in found:
                logger.warning("%s: found twice; %s replaces %s", case.case, folder, found[case.case].folder)
            found[case.case] = case
    for name, label in corrected.items():
        if name not in found:
            logger.warning("%s: a label without images, not used: %s", name, label)
            continue
        logger.warning("%s: the label %s replaces %s", name, label, found[name].label)
        found[name] = replace(found[name], label=label)
    return found


def _wanted(spec: EditionSpec, root: Path, folders: Sequence[Path]) -> list[Path]:
    """Without those that the edition passes over, which is said."""
    others: dict[str, int] = {}
    wanted = []
    for folder in folders:
        part = next((part for part in folder.relative_to(root).parts if re.search(spec.passed_over, part)), None)
        if part is None:
            wanted.append(folder)
        else:
            others[part] = others.get(part, 0) + 1
    for part, count in others.items():
        logger.warning("%s: %d cases below folders %s are not taken", spec.title, count, part)
    return wanted


def _labels_alone(spec: EditionSpec, content: Sequence[Path]) -> dict[str, Path]:
    """Case -> label, of the files of a folder of labels."""
    words = "|".join(map(re.escape, spec.label_suffixes))
    stems = {path: stem for path in content if (stem := stem_of(path.name)) is not None}
    matches = {path: re.fullmatch(rf"(.+)[_-](?i:{words})", stem) for path, stem in stems.items()}
    return {match[1]: path for path, match in matches.items() if match is not None and spec.is_case(match[1])}


def _by_file(spec: EditionSpec, sources: Sequence[Path | str]) -> dict[str, CaseFiles]:
    """Images and labels of a case may lie in different folders, and in different sources."""
    label_index = len(spec.channels)
    chosen: dict[str, dict[int, Path]] = {}
    root_of: dict[Path, Path] = {}
    for source in sources:
        root = source_root(source)
        stems = [(path, stem_of(path.name)) for folder in walk(root) for path in listed(folder)]
        named = [(path, stem) for path, stem in stems if stem is not None and not path.is_dir()]
        taken = {path: parts for path, stem in named if (parts := spec.split_stem(stem, path.parent.name)) is not None}
        if not taken:
            raise InputError(
                f"no case of {spec.title} below {source}: no file name begins with {spec.case_pattern!r} and ends with "
                f"the suffix of a modality; {contents(root)}. Is this the right edition and the unpacked folder?"
            )
        refuse_stray_files(spec, (path for path, _ in stems if path not in taken), set(taken.values()))
        _say_no_labels(spec, [path for path, stem in named if path not in taken and spec.is_case(stem)])
        for path in sorted(taken, key=lambda path: (path.parent.parts, path.name)):  # .nii, then .nii.gz
            case, index = taken[path]
            before = chosen.setdefault(case, {}).get(index)
            if before is not None:
                if before.parent == path.parent and before.name == path.stem:
                    refuse_unlike(case, before, path)
                logger.warning("%s: found twice; %s replaces %s", case, path, before)
            chosen[case][index] = path
            root_of[path] = root
    found = {}
    for case, places in chosen.items():
        first = places[min(places)]
        images = [places.get(0 if spec.stacked else index) for index in range(label_index)]
        found[case] = CaseFiles(
            case=case,
            folder=first.parent,
            root=root_of[first],
            images=tuple(images),
            label=places.get(label_index),
            grade=None,
            volumes=label_index if spec.stacked else 1,
        )
    return found


def _own(spec: EditionSpec, sources: Sequence[Path | str]) -> dict[str, CaseFiles]:
    """By the user's own description; a case's files may lie in different folders and sources."""
    roots = [source_root(source) for source in sources]
    entries = {root: [path for folder in walk(root) for path in listed(folder)] for root in roots}
    for root, paths in entries.items():
        require_utf8((path.name for path in paths), root)
    found = {}
    for case, readings in own_cases(spec, entries).items():
        check_case_name(case, readings[min(readings)].path)
        first = readings[min(readings)].path
        found[case] = CaseFiles(
            case=case,
            folder=first.parent,
            root=next(root for root in roots if first.is_relative_to(root)),
            images=tuple(readings[index].path if index in readings else None for index in range(len(spec.channels))),
            label=readings[len(spec.channels)].path if len(spec.channels) in readings else None,
            grade=None,
            patient=readings[min(readings)].patient,
        )
    return found


def _say_no_labels(spec: EditionSpec, paths: Sequence[Path]) -> None:
    """Say which files have a label's name in a folder that holds none."""
    for folder in sorted({path.parent for path in paths} if "" in spec.label_suffixes else ()):
        logger.warning(
            "%s: not taken for labels of %s, which lie in a folder named %s", folder, spec.title, spec.label_folder
        )


def _case_folders(spec: EditionSpec, root: Path) -> Iterator[Path]:
    """Directories that are cases; not descended into, but for a folder that only wraps another of its name."""
    for folder in walk(root, spec.is_case):
        if spec.is_case(folder.name):
            while (folder / folder.name).is_dir():
                folder = folder / folder.name
            yield folder


def _case_files(spec: EditionSpec, folder: Path, root: Path) -> CaseFiles:
    case = folder.name
    candidates = [(stem, path) for path in listed(folder) if (stem := stem_of(path.name)) is not None]
    images: list[Path | None] = []
    for channel in spec.channels:
        ending = re.compile(rf"[_-](?:{'|'.join(map(re.escape, channel.suffixes))})", re.IGNORECASE)
        whole = re.compile(ending.pattern + "$", re.IGNORECASE)
        matches = [(stem, path) for stem, path in candidates if whole.search("_" + stem)]
        images.append(_choose(case, channel.display, ending, matches))
    rest = [(stem, path) for stem, path in candidates if path not in images]
    words = "|".join(map(re.escape, spec.label_suffixes))
    ending = re.compile(rf"[_-](?:{words})", re.IGNORECASE)
    named = re.compile(re.escape(case) + ending.pattern, re.IGNORECASE)
    exact = [(stem, path) for stem, path in rest if named.match(stem)]
    loose = [(stem, path) for stem, path in rest if re.search(words, stem.replace(case, ""), re.IGNORECASE)]
    label = _choose(case, "segmentation", ending, exact or loose)
    others = [path.name for path in listed(folder) if path not in (*images, label)]
    refuse_in_case(spec, folder, others, images, label)
    grades = [part.upper() for part in folder.parent.parts if _GRADE.fullmatch(part)]
    return CaseFiles(
        case=case,
        folder=folder,
        root=root,
        images=tuple(None if path is None else _unwrap(case, path) for path in images),
        label=None if label is None else _unwrap(case, label),
        grade=grades[-1] if grades else None,
    )


def _choose(case: str, what: str, ending: re.Pattern[str], matches: list[tuple[str, Path]]) -> Path | None:
    """The one file, the one that is named exactly ``<case><ending>``, the compressed one of a pair; or an error."""
    if len(matches) > 1:
        exact = [
            (stem, path)
            for stem, path in matches
            if stem.lower().startswith(case.lower()) and ending.fullmatch(stem, len(case))
        ]
        matches = exact or matches
    if len({stem.lower() for stem, _ in matches}) > 1 or len({path.name.lower() for _, path in matches}) < len(matches):
        names = ", ".join(path.name for _, path in matches)
        raise InputError(f"case {case}: more than one file for {what}: {names}; keep the right one in the folder")
    if not matches:
        return None
    *others, chosen = sorted((path for _, path in matches), key=lambda path: path.name.lower().endswith(".gz"))
    if others:
        refuse_unlike(case, _unwrap(case, others[0]), _unwrap(case, chosen))
        endings = " and ".join(sorted(path.name[len(stem) :] for stem, path in matches))
        logger.warning("%s: both %s for %s; %s is used", case, endings, what, chosen.name)
    return chosen


def _unwrap(case: str, path: Path) -> Path:
    """Some mirrors have a folder ``x_t1.nii`` with the one file in it."""
    if not path.is_dir():
        return path
    inside = [file for file in sorted(path.iterdir()) if stem_of(file.name) is not None and file.is_file()]
    if len(inside) != 1:
        raise InputError(f"case {case}: {path} is a folder with {len(inside)} NIfTI files; expected one file")
    return inside[0]
