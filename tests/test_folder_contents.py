"""What a message says of a folder in which nothing was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunetv2_mmkd.folder_contents import contents

DICOM = b"\0" * 128 + b"DICM"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "it holds no file"),
        ({".hidden": b"", "__MACOSX/a.nii": b""}, "it holds no file"),
        ({"a.txt": b"", "b/c": b"short"}, "there are 2 files (a.txt, b/c), and no image"),
        ({"a.NII.GZ": b"", "b/c.mha": b"", "d.txt": b""}, "there are 2 images (a.NII.GZ, b/c.mha)"),
        (
            {"s/1": DICOM, "s/2.dcm": b""},
            "there are 2 DICOM files (s/1, s/2.dcm): convert them to NIfTI first, e.g. with",
        ),
        ({"a.zip": b""}, "there is 1 archive (a.zip): unpack and give the folder"),
        ({"a.nii": b"", "b.dcm": b""}, "there is 1 image (a.nii); 1 DICOM file (b.dcm): convert"),
    ],
)
def test_contents(files: dict[str, bytes], said: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert contents(tmp_path).startswith(said)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert contents(tmp_path / "x") == "it holds no file"
