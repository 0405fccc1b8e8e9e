"""What looks like an image, a segmentation or a case of an edition and is none: refused, so that nothing is absent by a
slip of a name. See :mod:`nnunetv2_mmkd.image_names`."""

from __future__ import annotations

import gzip
import logging
import re
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from pathlib import Path

from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.image_names import REMEDY, plain
from nnunetv2_mmkd.images import require_file, stem_of
from nnunetv2_mmkd.nifti_header import UNREADABLE, unreadable

logger = logging.getLogger(__name__)

_COPY = re.compile(r"[\s_-]*(?:\(\d+\)|\bcopy(?:[\s_-]*\d+)?|\.(?:part|tmp|crdownload)|~|\s\d+)$", re.IGNORECASE)
"""What systems put at the end of the name of a copy, or of what is not complete."""


def refuse_in_case(
    spec: EditionSpec, folder: Path, others: Iterable[str], images: Sequence[Path | None], label: Path | None
) -> None:
    """Refuse what looks like an image or a segmentation that a case does not have; name images that are not used.

    Args:
        spec: the edition.
        folder: of the case.
        others: names of what is in it and not used.
        images: per channel the file or None.
        label: the segmentation or None.

    Raises:
        InputError: there is such an entry; the message names it.
    """
    used = {plain(path.name) for path in (*images, label) if path is not None}
    absent = {
        channel.display: (channel.suffixes[0], "|".join(map(re.escape, channel.suffixes)))
        for channel, image in zip(spec.channels, images, strict=True)
        if image is None
    }
    unused = []
    for name in others:
        if name.startswith("._") and plain(name) in used:
            continue  # macOS writes them alongside the files of other disks
        end = "_" + name.casefold().replace(folder.name.casefold(), "", 1)
        looks = [what for what, (_, words) in absent.items() if re.search(rf"[_-]\s*(?i:{words})(?![a-z0-9])", end)]
        if label is None and any(word.casefold() in end for word in spec.label_suffixes):
            looks.append("segmentation")
        if looks:
            suffix = absent[looks[0]][0] if looks[0] in absent else spec.label_suffixes[0]
            raise InputError(
                f"{folder / name} looks like the {looks[0]} of case {folder.name}, for which no file was found; "
                f"expected {folder.name}_{suffix}.nii.gz. {REMEDY}"
            )
        if stem_of(name) is not None:
            unused.append(name)
    if unused and absent:
        logger.warning("case %s: no %s; not used: %s", folder.name, ", ".join(absent), first_few(unused, 5))


def refuse_copy(spec: EditionSpec, folder: Path, content: Iterable[Path]) -> None:
    """Refuse a folder with images whose name is a case's but for blanks, a copy's ending or that of a download.

    Raises:
        InputError: it is one.
    """
    bare = _COPY.sub("", folder.name.strip())
    if bare != folder.name and spec.is_case(bare) and any(stem_of(path.name) is not None for path in content):
        raise InputError(f"{folder} looks like the case {bare}: name it so, or move it out of the source folder")


def refuse_stray_files(spec: EditionSpec, paths: Iterable[Path], found: Collection[tuple[str, int]]) -> None:
    """Refuse what begins like an image or a segmentation that was not found (layout ``"files"``).

    Args:
        spec: the edition.
        paths: what was not taken.
        found: case and index of the channel (after these the label) of what was taken.

    Raises:
        InputError: there is such a file; the message names it.
    """
    present = {(plain(case), index) for case, index in found}
    for path in paths:
        name = path.name
        for end in (index for index in range(len(name), 0, -1) if not name[index : index + 1].isalnum()):
            parts = spec.split_stem(plain(name[:end]), path.parent.name)
            if parts is not None and (plain(parts[0]), parts[1]) not in present:
                raise InputError(
                    f"{path} looks like an image or segmentation of case {parts[0]} that was not found; expected "
                    f"{name[:end].strip()}.nii.gz. {REMEDY}"
                )


def refuse_unlike(case: str, plain: Path, zipped: Path) -> None:
    """Refuse ``x.nii`` beside ``x.nii.gz`` unless one is the other, unzipped.

    Raises:
        InputError: they differ, or one cannot be read.
    """
    for path in (plain, zipped):
        require_file(path)
    try:
        with plain.open("rb") as stored, gzip.open(zipped) as packed:
            alike = all(stored.read(len(part)) == part for part in iter(partial(packed.read, 1 << 20), b""))
            alike = alike and not stored.read(1)
    except UNREADABLE as error:
        raise unreadable(zipped, error) from error
    if not alike:
        raise InputError(
            f"case {case}: {zipped} is not {plain.name}, compressed: which of them is right cannot be told; keep it in "
            "the folder, and take the other out"
        )
