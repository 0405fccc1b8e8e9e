"""Which images belong to which case, and which of them are missing: by suffix, never by position in a listing.

Legend: M modalities, in channel order.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES
from torch import Tensor

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.folder_contents import contents
from nnunetv2_mmkd.image_names import list_images, refuse_halves, refuse_twins
from nnunetv2_mmkd.inference.naming import ImageNaming
from nnunetv2_mmkd.inference.reader import is_placeholder, placeholder

log = logging.getLogger(__name__)

NO_FILE = "no file"
"""Why a modality is missing: its image does not exist."""
DECLARED = "declared missing in dataset.json"
"""The same, where the ``dataset.json`` next to the images says so; its image is not read."""


@dataclass(frozen=True)
class Case:
    """A case to predict.

    Attributes:
        identifier: name of the case, without channel suffix and file ending.
        modalities: names of the M channels.
        files: M entries; None where there is no file or it is not to be read.
        missing: why, for each missing modality.
    """

    identifier: str
    modalities: tuple[str, ...]
    files: tuple[str | None, ...]
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def available(self) -> Tensor:
        """Bool ``[M]``."""
        return torch.tensor([name not in self.missing for name in self.modalities])

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the modalities that are available."""
        return tuple(name for name in self.modalities if name not in self.missing)

    def entries(self, file_ending: str) -> list[str]:
        """The file list for nnU-Net: M entries, with placeholders for what is missing."""
        return [
            file if file is not None else placeholder(self.identifier, channel, file_ending)
            for channel, file in enumerate(self.files)
        ]

    def without(self, reasons: Mapping[str, str]) -> Case:
        """The case with more modalities missing.

        Args:
            reasons: why, for each of them; a reason that is already known stays.

        Raises:
            InputError: nothing would be left.
        """
        missing = {
            name: {**reasons, **self.missing}[name] for name in self.modalities if name in {**reasons, **self.missing}
        }
        if len(missing) == len(self.modalities):
            why = ", ".join(f"{name}: {reason}" for name, reason in missing.items())
            raise InputError(
                f"case {self.identifier}: no image would be left ({why}); at least one modality must be available. "
                "Add an image, exclude fewer modalities, or take the case out of the input"
            )
        files = tuple(None if name in missing else file for name, file in zip(self.modalities, self.files, strict=True))
        return replace(self, files=files, missing=missing)


def case_of_files(identifier: str, modalities: Sequence[str], files: Sequence[str | None]) -> Case:
    """A case from its files; None means missing.

    Raises:
        InputError: no file at all.
    """
    case = Case(identifier, tuple(modalities), tuple(files))
    return case.without({name: NO_FILE for name, file in zip(modalities, files, strict=True) if file is None})


def require_modalities(cases: Iterable[Case], subset: Sequence[str]) -> None:
    """Refuse cases that a specialist cannot predict.

    Args:
        cases: to be predicted.
        subset: what the model needs; nothing: a model for any subset.

    Raises:
        InputError: a case lacks one of them.
    """
    for case in cases:
        lacking = [name for name in subset if name in case.missing]
        if lacking:
            raise InputError(
                f"case {case.identifier} has no {lacking[0]} ({case.missing[lacking[0]]}), and this model is a "
                f"specialist for {' + '.join(subset)}. Predict the case with a model for any subset (-tr or -m, also "
                "together with --models), or take it out of the input"
            )


def cases_of_folder(folder: str, naming: ImageNaming) -> list[Case]:
    """The cases of a folder in nnU-Net's naming, ``CASE_XXXX`` + file ending, any subset of the channels per case.

    Raises:
        InputError: the folder does not exist or has no case; a file has no channel suffix, a channel that the model has
            not, or another file ending than the model reads where an image would otherwise be missing; something looks
            like an image that is missing; two cases have all but the same name.
    """
    content = list_images(folder, naming.file_ending)
    found: dict[str, dict[int, str]] = {}
    for name in content.images:
        identifier, number = _split(os.path.join(folder, name), naming)
        found.setdefault(identifier, {})[number] = os.path.join(folder, name)
    naming = _in_order(naming, found, folder)
    for identifier, files in found.items():
        for number, file in files.items():
            if number not in naming.channels:
                raise InputError(_unknown_channel(file, identifier, number, naming))
    refuse_twins(found, folder)
    refuse_halves({case: files for case, files in found.items() if len(files) < len(naming.channels)}, folder)
    absent = {
        f"{case}_{number:04d}": f"case {case}, {naming.modalities[channel]}"
        for case, files in found.items()
        for number, channel in naming.channels.items()
        if number not in files
    }
    content.refuse_lookalikes(absent, partial(_unread_image, naming=naming))
    if not found:
        raise InputError(
            f"input folder {folder} has no image CASE_XXXX{naming.file_ending} (XXXX: the channel; {naming.shown()}); "
            f"{contents(folder)}"
        )
    _warn_numbered(folder, found, naming)
    number_of = {channel: number for number, channel in naming.channels.items()}
    channels = range(len(naming.modalities))
    return [
        case_of_files(case, naming.modalities, [files.get(number_of.get(channel, -1)) for channel in channels]).without(
            dict.fromkeys(naming.missing.get(case, ()), DECLARED)
        )
        for case, files in sorted(found.items())
    ]


def cases_of_lists(lists: Iterable[Sequence[str | None]], naming: ImageNaming) -> list[Case]:
    """Cases from lists of files: one entry per modality (None: missing), or fewer, told apart by their suffix.

    Raises:
        InputError: a list without a file, a list that is shorter and whose files have no channel suffix, or two files
            for one channel.
    """
    cases = []
    modalities = naming.modalities
    for entries in lists:
        real = [str(entry) for entry in entries if entry is not None and not is_placeholder(str(entry))]
        if not real:
            raise InputError(f"a case of the input list has no image: {list(entries)}")
        if len(entries) == len(modalities):
            stem = _stem(real[0], naming.file_ending)
            named = re.fullmatch(r"(.+)_\d{4}", stem)
            identifier = named[1] if named else stem
            files = [str(entry) if entry is not None and str(entry) in real else None for entry in entries]
        else:
            files = [None] * len(modalities)
            for file in real:
                identifier, number = _split(file, naming)
                if number not in naming.channels:
                    raise InputError(_unknown_channel(file, identifier, number, naming))
                channel = naming.channels[number]
                if files[channel] is not None:
                    raise InputError(f"case {identifier}: {files[channel]} and {file} are both {modalities[channel]}")
                files[channel] = file
        cases.append(case_of_files(identifier, modalities, files))
    return cases


def _stem(file: str, file_ending: str) -> str:
    name = os.path.basename(file)
    return name[: -len(file_ending)] if name.endswith(file_ending) else name


def _split(file: str, naming: ImageNaming) -> tuple[str, int]:
    named = re.fullmatch(r"(.+)_([0-9]{4})", _stem(file, naming.file_ending))
    if named is None:
        raise InputError(
            f"{file} has no channel suffix: images are named CASE_XXXX{naming.file_ending} with {naming.shown()}. "
            "Rename the file or take it out of the input folder"
        )
    return named[1], int(named[2])


def _unknown_channel(file: str, identifier: str, number: int, naming: ImageNaming) -> str:
    what = f"{naming.source} has no channel {number:04d}, only {naming.shown()}"
    if number in naming.unknown:
        what = f"{naming.source} says that {number:04d} is {naming.unknown[number]}, which the model does not have"
    return (
        f"{file} (case {identifier}): {what}. XXXX in CASE_XXXX{naming.file_ending} is the channel, not the case. "
        "Rename the file or take it out of the input folder"
    )


def _in_order(naming: ImageNaming, found: Mapping[str, Mapping[int, str]], folder: str) -> ImageNaming:
    """Images that are numbered from 0 although ``channel_names`` is not: nnU-Net takes whole cases in their order."""
    plain = range(len(naming.channels))
    if set(naming.channels) == {*plain} or not found or any(set(files) != {*plain} for files in found.values()):
        return naming
    log.warning(
        "%s: the images are numbered from 0, channel_names of %s is not (%s); all cases are whole, so their images are "
        "taken in this order, as nnU-Net does", folder, naming.source, naming.shown(),
    )  # fmt: skip
    return replace(naming, channels=dict(zip(plain, naming.channels.values(), strict=True)))


def _warn_numbered(folder: str, found: Mapping[str, Mapping[int, str]], naming: ImageNaming) -> None:
    """Ask back where no case has the first channel: the numbers may be those of cases."""
    first = min(naming.channels)
    if not any(first in files for files in found.values()):
        case, files = next(iter(sorted(found.items())))
        log.warning(
            "%s: is %s meant as one case with %d images? XXXX in CASE_XXXX%s is the channel, not the case: %s. If the "
            "files are different cases, name them such as %s_%04d_%04d%s",
            folder, ", ".join(sorted(map(os.path.basename, files.values()))), len(files), naming.file_ending,
            naming.shown(), case, min(files), first, naming.file_ending,
        )  # fmt: skip


def _unread_image(name: str, naming: ImageNaming) -> str | None:
    """What image an entry could be that the model does not read: another format, a folder ``CASE_XXXX``."""
    numbered = re.search(r"_([0-9]{4})(?![0-9])", name)
    if numbered and int(numbered[1]) in naming.channels:
        return f"{name[: numbered.end()]}{naming.file_ending} (case {name[: numbered.start()].lstrip('._')})"
    if numbered and re.fullmatch("|".join(map(re.escape, _ENDINGS)), name[numbered.end() :], re.IGNORECASE):
        return f"an image of case {name[: numbered.start()]}"
    return None


_ENDINGS = sorted({ending for reader in LIST_OF_IO_CLASSES for ending in reader.supported_file_endings})
