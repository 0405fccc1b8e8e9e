"""What is known of an aligned case: a file in its folder, from which segmentations find the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import SimpleITK as sitk

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import Marker, within, write_json
from nnunetv2_mmkd.nnunet_json import read_object

RECORD = "alignment.json"
"""In the folder of a case; written last."""
CHECK_IMAGE = "check.png"
TRANSFORMS = "transforms"
"""Folder of a case's transforms, one a sequence, in ITK's text format."""
ALIGNMENT = Marker(
    "mmkd_alignment.json", "aligned images", "choose another -o, or remove this folder, or give the options of before"
)
"""First file of the output folder: what it was made from, and how."""
_VERSION = 1  # raise it when other images would be written


@dataclass(frozen=True)
class Sequence:
    """One sequence of an aligned case.

    Attributes:
        source: its file; it need not exist any more.
        image: name of the aligned image, in the case's folder.
        transform: name of its transform there: point of the aligned grid -> point of the source, mm, LPS.
        header: the source's NIfTI header (348 bytes, hexadecimal): its grid, on which segmentations are written.
        rotation: of the transform, degrees.
        shift: how far it moves the head's centre, mm; to the atlas, where there is one.
        agreement: how much better the sequence fits the reference here than where it does not belong, see
            :mod:`.agreement`; None: it is the reference.
        overlap: share of the reference's head that it covers.
    """

    source: str
    image: str
    transform: str
    header: str
    rotation: float
    shift: float
    agreement: float | None = None
    overlap: float | None = None

    def nifti_header(self) -> nib.Nifti1Header:
        """The source's header, of three dimensions."""
        return nib.Nifti1Header(bytes.fromhex(self.header))


@dataclass(frozen=True)
class Record:
    """One aligned case.

    Attributes:
        case: its name.
        reference: the sequence that the others were brought onto.
        space: ``"reference"``, or the name of the atlas.
        sequences: modality -> sequence, in channel order.
        fingerprint: version, path, size and time of each source.
        messages: what was said about the case.
    """

    case: str
    reference: str
    space: str
    sequences: Mapping[str, Sequence]
    fingerprint: list[Any] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write it into the case's folder."""
        write_json(folder / RECORD, asdict(self))

    def transform(self, folder: Path, modality: str) -> sitk.Transform:
        """The transform of a sequence: point of the aligned grid -> point of the source.

        Raises:
            InputError: it is absent or damaged.
        """
        path = within(folder, self.sequences[modality].transform)
        try:
            transform: sitk.Transform = sitk.ReadTransform(str(path))
        except RuntimeError as error:
            raise InputError(
                f"{path}: cannot be read as a transform; align the case again (delete {folder})"
            ) from error
        return transform


def fingerprint(images: Mapping[str, Path]) -> list[Any]:
    """Path, size and modification time of every source file, JSON-able."""
    stats = [(name, path, path.stat()) for name, path in images.items()]
    return [_VERSION, *([name, str(path.resolve()), stat.st_size, stat.st_mtime_ns] for name, path, stat in stats)]


def read_record(folder: Path) -> Record:
    """The record in a case's folder.

    Raises:
        InputError: there is none, or it is damaged.
    """
    content = read_object(folder / RECORD)
    try:
        sequences = {str(name): Sequence(**entry) for name, entry in content["sequences"].items()}
        record = Record(**{**content, "sequences": sequences})
        for each in sequences.values():
            each.nifti_header()
            within(folder, each.image)
            within(folder, each.transform)
    except (InputError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{folder / RECORD} is damaged: delete {folder} and align the case again") from error
    return record
