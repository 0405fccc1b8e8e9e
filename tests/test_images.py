"""Files that are worth reading, and those that are not."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.figures.planes import read_picture
from nnunetv2_mmkd.evaluation.label_map import read_grid, read_label_map
from nnunetv2_mmkd.images import read_header, read_volume, require_file, stem_of


def image(fill: float = 1.0) -> bytes:
    """A NIfTI file, uncompressed."""
    return bytes(nib.Nifti1Image(np.full((4, 5, 6), fill, np.float32), np.eye(4)).to_bytes())


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("a.nii", image()),
        ("a.nii.gz", gzip.compress(image())),
        ("A.NII.GZ", gzip.compress(image())),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,  # compressed bytes hold the time
)
def test_intact_files(name: str, stored: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(stored)
    read_volume(tmp_path / name)


@pytest.mark.parametrize(("name", "stored"), [("a.nii", gzip.compress(image())), ("a.nii.gz", image())], ids=["a", "b"])
@pytest.mark.parametrize("read", [read_header, read_volume])
def test_names_say_whether_files_are_compressed(
    name: str, stored: bytes, read: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(stored)
    with pytest.raises(InputError, match=rf"{name} is .*gzip-compressed, other than its name says"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "stored", "message"),
    [
        ("a.nii", b"", "cannot be read as NIfTI"),
        ("a.nii", image()[:-1], "cannot be read as NIfTI"),
        ("a.nii.gz", gzip.compress(image())[:-9], "cannot be read as NIfTI"),
        ("a.nii.gz", gzip.compress(image())[:-8] + bytes(8), "CRC check failed"),
        ("a.nii.gz", gzip.compress(image(np.nan)), "120 voxels are NaN or infinite"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_damaged_files_are_named(name: str, stored: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(stored)
    with pytest.raises(InputError, match=rf"{name}: .*{message}.*; get a good copy"):
        read_volume(tmp_path / name)


AFFINE = np.array([[-1, 0, 0, 5.0], [0, -1.2, 0, 8], [0, 0, 1.5, -3], [0, 0, 0, 1]])
FIELDS = {
    "dim": (40, "8h"),
    "datatype": (70, "h"),
    "pixdim": (76, "8f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "magic": (345, "B"),
}


def changed(**fields: object) -> bytes:
    """A NIfTI file with other values in its header."""
    content = bytearray(forms(AFFINE, 1, AFFINE, 1))
    for field, value in fields.items():
        offset, form = FIELDS[field]
        struct.pack_into(f"<{form}", content, offset, *np.atleast_1d(value).tolist())
    return bytes(content)


def forms(sform: np.ndarray, scode: int, qform: np.ndarray, qcode: int, **units: str) -> bytes:
    """A NIfTI file with these forms."""
    picture = nib.Nifti1Image(np.ones((4, 5, 6), np.float32), AFFINE)
    picture.set_sform(sform, scode)
    picture.set_qform(qform, qcode)
    if units:
        picture.header.set_xyzt_units(**units)
    return bytes(picture.to_bytes())


def pixdim(*sizes: float) -> bytes:
    """A NIfTI file with these voxel sizes."""
    return changed(pixdim=[1, *sizes, 1, 1, 1, 1])


SHEARED = AFFINE + np.outer([1, 0, 0, 0], [0, 0.3, 0, 0])
MOVED = AFFINE + np.outer([1, 0, 0, 0], [0, 0, 0, 30])
NEAR = AFFINE + np.outer([1, 0, 0, 0], [0, 0, 0, 0.05])


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (pixdim(np.nan, 1.2, 1.5), r"pixdim \(voxel size\) \[nan, 1.2"),
        (pixdim(0, 1.2, 1.5), r"pixdim \(voxel size\) \[0.0, 1.2"),
        (pixdim(-1, 1.2, 1.5), r"pixdim \(voxel size\) \[-1.0, 1.2"),
        (pixdim(8, 8, 8), r"pixdim .* says voxel size \[8.0, 8.0, 8.0\] mm, its affine says \[1.0, 1.2, 1.5\]"),
        (changed(scl_slope=1e38, scl_inter=1e38), r"values up to 2e\+38"),
        (changed(scl_slope=1e-37), "scl_slope 1e-37"),
        (changed(scl_slope=1, scl_inter=np.nan), "cannot be read"),
        (forms(SHEARED, 1, AFFINE, 0), "sheared"),
        (forms(MOVED, 2, AFFINE, 1), r"ambiguous .*\[35.*\] mm as LPS, SimpleITK at \[5"),
        (forms(AFFINE, 0, AFFINE, 0), "sform_code and qform_code are 0"),
        (forms(AFFINE, 1, AFFINE, 1, xyz="micron"), "ambiguous"),
        (changed(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]), "more than any image has"),
        (changed(dim=[3, 300, 300, 300, 1, 1, 1, 1]), "truncated"),
        (changed(dim=[4, 2, 5, 6, 2, 1, 1, 1]), r"shape \(2, 5, 6, 2\); expected a 3-D image"),
        (changed(dim=[3, 4, 0, 6, 1, 1, 1, 1]), r"shape \(4, 0, 6\)"),
        (changed(magic=0), "of a pair of files"),
        (changed(datatype=128), "voxels of type"),  # RGB
        (changed(datatype=32), "voxels of type complex64"),
        (changed(datatype=1536), "voxels of type float128|cannot be read"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_header_that_cannot_be_believed(stored: bytes, message: str, compressed: bool, tmp_path: Path) -> None:
    file = tmp_path / "a.nii"
    file.write_bytes(gzip.compress(stored) if compressed else stored)
    with pytest.raises(InputError, match=rf"a\.nii.*({message})"):
        read_volume(file)


@pytest.mark.parametrize(
    "stored",
    [
        forms(AFFINE, 1, AFFINE, 0),
        forms(AFFINE, 0, AFFINE, 1),
        forms(NEAR, 2, AFFINE, 1),
        forms(SHEARED, 0, AFFINE, 1),
        changed(scl_slope=0),
        changed(scl_slope=np.nan),
        changed() + bytes(1000),
    ],
    ids=["sform", "qform", "nearly the same", "sform unused", "no slope", "NaN for no slope", "bytes after the end"],
)
def test_a_header_that_all_read_alike(stored: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(stored)
    assert (read_volume(tmp_path / "a.nii").voxels == 1).all()


@pytest.mark.parametrize("shape", [(4, 5, 6, 1), (4, 5, 6, 1, 1), (4, 5)])
def test_further_axes_of_one_voxel_do_not_matter(shape: tuple[int, ...], tmp_path: Path) -> None:
    voxels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    nib.save(nib.Nifti1Image(voxels, AFFINE), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    assert volume.squeezed and volume.voxels.shape == volume.grid.shape == (*shape, 1)[:3]
    assert (volume.voxels == voxels.reshape(volume.voxels.shape)).all()
    assert nib.Nifti1Image.from_bytes(volume.plain).shape == volume.voxels.shape
    assert read_header(tmp_path / "a.nii.gz").get_data_shape() == volume.voxels.shape


def test_no_more_is_unzipped_than_the_header_says(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(image() + bytes(1 << 26)))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"a\.nii\.gz: holds more than the 832 bytes that its header says"):
        read_volume(tmp_path / "a.nii.gz")
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "is a named pipe"),
        (os.mkdir, "is a folder"),
        (lambda path: path.symlink_to("nowhere"), "is a link to nowhere"),
        (lambda path: path.symlink_to(path), "is a link to .*leads nowhere"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
        (lambda path: None, "does not exist"),
    ],
)
def test_what_is_no_file_is_not_opened(make: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    make(tmp_path / "a.nii.gz")
    for read in (read_header, read_volume):
        with pytest.raises(InputError, match=rf"a\.nii\.gz:? {message}"):
            read(tmp_path / "a.nii.gz")


META = b"ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\n"
NRRD = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n"


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a.mha", META + b"ElementDataFile = /etc/passwd\n", "/etc/passwd"),
        ("a.mha", META + b"ElementDataFile = ../b.raw\n", "../b.raw"),
        ("a.MHD", META + b"ElementDataFile: b.raw\n", "b.raw"),
        ("a.mha", META + b"ElementDataFile = LIST\n../b.raw\n", "LIST"),
        ("a.mha", META + b"Comment = ElementDataFile = LOCAL\nElementDataFile = ../b.raw\n", "../b.raw"),
        ("a.mha", META + b"Offset = 0 0 0 ElementDataFile = ../b.raw\nElementDataFile = LOCAL\n", "../b.raw"),
        ("a.nrrd", NRRD + b"data file: ../b.raw\n", "../b.raw"),
        ("a.nrrd", NRRD + b"DataFile: LIST\n../b.raw\n", "LIST"),
        ("a.nhdr", NRRD.replace(b"\n", b"\r\n") + b"data file: b.raw\r\n\r\n", "b.raw"),
        ("a.mha", META + b"Comment = x\n" * 100_000 + b"ElementDataFile = ../b.raw\n", "its header is too long"),
        ("a.nrrd", NRRD + b"# comment\n" * 120_000 + b"data file: ../b.raw\n", "its header is too long"),
        ("a.gipl", bytes(512) + b"\x89HDF\r\n\x1a\n", "HDF5"),
    ],
)
def test_no_other_file_is_followed(name: str, content: bytes, named: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for raw in ("b.raw", "in/b.raw"):
        (tmp_path / raw).write_bytes(bytes(range(64)))
    file = tmp_path / "in" / name
    file.write_bytes(content)
    for read in (read_header, read_volume, read_grid, read_label_map, read_picture):
        with pytest.raises(InputError, match=rf"{name}: its voxels are in another file \({named}") as caught:
            read(file)
        assert str(caught.value).endswith("save the image as one file")


@pytest.mark.parametrize(("other", "refused"), [("a.tif", False), ("../b.tif", True), ("/etc/passwd", True)])
def test_no_other_file_of_a_microscope_is_followed(other: str, refused: bool, tmp_path: Path) -> None:
    part = f'<TiffData IFD="0"><UUID FileName="{other}">urn:uuid:1</UUID></TiffData>'
    pixels = f'<Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="4" SizeY="4" SizeZ="1">{part}</Pixels>'
    text = f'<?xml version="1.0"?><OME UUID="urn:uuid:1"><Image>{pixels}</Image></OME>'
    tifffile.imwrite(tmp_path / "a.tif", np.ones((4, 4), np.uint8), description=text, metadata=None)
    expected = pytest.raises(InputError, match=rf"a.tif: its voxels are in another file \({other}")
    with expected if refused else nullcontext():
        require_file(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_voxels_in_the_same_file_may_look_like_a_header(name: str, tmp_path: Path) -> None:
    text = b"\nElementDataFile = /b\ndata file: /b\n" * 2
    voxels = np.frombuffer(text[: 4 * (len(text) // 4)], np.uint8).reshape(-1, 2, 2)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / name))
    assert (read_volume(tmp_path / name).voxels == voxels.T).all()


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "\udcff.nii"
    try:
        file.write_bytes(image())
    except OSError:
        pytest.skip("this disk has no such names")
    with pytest.raises(InputError, match=r"\\xff\.nii: its name is not UTF-8; rename it"):
        read_volume(file)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.nii").write_bytes(image())
    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read anything
    with pytest.raises(InputError, match=r"a\.nii: cannot be read as NIfTI .*Permission denied"):
        read_volume(tmp_path / "a.nii")


def test_stems() -> None:
    names = {"a.nii": "a", "a.b.NII.GZ": "a.b", ".a.nii.gz": None, "a.nii.gz.part": None, "a.nrrd": "a", "a.mgz": None}
    assert {name: stem_of(name) for name in names} == names
