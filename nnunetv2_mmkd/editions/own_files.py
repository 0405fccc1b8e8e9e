"""The files of a user's own edition: told by templates or BIDS, two for one refused, what looks like one refused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from nnunetv2_mmkd.editions.bids import NO_IMAGES, SUFFIXES, bids_name, bids_reader, check_entities
from nnunetv2_mmkd.editions.reading import Reading, by_case
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.editions.templates import MODALITY, template_reader, templates_of
from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.folder_contents import contents
from nnunetv2_mmkd.image_names import REMEDY, plain
from nnunetv2_mmkd.images import stem_of

logger = logging.getLogger(__name__)

REMEDY_FOR_TWO = "keep one of them there, or describe them more exactly (--images, --modalities)"
Reader = Callable[[Path, Path], Reading | None]


def own_cases(spec: EditionSpec, roots: Mapping[Path, Sequence[Path]]) -> dict[str, dict[int, Reading]]:
    """Case -> index -> file, in some source folders.

    Args:
        spec: an edition of the layout ``"template"`` or ``"bids"``.
        roots: source folder -> all entries below it, folders included.

    Raises:
        InputError: no image or no segmentation; two files for one; a modality that no case has although there are
            images of an unknown one; what looks like an image that is absent; in BIDS entities that some names lack.
    """
    read: Reader = bids_reader(spec) if spec.layout == "bids" else template_reader(spec)
    places = [(root, path) for root, paths in roots.items() for path in paths]
    files = [(root, path) for root, path in places if stem_of(path.name) is not None and not path.is_dir()]
    taken = {path: reading for root, path in files if (reading := read(root, path)) is not None}
    if spec.layout == "bids":
        check_entities(taken.values())
    found = by_case(taken.values(), [*(channel.display for channel in spec.channels), "segmentation"], REMEDY_FOR_TWO)
    _require_some(spec, found, files, roots)
    _refuse_lookalikes(spec, read, [place for place in places if place[1] not in taken], found)
    _say_empty(roots, taken)
    unused = sorted(path for _, path in files if path not in taken)
    if unused:
        logger.warning("%d NIfTI files are not used, such as %s", len(unused), first_few(unused, 3))
    return found


def _say_empty(roots: Mapping[Path, Sequence[Path]], taken: Mapping[Path, Reading]) -> None:
    """Say which folders of a source have nothing that is used."""
    for root, paths in roots.items():
        used = {path.relative_to(root).parts[0] for path in taken if path.is_relative_to(root)}
        empty = [path.name for path in paths if path.parent == root and path.is_dir() and path.name not in used]
        empty = [name for name in empty if name not in NO_IMAGES and not name.startswith(".")]
        if empty:
            logger.warning("%s: nothing is used of the folder %s", root, first_few(empty, 5))


def _require_some(
    spec: EditionSpec,
    found: Mapping[str, Mapping[int, Reading]],
    files: Sequence[tuple[Path, Path]],
    roots: Iterable[Path],
) -> None:
    """Refuse images or segmentations that nobody has, and say what is there."""
    listed = "; ".join(f"{root}: {contents(root)}" for root in roots)
    numbers = {index for case in found.values() for index in case}
    unknown = sorted(set(_unknown_words(spec, files)))
    words = f"; in the place of {{{MODALITY}}} there are {first_few(unknown, 10)}" if unknown else ""
    channels = range(len(spec.channels))
    if not numbers & set(channels):
        what = f"the template {spec.image_template!r}" if spec.image_template else "BIDS with these modalities"
        raise InputError(f"no image fits {what} ({_spelled(spec, channels)}){words}; {listed}")
    lacking = [index for index in channels if index not in numbers]
    if lacking and unknown:
        raise InputError(f"no case has an image of {_spelled(spec, lacking)}{words}: correct --modalities")
    for index in lacking:
        usual = SUFFIXES.get(spec.channels[index].name, ()) if spec.layout == "bids" else ()
        named = ((path, name) for root, path in files if (name := bids_name(path.name)) is not None)
        other = next((path for path, name in sorted(named) if any(map(name.is_spelled, usual))), None)
        if other is not None:
            raise InputError(
                f"no case has an image of {_spelled(spec, [index])}, and {other} usually is one: correct --modalities"
            )
    if lacking:
        logger.warning("no case has an image of %s: if there should be one, look at the names", _spelled(spec, lacking))
    if spec.label_template and len(spec.channels) not in numbers:
        raise InputError(f"no segmentation fits {spec.label_template!r}; {listed}")


def _spelled(spec: EditionSpec, indices: Sequence[int]) -> str:
    return ", ".join(
        f"{spec.channels[index].display} = {' or '.join(spec.channels[index].suffixes)}" for index in indices
    )


def _unknown_words(spec: EditionSpec, files: Sequence[tuple[Path, Path]]) -> Iterator[str]:
    """What stands for the modality in the names of files that are none of the edition's images."""
    if spec.layout == "bids":
        return
    images, labels = templates_of(spec)
    for root, path in files:
        relative = path.relative_to(root).as_posix()
        match = images.any_modality.fullmatch(relative)
        if match is not None and images.read(relative) is None and (labels is None or labels.read(relative) is None):
            yield match[MODALITY]


def _refuse_lookalikes(
    spec: EditionSpec, read: Reader, others: Sequence[tuple[Path, Path]], found: Mapping[str, Mapping[int, Reading]]
) -> None:
    """Refuse what begins like an image or segmentation that was not found: a copy, a broken download, a folder."""
    present = {(plain(case), index) for case, files in found.items() for index in files}
    for root, path in others:
        name = path.name.lstrip("._~$ ")
        for end in (index for index in range(len(name), 0, -1) if not name[index : index + 1].isalnum()):
            for ending in (".nii.gz", ".nii"):
                reading = read(root, path.with_name(name[:end].rstrip() + ending))
                if reading is not None and (plain(reading.case), reading.index) not in present:
                    what = [*(channel.display for channel in spec.channels), "segmentation"][reading.index]
                    raise InputError(
                        f"{path} looks like the {what} of case {reading.case}, for which no file was found. {REMEDY}"
                    )
