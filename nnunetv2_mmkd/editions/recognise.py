"""Recognise the edition of some folders, and say how: by names of cases, labels, grid, time points, names of folders.

Many editions share the names of their cases, and some even the cases. What contradicts an edition comes first (label
values), what merely suggests one (the name of a folder) last. Nothing is guessed: where two editions remain, both are
named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nnunetv2_mmkd import images as nifti
from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.editions.discover import CaseFiles, discover, listed, source_root, walk
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.folder_contents import contents

LABELS_READ = 5
"""Number of label files that are read, at most."""
HEADERS_READ = 20
"""Number of cases, about, whose grid is looked at."""


@dataclass(frozen=True)
class Recognised:
    """An edition and why it is the one.

    Attributes:
        spec: the edition.
        reasons: what was seen, and which editions that left.
    """

    spec: EditionSpec
    reasons: tuple[str, ...]


def recognise(sources: Sequence[Path | str], editions: Iterable[EditionSpec] = EDITIONS.values()) -> Recognised:
    """The edition whose cases lie below some folders.

    Args:
        sources: as for :func:`.convert.convert`.
        editions: the editions that come into question.

    Raises:
        InputError: no edition, several editions' cases, or cases that more than one edition has.
    """
    editions = tuple(editions)
    left, reasons = _by_names(sources, editions)
    if len(left) > 1:
        # Editions with the same names of cases have the same layout: the files of the first are those of all.
        cases = discover(left[0], sources)
        for what, test in _evidence(cases):
            passed = [spec for spec in left if test(spec)]
            if passed and len(passed) < len(left):
                left = passed
                reasons.append(f"{what}: {_names(left)}")
            if len(left) == 1:
                break
        else:
            names = {spec.name for spec in left}
            first = [spec for spec in left if not names & set(spec.repeats)]
            if len(first) == 1:
                reasons.append(f"the others have the same data: {first[0].name}")
                left = first
    if len(left) > 1:
        raise InputError(
            f"the edition cannot be told from what is in {_shown(sources)} ({'; '.join(reasons)}): "
            f"name it, e.g. mmkd convert {left[0].name} ..."
        )
    return Recognised(left[0], tuple(reasons))


def _by_names(sources: Sequence[Path | str], editions: Sequence[EditionSpec]) -> tuple[list[EditionSpec], list[str]]:
    """The editions that have every case that any edition has here."""
    found: dict[str, set[str]] = {spec.name: set() for spec in editions}
    folders = [spec for spec in editions if spec.layout == "folders"]
    files = [spec for spec in editions if spec.layout == "files"]
    for source in sources:
        for folder in walk(source_root(source), lambda name: any(spec.is_case(name) for spec in folders)):
            for spec in folders:
                if spec.is_case(folder.name):
                    found[spec.name].add(folder.name)
            stems = [stem for path in listed(folder) if (stem := nifti.stem_of(path.name)) is not None] if files else []
            for spec in files:
                parts = [spec.split_stem(stem, folder.name) for stem in stems]
                found[spec.name] |= {each[0] for each in parts if each is not None}
    cases = set().union(*found.values())
    if not cases:
        there = "; ".join(f"{source}: {contents(source)}" for source in sources)
        raise InputError(
            f"no case of any edition: no folder and no file has a name as in "
            f"{', '.join(spec.title for spec in editions)} (mmkd convert --list). {there}"
        )
    left = [spec for spec in editions if found[spec.name] == cases]
    if not left:
        counts = ", ".join(f"{name} ({len(names)} cases)" for name, names in found.items() if names)
        raise InputError(f"{_shown(sources)}: cases of several editions: {counts}; convert each edition by itself")
    return left, [f"{len(cases)} cases with names like {min(cases)}: {_names(left)}"]


def _evidence(cases: Sequence[CaseFiles]) -> Iterable[tuple[str, Callable[[EditionSpec], bool]]]:
    """What is seen, and which editions agree with it; reading goes on only as far as it is asked for."""
    labelled = [files.label for files in cases if files.label is not None][:LABELS_READ]
    values: set[int] = set()
    for path in labelled:
        values |= set(np.unique(nifti.integer_labels(path, nifti.read_volume(path).voxels)).tolist())
    shown = ", ".join(map(str, sorted(values)))
    yield f"labels {shown} in {len(labelled)} files", lambda spec: values <= {*spec.label_map, *spec.slips}
    grids = sorted({_grid(files) for files in cases[:: max(1, len(cases) // HEADERS_READ)]})
    yield (
        f"grid {', '.join('x'.join(map(str, grid)) for grid in grids)}",
        lambda spec: [spec.grid] == grids or (spec.grid is None and len(grids) > 1),
    )
    yield (
        f"names like {cases[0].case}",
        lambda spec: all(re.fullmatch(spec.sibling_pattern, files.case) for files in cases),
    )
    for depth in range(max(len(files.folder.parents) for files in cases)):  # from the cases upwards
        level = sorted({files.folder.parents[depth].name for files in cases if depth < len(files.folder.parents)})
        yield f"folder {', '.join(level)}", partial(_suggested, level)


def _grid(files: CaseFiles) -> tuple[int, ...]:
    path = files.files[0]
    return tuple(nifti.read_header(path, files.volumes_in(path)).get_data_shape())


def _suggested(folders: Sequence[str], spec: EditionSpec) -> bool:
    return any(re.search(spec.folder_pattern, folder) for folder in folders)


def _names(specs: Sequence[EditionSpec]) -> str:
    return " or ".join(spec.name for spec in specs)


def _shown(sources: Sequence[Path | str]) -> str:
    return ", ".join(str(source) for source in sources)
