"""An image is absent only where nothing in its folder looks like it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.image_names import list_images, refuse_halves, refuse_twins

ABSENT = {"a_0001": "case a, t1ce"}

LOOKALIKES: dict[str, Callable[[Path], object]] = {
    **{
        name: lambda path: path.write_bytes(b"")
        for name in (
            "a_0001.NII.GZ", "A_0001.nii.gz.part", "a_0001.nii.gz.tmp", "a_0001.nii.gz.crdownload", "a_0001.nii.gz~",
            "~a_0001.nii.gz.x", "a_0001.nii", "a_0001.mha", "a_0001.json", "a_0001", "a_0001nii.gz",
            ".a_0001.nii.gz.Xy12", "._a_0001.nii.gz", "a_0001.nii.gz ", "a_0001 .nii.gz.bak", "a_0001 (1).nii.gz.part",
            "a_0001 copy.nii",
            "a _0001.nii", "b.nii.gz.part", "b.NII",
        )
    },
    "a_0001.nii.gz": lambda path: path.mkdir(),
    "a_0001.nii.gz/": lambda path: path.symlink_to("nowhere"),
    "a_0001.nii.gz//": lambda path: os.mkfifo(path),
    "a_0001.nii.gz///": lambda path: path.symlink_to(path.name),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOKALIKES)
def test_lookalikes_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "a_0000.nii.gz").write_bytes(b"")
    LOOKALIKES[name](tmp_path / name.rstrip("/"))
    content = list_images(tmp_path, ".nii.gz")
    assert content.images == ("a_0000.nii.gz",)
    with pytest.raises(InputError, match="take it out of the folder") as caught:
        content.refuse_lookalikes(ABSENT)
    assert str(tmp_path / name.rstrip("/")) in str(caught.value)


def test_what_is_nothing_like_an_image_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    junk = ("._a_0000.nii.gz", ".DS_Store", "notes.txt", "a_0000.json", "a_0000.nii.md5", "a_00010.txt", "b_0001.txt")
    for name in ("a_0000.nii.gz", *junk):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "more").mkdir()
    content = list_images(tmp_path, ".nii.gz")
    with caplog.at_level(logging.INFO):
        content.refuse_lookalikes(ABSENT)
    assert content.stems == ["a_0000"]
    assert caplog.messages == [f"{tmp_path}: not images, not read: a_0000.json, a_0000.nii.md5"]


def test_a_second_image_of_another_letter_case(tmp_path: Path) -> None:
    for name in ("a_0000.nii.gz", "A_0000.NII.gz"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"A_0000\.NII\.gz and an image differ only in letter case"):
        list_images(tmp_path, ".nii.gz").refuse_lookalikes({})


def test_folders_that_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, message in {"none": "does not exist", "file": "is a file, not a folder"}.items():
        with pytest.raises(InputError, match=f"{name} {message}"):
            list_images(tmp_path / name, ".nii.gz")
    (tmp_path / os.fsdecode(b"\xff.nii.gz")).write_text("")
    with pytest.raises(InputError, match="is not UTF-8"):
        list_images(tmp_path, ".nii.gz")


@pytest.mark.parametrize("names", [("Case 1", "case 1"), ("case1", "case 1"), ("e\u0301", "\u00e9"), ("a", "a ")])
def test_twins(names: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="differ only in letter case or blanks") as caught:
        refuse_twins(["other", *names], "folder")
    assert all(repr(name) in str(caught.value) for name in names)


def test_copies() -> None:
    refuse_twins(["a (1)", "a (2)", "copy", "b copy"], "folder")
    for copy in ("a (1)", "A - Copy", "copy of a", "a_copy"):
        with pytest.raises(InputError, match=rf"'a' and '{re.escape(copy)}' differ only in what marks a copy"):
            refuse_twins([copy, "a"], "folder")


def test_halves_of_one_case() -> None:
    refuse_twins(["a_1", "a-1", "a_11", "a_1_1"], "folder")
    refuse_halves({"a_1_1": {0}, "a_11": {1}, "b-1": {0, 1}, "b_1": {1, 2}}, "folder")
    for other in ("my_patient", "My patient_", "Copy of My patient", "My patient - copy", "my patient (1)"):
        with pytest.raises(InputError, match=f"'My patient' and '{re.escape(other)}' have different images"):
            refuse_halves({"My patient": {0}, other: {1, 2}}, "folder")
