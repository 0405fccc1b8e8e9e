"""The exams in a folder, for ``mmkd align`` and ``mmkd preprocess``: found as ``mmkd predict`` finds its cases."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.editions.spellings import USUAL, Speller
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.folder_contents import contents
from nnunetv2_mmkd.image_names import list_images
from nnunetv2_mmkd.inference.input_folder import read_folder
from nnunetv2_mmkd.inference.manifest import read_manifest
from nnunetv2_mmkd.names import canonical, channel_suffixes, modality_names
from nnunetv2_mmkd.nnunet_json import read_object
from nnunetv2_mmkd.registration.exam import Exam

log = logging.getLogger(__name__)

_ENDINGS = (".nii.gz", ".nii")


def find_exams(
    folder: Path,
    spellings: Mapping[str, Sequence[str]] | None = None,
    ignored: Sequence[str] = (),
    manifest: Path | None = None,
) -> list[Exam]:
    """All exams of a folder, sorted by name; what was taken for what is said.

    Args:
        folder: case folders, flat files or BIDS in any spelling, or nnU-Net's ``CASE_XXXX``.
        spellings: modality -> words that stand for it in file names. Of ``CASE_XXXX`` they are the channels in their
            order, where no ``dataset.json`` in or above the folder says them.
        ignored: words; files whose names have one are left out.
        manifest: table of the exams (:mod:`~nnunetv2_mmkd.inference.manifest`), with paths relative to the folder.

    Raises:
        InputError: no exam, or a bad table; a file whose modality is not known or could be two; two files for one.
    """
    own = dict(spellings or {})
    if manifest is not None:
        return _said(_of_manifest(manifest, folder), folder)
    content = list_images(folder, _ENDINGS[0])
    if not ignored and any(re.fullmatch(r".+_[0-9]{4}", stem) for stem in content.stems):
        found = _of_channels(folder, own)
    else:
        modalities = tuple(dict.fromkeys((*map(canonical, own), *USUAL)))
        words = {name: each or (name,) for name, each in own.items()}
        cases = read_folder(folder, Speller(modalities, words, EDITIONS.values()), _ENDINGS, ignored).cases
        found = {
            case: {modalities[index]: path for index, path in sorted(images.items())} for case, images in cases.items()
        }
    if not found:
        raise InputError(
            f"{folder} has no image *.nii.gz whose name says a sequence; expected CASE_t1.nii.gz, CASE_flair.nii.gz, "
            f"..., or CASE_0000.nii.gz with --modalities T1 T1ce ...; {contents(folder)}"
        )
    return _said(found, folder)


def _said(found: Mapping[str, Mapping[str, Path]], folder: Path) -> list[Exam]:
    """The exams, of which a line each says what was taken for what."""
    exams = [Exam(case, found[case]) for case in sorted(found)]
    for exam in exams:
        taken = ", ".join(f"{name} = {os.path.relpath(path, folder)}" for name, path in exam.images.items())
        log.info("%s: %s", exam.case, taken)
    return exams


def _of_manifest(manifest: Path, folder: Path) -> dict[str, dict[str, Path]]:
    """The exams of a table."""
    modalities = tuple(USUAL)
    return {
        case: {modalities[index]: path for index, path in sorted(images.items())}
        for case, images in read_manifest(manifest, modalities, folder).items()
    }


def _of_channels(folder: Path, spellings: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Path]]:
    """The cases of a folder in nnU-Net's naming."""
    from nnunetv2_mmkd.inference.cases import cases_of_folder  # heavy: torch
    from nnunetv2_mmkd.inference.naming import ImageNaming

    source, names = "--modalities", dict(enumerate(map(canonical, spellings)))
    for place in () if names else (folder, folder.resolve().parent):
        if (place / "dataset.json").is_file():
            source = str(place / "dataset.json")
            content = read_object(place / "dataset.json")
            names = dict(zip(channel_suffixes(content), modality_names(content, source), strict=True))
            break
    if not names:
        raise InputError(
            f"{folder} has CASE_XXXX files, and no dataset.json says what the channels are: give their names in order, "
            "e.g. --modalities T1 T1ce T2 FLAIR"
        )
    modalities = tuple(names.values())
    naming = ImageNaming(modalities, _ENDINGS[0], {number: i for i, number in enumerate(names)}, source, {})
    return {
        case.identifier: {
            name: Path(file) for name, file in zip(modalities, case.files, strict=True) if file is not None
        }
        for case in cases_of_folder(str(folder), naming)
    }
