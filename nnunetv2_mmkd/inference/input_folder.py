"""What lies in any folder of images: case folders, flat files, BIDS; in the spelling of any edition or hospital.

Legend: a case is found by its folder, or in flat files by what is left of their names without the modality.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_mmkd.editions.bids import NO_IMAGES, SUFFIXES, BidsName, bids_name, check_entities, index_of
from nnunetv2_mmkd.editions.discover import listed, walk
from nnunetv2_mmkd.editions.reading import Reading, by_case
from nnunetv2_mmkd.editions.spellings import NameReading, Speller, words_of
from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.image_names import REMEDY, check_case_name, plain, refuse_halves, refuse_twins, require_utf8

log = logging.getLogger(__name__)

ONE_OF_TWO = (
    "keep one of them there, leave the other out by --ignore, or say by --modalities or --manifest which one is meant; "
    "files of several cases in one folder are read if that folder is given with -i"
)
ONE_CASE = (
    "give all images of a case one name besides the modality's, put each case in a folder of its own, or give a table "
    "with --manifest"
)
_SEQUENCES = {
    *("ax", "axial", "tra", "sag", "sagittal", "cor", "coronal", "2d", "3d", "tse", "fse", "se", "gre", "tirm"),
    *("space", "mprage", "tfe", "reg", "registered", "brain", "bet", "n4", "iso", "image", "img"),
}
"""Words of a file's name that say nothing of whose it is."""
_OF_OTHERS = ("mmkd_report.json", "predict_from_raw_data_args.json")  # a folder with such a file holds predictions


@dataclass(frozen=True)
class FolderContent:
    """The images of a folder.

    Attributes:
        kind: how it was read, in words.
        cases: case -> channel -> image.
    """

    kind: str
    cases: Mapping[str, Mapping[int, Path]]


def read_folder(
    root: Path, speller: Speller, endings: Sequence[str], ignored: Sequence[str] = (), numbers: Mapping[int, int] = {}
) -> FolderContent:
    """The cases of a folder that is not in nnU-Net's naming.

    Args:
        root: the folder.
        speller: of the model's modalities.
        endings: of images.
        ignored: words; a file whose name has one is left out.
        numbers: number at the end of a name (``_XXXX``) -> channel, where the name spells no modality.

    Raises:
        InputError: a name that could be two modalities, one that is none of the model's, two images for one of a case,
            names of cases that are nearly alike, no name with a modality, or what looks like an image that is absent;
            the message names files.
    """
    files, others = _entries(root, endings)
    skip = [words_of(word) for word in ignored]
    kept = [path for path in files if not any(_contains(words_of(_stem(path, endings)), words) for words in skip)]
    if len(kept) < len(files):
        log.info("left out by --ignore: %s", first_few((_shown(root, path) for path in {*files} - {*kept}), 5))
    named_so = [_bids_name(path, endings) is not None for path in kept]
    if any(named_so) and (all(named_so) or (root / "dataset_description.json").exists()):
        kind, readings = "BIDS", list(_bids(root, kept, speller, endings))
        check_entities(readings)
    else:
        kind, readings = _by_words(
            root, [_place(root, path, speller, endings, numbers) for path in kept], speller, endings
        )
    empty = {path.name for path in others if path.parent == root and path.is_dir()} - {*NO_IMAGES}
    empty -= {path.relative_to(root).parts[0] for path in kept}
    empty = {name for name in empty if not any((root / name / each).exists() for each in _OF_OTHERS)}
    if empty and readings:
        log.warning("%s: no image in the folder %s", root, first_few(sorted(empty), 5))
    found = by_case(readings, speller.modalities, ONE_OF_TWO)
    cases = {case: {index: reading.path for index, reading in each.items()} for case, each in sorted(found.items())}
    for case, images in cases.items():
        check_case_name(case, next(iter(images.values())))
    refuse_twins(cases, root)
    if kind == "flat files":
        _refuse_parts(cases, speller.modalities, root)
    if kind != "BIDS":
        _refuse_single_images(cases, speller.modalities, root, kind)
    if cases:
        _refuse_lookalikes(root, others, cases, speller, endings)
    return FolderContent(kind, cases)


@dataclass(frozen=True)
class _Place:
    """A file, the folders of its case below the root, and what its name says."""

    path: Path
    folder: tuple[str, ...]
    name: NameReading


def _by_words(
    root: Path, places: Sequence[_Place], speller: Speller, endings: Sequence[str]
) -> tuple[str, list[Reading]]:
    """How a folder is read, and its images."""
    segmentations = [_shown(root, place.path) for place in places if place.name.segmentation]
    if segmentations:
        log.info("segmentations, not read: %s", first_few(segmentations, 5))
    places = [place for place in places if not place.name.segmentation]
    if not places:
        return "", []
    if not any(place.name.modality or place.name.could_be for place in places):
        names = first_few((_shown(root, place.path) for place in places), 3)
        raise InputError(
            f"{root}: no name of an image says its modality ({names}); expected CASE_0000.nii.gz and so on, or names "
            f"with {', '.join(speller.modalities)}. Say by --modalities which words stand for them, or by --manifest "
            "what each file is"
        )
    _refuse_doubtful(root, places, speller, endings)
    _warn_of_other_names(places)
    kind = "case folders" if any(place.folder for place in places) else "flat files"
    return kind, list(_by_place(root, places, speller))


def _entries(root: Path, endings: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Images, and what is none; folders of predictions are passed over."""
    files: list[Path] = []
    others: list[Path] = []
    predictions: list[Path] = []
    for folder in walk(root):
        if any(folder.is_relative_to(each) for each in predictions):
            continue
        content = listed(folder)
        require_utf8((path.name for path in content), folder)
        if any(path.name in _OF_OTHERS for path in content):
            log.info("a folder of predictions, not read: %s", folder)
            predictions.append(folder)
            continue
        for path in content:
            image = path.is_file() and not path.name.startswith(".") and _stem(path, endings) != path.name
            (files if image else others).append(path)
    return sorted(files), others


def _stem(path: Path, endings: Sequence[str]) -> str:
    return next((path.name[: -len(end)] for end in sorted(endings, key=len, reverse=True) if path.name.endswith(end)),
                path.name)  # fmt: skip


def _contains(words: tuple[str, ...], part: tuple[str, ...]) -> bool:
    return bool(part) and any(words[i : i + len(part)] == part for i in range(len(words)))


def _shown(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _place(root: Path, path: Path, speller: Speller, endings: Sequence[str], numbers: Mapping[int, int]) -> _Place:
    folder = path.relative_to(root).parts[:-1]
    stem = _stem(path, endings)
    bare = stem
    if (
        folder
        and re.match(rf"{re.escape(folder[-1])}[\W_]", stem, re.IGNORECASE)
        and not _only_modality(speller, folder[-1])
    ):
        bare = stem[len(folder[-1]) :]
    name = speller.read(bare)
    number = re.fullmatch(r"(.*?)_?([0-9]{4})", stem)
    if not (name.modality or name.could_be or name.segmentation) and number and int(number[2]) in numbers:
        name = NameReading(speller.modalities[numbers[int(number[2])]], number[1])
    while folder and _only_modality(speller, folder[-1]):  # patient7/T1/image.nii.gz
        bare = f"{folder[-1]} {bare}"
        name = name if name.segmentation else speller.read(bare)
        folder = folder[:-1]
    return _Place(path, folder, name)


def _only_modality(speller: Speller, folder: str) -> bool:
    """Whether the name of a folder is that of a modality, perhaps with a number."""
    read = speller.read(folder)
    return bool(read.modality or read.could_be) and all(word.isdigit() for word in words_of(read.rest))


def _refuse_doubtful(root: Path, places: Sequence[_Place], speller: Speller, endings: Sequence[str]) -> None:
    """Refuse names that could be two modalities, or are none of the model's; the first, and how many more."""
    doubtful = [place for place in places if place.name.modality not in speller.modalities]
    if not doubtful:
        return
    first, name = doubtful[0], doubtful[0].name
    words = words_of(_stem(first.path, endings))[-2 if name.could_be else -1 :]
    likely = name.could_be[-1:] or [each for each in speller.modalities if each in "_".join(words)]
    example = f"{likely[0] if likely else speller.modalities[0]}={'_'.join(words)}"
    remedy = f"say which by --modalities, e.g. --modalities {example}; leave it out by --ignore {'_'.join(words)}"
    model = f"this model has {', '.join(speller.modalities)}"
    if name.could_be:
        said = f"could be {' or '.join(name.could_be)}: {remedy}"
    elif not name.modality:
        said = f"its name says no modality, and {model}; {remedy}"
    else:
        said = f"is read as {name.modality}, and {model}. If it is one of these, {remedy}"
    more = first_few((_shown(root, place.path) for place in doubtful[1:]), 3)
    raise InputError(
        f"{first.path}{':' * said.startswith('its')} {said}{f'. The same is asked of {more}' * bool(more)}"
    )


def _by_place(root: Path, places: Sequence[_Place], speller: Speller) -> Iterator[Reading]:
    """Images with their cases: the folder's name, with those above it where that alone is not unique.

    Flat files that all have the name of their folder in theirs are one case.
    """
    folders = {place.folder for place in places if place.folder}
    own = {
        place.folder
        for place in places
        if place.folder and place.path.name.casefold().startswith(place.folder[-1].casefold())
    }
    last = Counter(folder[-1] for folder in folders)
    origin: dict[str, _Place] = {}
    whole = words_of(root.resolve().name)
    one_case = not folders and all(_contains(words_of(place.path.name), whole) for place in places)
    for place in places:
        if place.folder:
            alone = place.folder in own and last[place.folder[-1]] == 1
            case = place.folder[-1] if alone else "_".join(place.folder)
        else:
            case = root.resolve().name if one_case else place.name.rest or root.resolve().name
        first = origin.setdefault(case, place)
        if first.folder != place.folder:
            raise InputError(
                f"{first.path} and {place.path} are in different folders and would be of one case, {case!r}: rename "
                "one of the folders, or put them together"
            )
        yield Reading(place.path, case, speller.modalities.index(place.name.modality))


def _warn_of_other_names(places: Sequence[_Place]) -> None:
    """Ask back where the images in a folder have different names besides the modality: they may be of several cases."""
    names: dict[tuple[str, ...], dict[frozenset[str], str]] = {}
    for place in places:
        words = frozenset(word for word in words_of(place.name.rest) if not word.isdigit() and word not in _SEQUENCES)
        if place.folder:
            names.setdefault(place.folder, {}).setdefault(words, place.path.name)
    for folder, files in names.items():
        if len(files) > 1 and all(files):
            log.warning(
                "%s: %s are read as images of one case: if they are of several, give that folder itself with -i",
                "/".join(folder), " and ".join(list(files.values())[:2]),
            )  # fmt: skip


def _bids(root: Path, paths: Sequence[Path], speller: Speller, endings: Sequence[str]) -> Iterator[Reading]:
    """Images of a BIDS data set; what is of no modality of the model is named."""
    own = {name: [words for words, of in speller.own_text.items() if of == name] for name in speller.modalities}
    spellings = [own[name] or SUFFIXES.get(name, (name,)) for name in speller.modalities]
    unused = []
    for path in paths:
        name = _bids_name(path, endings)
        other = name is None or set(NO_IMAGES) & {*path.relative_to(root).parts}
        index = None if name is None or other else index_of(name, spellings)
        if name is None or index is None:
            unused.append(_shown(root, path))
        else:
            yield Reading(path, name.case, index)
    if unused:
        log.info("BIDS: of no modality of the model, not read: %s", first_few(unused, 5))


def _bids_name(path: Path, endings: Sequence[str]) -> BidsName | None:
    return bids_name(_stem(path, endings) + ".nii.gz")


def _refuse_parts(cases: Mapping[str, Mapping[int, Path]], modalities: Sequence[str], root: Path) -> None:
    """Refuse cases that complete each other where one's name has all words of the other's."""
    incomplete = {case: images for case, images in cases.items() if len(images) < len(modalities)}
    refuse_halves(incomplete, root)
    words = {case: set(words_of(case)) for case in incomplete}
    for case, images in incomplete.items():
        for other, more in incomplete.items():
            if words[case] < words[other] and not set(images) & set(more):
                raise InputError(
                    f"{root}: {next(iter(images.values())).name} is read as of {case!r}, "
                    f"{next(iter(more.values())).name} as of {other!r}, and they look like one: {ONE_CASE}"
                )


def _refuse_single_images(
    cases: Mapping[str, Mapping[int, Path]], modalities: Sequence[str], root: Path, kind: str
) -> None:
    """Refuse flat files of which no two are of one case although they are of different modalities; warn of folders.

    Raises:
        InputError: flat files are so.
    """
    kinds = sorted({modalities[index] for images in cases.values() for index in images})
    if len(cases) < 2 or len(kinds) < 2 or any(len(images) > 1 for images in cases.values()):
        return
    names = first_few((image.name for images in cases.values() for image in images.values()), 4)
    said = f"{root}: no case has two images, and there are {', '.join(kinds)} ({names})"
    if kind == "flat files":
        raise InputError(
            f"{said}, so that it cannot be told whether they are of one case: if so, give the folder above with -i; if "
            f"not, {ONE_CASE}"
        )
    log.warning("%s: are these images of the same cases? Then %s", said, ONE_CASE)


def _refuse_lookalikes(
    root: Path,
    others: Sequence[Path],
    cases: Mapping[str, Mapping[int, Path]],
    speller: Speller,
    endings: Sequence[str],
) -> None:
    """Refuse what begins like an image that a case lacks: a broken download, a link that leads nowhere, a folder."""
    ends = "|".join(re.escape(end) for end in sorted(endings, key=len, reverse=True))
    present = {(plain(case), index) for case, images in cases.items() for index in images}
    names = {(image.parent, plain(image.name)): image for images in cases.values() for image in images.values()}
    for path in others:
        twin = names.get((path.parent, plain(path.name)))
        if twin is not None and path.is_file() and not path.name.startswith("._"):
            raise InputError(f"{path} and {twin.name} differ only in letter case or blanks: keep one of them there")
        match = re.match(rf"(.+?)({ends})(?![A-Za-z0-9])", path.name.lstrip("._~$ "), re.IGNORECASE)
        if match is None or (
            path.is_dir() and any(path in image.parents for c in cases.values() for image in c.values())
        ):
            continue
        place = _place(root, path.with_name(match[1] + endings[0]), speller, endings, {})
        if place.name.modality in speller.modalities:
            (reading,) = _by_place(root, [place], speller)
            if (plain(reading.case), reading.index) not in present:
                raise InputError(
                    f"{path} looks like the {place.name.modality} of case {reading.case}, for which no image was "
                    f"found. {REMEDY}"
                )
