"""Maps of uncertainty of BraTS 2019 and 2020."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from brats_like import SHAPE, save
from edition_fixtures import write

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.submission.uncertainty import probabilities_of_regions, uncertainty, write_uncertainty

SPEC = EDITIONS["brats2020"]
CASE = EDITIONS["brats2020"].archive.case(0, True)


def submit(folder: Path, **options: object) -> Path:
    options = {"show_progress": False, **options}
    return write_uncertainty(SPEC, folder / "predictions", [folder / "src"], folder / "out", **options)


@pytest.fixture
def heads(tmp_path: Path) -> np.ndarray:
    """Probabilities ``[K, z, y, x]`` of the one case in ``src``, saved as nnU-Net saves them."""
    write(SPEC, tmp_path / "src", label=True)
    values = np.random.default_rng(0).random((3, *SHAPE[::-1])).astype(np.float32)
    (tmp_path / "predictions").mkdir()
    np.savez_compressed(tmp_path / "predictions" / f"{CASE}.npz", probabilities=values)
    return values


def test_the_measure() -> None:
    assert uncertainty(np.array([0, 0.25, 0.5, 0.75, 1, 1.001])).tolist() == [0, 50, 100, 50, 0, 0]
    assert uncertainty(np.array([0.1], np.float16)).tolist() == [20]


def test_three_files_in_the_geometry_of_the_case(heads: np.ndarray, tmp_path: Path) -> None:
    archive = submit(tmp_path)
    names = [f"{CASE}_unc_{region}.nii.gz" for region in ("whole", "core", "enhance")]
    assert archive.name == "brats2020_uncertainty.zip" and zipfile.ZipFile(archive).namelist() == names
    original = nib.load(next((tmp_path / "src").rglob("*_t1.nii")))
    for index, name in enumerate(names):
        written = nib.load(tmp_path / "out" / name)
        expected = np.rint(100 * (1 - np.abs(2 * heads[index] - 1))).transpose(2, 1, 0)
        assert written.get_data_dtype() == np.uint8 and np.array_equal(written.affine, original.affine)
        assert np.abs(np.asanyarray(written.dataobj) - expected).max() <= 1
        assert np.asanyarray(written.dataobj).max() <= 100


def test_probabilities_on_the_grid_of_a_flipped_prediction(heads: np.ndarray, tmp_path: Path) -> None:
    expected = zipfile.ZipFile(submit(tmp_path))
    flipped = nib.as_closest_canonical(nib.load(next((tmp_path / "src").rglob("*_seg.nii"))))
    nib.save(flipped, tmp_path / "predictions" / f"{CASE}.nii.gz")
    np.savez(tmp_path / "predictions" / f"{CASE}.npz", probabilities=heads[:, :, ::-1, ::-1])
    found = zipfile.ZipFile(submit(tmp_path))
    assert [found.read(name) for name in found.namelist()] == [expected.read(name) for name in expected.namelist()]


def test_regions_from_labels() -> None:
    softmax = np.random.default_rng(0).dirichlet(np.ones(4), SHAPE).transpose(3, 0, 1, 2)
    regions = probabilities_of_regions(SPEC, softmax)
    assert np.allclose(regions["whole_tumor"], 1 - softmax[0], atol=1e-6)
    assert np.allclose(regions["tumor_core"], softmax[2] + softmax[3], atol=1e-6)
    assert np.allclose(regions["enhancing_tumor"], softmax[3])
    with pytest.raises(InputError, match="5 heads; expected 3 regions or 4 labels"):
        probabilities_of_regions(SPEC, np.zeros((5, *SHAPE)))


def test_on_the_command_line(heads: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "predictions" / f"{CASE}.nii.gz", np.zeros(SHAPE, np.uint8))
    arguments = ["-i", str(tmp_path / "predictions"), "-ref", str(tmp_path / "src"), "-o", str(tmp_path / "out")]
    assert main(["submit", "brats2020", *arguments, "--uncertainty"]) == 0
    assert (tmp_path / "out" / "brats2020_submission.zip").is_file()
    assert (tmp_path / "out" / "uncertainty" / "brats2020_uncertainty.zip").is_file()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, *SHAPE)), r"BraTS20_Training_001.npz \(shape \(3, 14, 12, 10\), expected \(10, 12, 14\)"),
        (np.full((3, *SHAPE[::-1]), 2.0), r"BraTS20_Training_001.npz \(values from 2 to 2, expected probabilities"),
        (np.full((3, *SHAPE[::-1]), np.nan), "values from nan"),
        (np.zeros((2, *SHAPE[::-1])), "2 heads"),
    ],
)
def test_what_are_no_probabilities(values: np.ndarray, message: str, heads: np.ndarray, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "predictions" / f"{CASE}.npz", probabilities=values)
    with pytest.raises(InputError, match=f"1 files that do not hold the probabilities of their case: .*{message}"):
        submit(tmp_path)
    assert not (tmp_path / "out").exists()


def test_unknown_missing_and_broken_files(heads: np.ndarray, tmp_path: Path) -> None:
    write(SPEC, tmp_path / "src", label=False)
    with pytest.raises(InputError, match=r"1 original cases have no probabilities .*BraTS20_Validation_001"):
        submit(tmp_path)
    assert submit(tmp_path, allow_missing=True).is_file()
    path = tmp_path / "predictions" / f"{CASE}.npz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=rf"{CASE}.npz \(cannot be read"):
        submit(tmp_path, allow_missing=True)
    path.rename(tmp_path / "predictions" / "BraTS20_Training_999.npz")
    with pytest.raises(InputError, match=r"1 files that match no original case: BraTS20_Training_999.npz"):
        submit(tmp_path)
    with pytest.raises(InputError, match="holds no probabilities"):
        write_uncertainty(SPEC, tmp_path / "src", [tmp_path / "src"], tmp_path / "out")
    with pytest.raises(InputError, match="does not exist"):
        write_uncertainty(SPEC, tmp_path / "nowhere", [tmp_path / "src"], tmp_path / "out")
    with pytest.raises(InputError, match="BraTS 2018 takes no maps of uncertainty"):
        write_uncertainty(EDITIONS["brats2018"], tmp_path / "predictions", [tmp_path / "src"], tmp_path / "out")


def test_heads_are_matched_by_name(heads: np.ndarray, tmp_path: Path) -> None:
    usual = zipfile.ZipFile(submit(tmp_path)).namelist()
    before = {name: (tmp_path / "out" / name).read_bytes() for name in usual}
    np.savez_compressed(tmp_path / "predictions" / f"{CASE}.npz", probabilities=heads[[2, 0, 1]])
    names = {"background": 0, "ET": [3], "WT": [1, 2, 3], "TC": [2, 3]}
    content = {"labels": names, "regions_class_order": [3, 1, 2]}
    (tmp_path / "predictions" / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="painted later"):
        submit(tmp_path)
    names = {"background": 0, "WT": [1, 2, 3], "ET": [2], "TC": [2, 3]}
    content = {"labels": names, "regions_class_order": [1, 2, 3]}
    np.savez_compressed(tmp_path / "predictions" / f"{CASE}.npz", probabilities=heads[[0, 2, 1]])
    (tmp_path / "predictions" / "dataset.json").write_text(json.dumps({**content, "regions_class_order": [1, 2, 3]}))
    with pytest.raises(InputError, match="painted later"):
        submit(tmp_path)
    names = {"background": 0, "tumor core": [2, 3], "ET": 3}
    content = {"labels": names, "regions_class_order": [2, 3]}
    np.savez_compressed(tmp_path / "predictions" / f"{CASE}.npz", probabilities=heads[[1, 2]])
    (tmp_path / "predictions" / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="no head for whole_tumor"):
        submit(tmp_path)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in usual} == before


def test_heads_of_labels_in_another_order() -> None:
    softmax = np.random.default_rng(0).dirichlet(np.ones(4), SHAPE).transpose(3, 0, 1, 2)
    usual = probabilities_of_regions(SPEC, softmax)
    order = [frozenset([value]) for value in (0, 2, 1, 3)]
    other = probabilities_of_regions(SPEC, softmax[[0, 2, 1, 3]], order)
    assert all(np.allclose(usual[name], other[name], atol=1e-7) for name in usual)


def test_segmentations_are_not_taken_for_probabilities(heads: np.ndarray, tmp_path: Path) -> None:
    write(SPEC, tmp_path / "more", label=False)
    other = next(path.name for path in (tmp_path / "more").rglob("*") if path.is_dir() and SPEC.is_case(path.name))
    (tmp_path / "predictions" / f"{other}.nii.gz").touch()
    write_uncertainty(
        SPEC, tmp_path / "predictions", [tmp_path / "src", tmp_path / "more"], tmp_path / "out", allow_missing=True,
        show_progress=False,
    )  # fmt: skip
    (tmp_path / "predictions" / f"{other}.npz.part").touch()
    with pytest.raises(InputError, match=f"looks like {other}.npz"):
        write_uncertainty(
            SPEC, tmp_path / "predictions", [tmp_path / "src", tmp_path / "more"], tmp_path / "out2",
            allow_missing=True, show_progress=False,
        )  # fmt: skip
