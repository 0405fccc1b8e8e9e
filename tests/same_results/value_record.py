"""What is recorded: values by name, contents of files."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import json
import re
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from same_results.exact_values import digest, exact, leaves

UNRECORDED = {
    "mmkd_config.json", "debug.json", "plans.json", "predict_from_raw_data_args.json", "dataset_fingerprint.json",
}  # fmt: skip
"""Files that name classes, or that nnU-Net copies."""

INTERNAL = ("scores/*", "predictions/*.json")
"""What ``mmkd evaluate`` keeps for itself, to go on where it stopped."""


class Record:
    """Values by part and name, and what went wrong.

    Args:
        root: a folder whose path is taken out of all texts.
    """

    def __init__(self, root: Path) -> None:
        self.parts: dict[str, dict[str, Any]] = {}
        self.part = ""
        self.problems: list[str] = []
        self.roots = sorted({str(root), str(root.resolve())}, key=len, reverse=True)

    def add(self, name: str, value: Any) -> None:
        """Add one value: a number, a text, or a list of them."""
        values = self.parts.setdefault(self.part, {})
        if name in values:
            raise ValueError(f"{name} is recorded twice")
        values[name] = [self._plain(each) for each in value] if isinstance(value, list) else self._plain(value)

    def add_leaves(self, name: str, value: Any) -> None:
        """Add the leaves of nested containers."""
        for path, leaf in leaves(value, name):
            self.add(path, leaf)

    def _plain(self, value: Any) -> Any:
        value = exact(value)
        return self.without_paths(value) if isinstance(value, str) else value

    def without_paths(self, text: str) -> str:
        """A text without the temporary folder and the package's version."""
        for root in self.roots:
            text = text.replace(root, "WORK")
        return re.sub(r"(nnunetv2[-_]mmkd) \d[\w.+]*", r"\1 VERSION", text)

    def add_folder(self, name: str, folder: Path, leave_out: Iterable[str] = ()) -> None:
        """Add all files below a folder that a user relies on.

        Args:
            name: before the files' names.
            folder: may be absent; that is recorded, too.
            leave_out: patterns of paths within the folder; ``*`` goes across folders.
        """
        if not folder.is_dir():
            self.add(f"{name}/is there", False)
            return
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        for path in files:
            within = path.relative_to(folder)
            hidden = any(part.startswith(".") for part in within.parts)
            left_out = any(fnmatch.fnmatch(within.as_posix(), pattern) for pattern in leave_out)
            if hidden or left_out or path.name in UNRECORDED:
                continue
            self.add_file(f"{name}/{within.as_posix()}", path)

    def add_file(self, name: str, path: Path) -> None:
        """Add the content of one file; pictures, logs and pickles are passed over."""
        if path.name.endswith((".nii.gz", ".nii")):
            self._add_image(name, path)
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                for key in arrays.files:
                    self.add(f"{name}/{key}", digest(arrays[key]))
        elif path.suffix == ".json":
            self.add_leaves(name, json.loads(path.read_text(encoding="utf-8")))
        elif path.suffix in (".csv", ".md", ".tex", ".yaml"):
            self.add(name, path.read_bytes().decode())
        elif path.name.endswith((".zip", ".tar.gz")):
            self._add_archive(name, path)

    def _add_image(self, name: str, path: Path) -> None:
        image = nibabel.load(path)
        voxels = np.asanyarray(image.dataobj)  # type: ignore[attr-defined]
        self.add(f"{name}/voxels", digest([voxels, np.asarray(image.affine)]))  # type: ignore[attr-defined]
        self.add(f"{name}/header", hashlib.sha256(image.header.binaryblock).hexdigest())  # type: ignore[attr-defined]

    def _add_archive(self, name: str, path: Path) -> None:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                members = {each: archive.read(each) for each in archive.namelist()}
        else:
            with tarfile.open(path) as packed:
                found = {each.name: packed.extractfile(each) for each in packed.getmembers()}
                members = {each: stream.read() if stream else b"" for each, stream in found.items()}
        self.add(f"{name}/names", list(members))
        for each, content in members.items():
            content = gzip.decompress(content) if each.endswith(".gz") else content  # its header may have the time
            self.add(f"{name}/{each}", hashlib.sha256(content).hexdigest())
