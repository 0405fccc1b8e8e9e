"""What lies in a folder in which nothing was found, for messages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from nnunetv2_mmkd.errors import first_few

_IMAGE = re.compile(r"\.(nii|nii\.gz|mha|mhd|nrrd|nhdr)$", re.IGNORECASE)
_DICOM = re.compile(r"\.(dcm|dicom|ima)$|^DICOMDIR$", re.IGNORECASE)
_ARCHIVE = re.compile(r"\.(zip|tar|tar\.gz|tgz|7z|rar)$", re.IGNORECASE)
_REMEDIES = {
    "image": "",
    "DICOM file": ": convert them to NIfTI first, e.g. with dcm2niix",
    "archive": ": unpack and give the folder",
    "file": ", and no image",
}
_MOST = 2000  # files that are looked at


def contents(folder: Path | str) -> str:
    """``"there are 3 DICOM files (s1/IM1.dcm, ...): convert them ..."``; folders below are looked into."""
    root = Path(folder)
    kinds: dict[str, list[str]] = {kind: [] for kind in _REMEDIES}
    for path in islice(_files(root), _MOST):
        kinds[_kind(path)].append(path.relative_to(root).as_posix())
    known = {kind: names for kind, names in kinds.items() if names and kind != "file"} or kinds
    said = [
        f"{len(names)} {kind}{'s' * (len(names) > 1)} ({first_few(names, 3)}){_REMEDIES[kind]}"
        for kind, names in known.items()
        if names
    ]
    return f"there {'is' if said[0].startswith('1 ') else 'are'} {'; '.join(said)}" if said else "it holds no file"


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _kind(path: Path) -> str:
    if _IMAGE.search(path.name):
        return "image"
    if _ARCHIVE.search(path.name):
        return "archive"
    return "DICOM file" if _DICOM.search(path.name) or _is_dicom(path) else "file"


def _is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does: such files often have no ending."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
