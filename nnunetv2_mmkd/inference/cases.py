"""Which images belong to which case, and which of them are missing: by suffix, never by position in a listing.

Legend: M modalities, in channel order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES
from torch import Tensor

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.reader import is_placeholder, placeholder

NO_FILE = "no file"
"""Why a modality is missing: its image does not exist."""


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


def cases_of_folder(folder: str, modalities: Sequence[str], file_ending: str) -> list[Case]:
    """The cases of a folder in nnU-Net's naming, ``CASE_XXXX`` + file ending, any subset of the channels per case.

    Raises:
        InputError: the folder does not exist or has no case; a file has no channel suffix, a channel that the model has
            not, or another file ending than the model reads where an image would otherwise be missing.
    """
    if not os.path.isdir(folder):
        raise InputError(f"input folder {folder} does not exist")
    names = sorted(
        entry.name for entry in os.scandir(folder) if not os.path.isdir(entry.path) and not entry.name.startswith(".")
    )
    found: dict[str, dict[int, str]] = {}
    for name in names:
        if name.endswith(file_ending):
            identifier, channel = _split(os.path.join(folder, name), modalities, file_ending)
            found.setdefault(identifier, {})[channel] = os.path.join(folder, name)
    _refuse_other_endings(folder, names, found, file_ending)
    if not found:
        raise InputError(
            f"input folder {folder} has no image CASE_XXXX{file_ending} (XXXX: the channel, 0000 for {modalities[0]})"
        )
    channels = range(len(modalities))
    return [case_of_files(case, modalities, [files.get(i) for i in channels]) for case, files in sorted(found.items())]


def cases_of_lists(lists: Iterable[Sequence[str | None]], modalities: Sequence[str], file_ending: str) -> list[Case]:
    """Cases from lists of files: one entry per modality (None: missing), or fewer, told apart by their suffix.

    Raises:
        InputError: a list without a file, a list that is shorter and whose files have no channel suffix, or two files
            for one channel.
    """
    cases = []
    for entries in lists:
        real = [str(entry) for entry in entries if entry is not None and not is_placeholder(str(entry))]
        if not real:
            raise InputError(f"a case of the input list has no image: {list(entries)}")
        if len(entries) == len(modalities):
            named = re.fullmatch(r"(.+)_\d{4}", _stem(real[0], file_ending))
            identifier = named[1] if named else _stem(real[0], file_ending)
            files = [str(entry) if entry is not None and str(entry) in real else None for entry in entries]
        else:
            files = [None] * len(modalities)
            for file in real:
                identifier, channel = _split(file, modalities, file_ending)
                if files[channel] is not None:
                    raise InputError(f"case {identifier}: {files[channel]} and {file} are both {modalities[channel]}")
                files[channel] = file
        cases.append(case_of_files(identifier, modalities, files))
    return cases


def _stem(file: str, file_ending: str) -> str:
    name = os.path.basename(file)
    return name[: -len(file_ending)] if name.endswith(file_ending) else name


def _split(file: str, modalities: Sequence[str], file_ending: str) -> tuple[str, int]:
    channels = ", ".join(f"_{channel:04d} {name}" for channel, name in enumerate(modalities))
    named = re.fullmatch(r"(.+)_(\d{4})", _stem(file, file_ending))
    if named is None:
        raise InputError(
            f"{file} has no channel suffix: images are named CASE_XXXX{file_ending} with {channels}. Rename the file "
            "or take it out of the input folder"
        )
    identifier, channel = named[1], int(named[2])
    if channel >= len(modalities):
        raise InputError(
            f"{file} (case {identifier}): this model has no channel {named[2]}, only {channels}. Rename the file or "
            "take it out of the input folder"
        )
    return identifier, channel


def _refuse_other_endings(
    folder: str, names: Iterable[str], found: Mapping[str, Mapping[int, str]], file_ending: str
) -> None:
    """An image in another file format must not count as missing without a word."""
    endings = {ending for reader in LIST_OF_IO_CLASSES for ending in reader.supported_file_endings} - {file_ending}
    pattern = re.compile(r"(.+)_(\d{4})(?:" + "|".join(map(re.escape, sorted(endings))) + ")", re.IGNORECASE)
    for name in names:
        other = pattern.fullmatch(name)
        if other and int(other[2]) not in found.get(other[1], {}):
            raise InputError(
                f"{os.path.join(folder, name)} (case {other[1]}): this model reads {file_ending}, and there is no "
                f"{other[1]}_{other[2]}{file_ending}. Convert the file; if it is to count as "
                "missing, take it out of the folder"
            )
