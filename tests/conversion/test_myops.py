"""MyoPS 2020: files in place of folders, images and labels apart, labels above 255."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from edition_fixtures import truth, write

from nnunetv2_mmkd.conversion.convert import convert
from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.editions.discover import discover
from nnunetv2_mmkd.errors import InputError

MYOPS = EDITIONS["myops2020"]
CASE, TEST = "myops_training_101", "myops_test_201"


def run(*sources: Path) -> Path:
    return convert(MYOPS, sources, 520, processes=1, show_progress=False)


def test_the_data_set(tmp_path: Path, raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(MYOPS, tmp_path / "MyoPS 2020 Dataset")
    write(MYOPS, tmp_path / "MyoPS 2020 Dataset", label=False, missing=["lge"])
    hidden = tmp_path / "MyoPS 2020 Dataset" / "MyoPS2020_EvaluateByYourself" / "test_data_gd"
    hidden.mkdir(parents=True)
    (hidden / f"{TEST}_gdencrypt.nii.gz").write_bytes(b"encrypted")
    with caplog.at_level(logging.INFO):
        target = run(tmp_path / "MyoPS 2020 Dataset")
    assert "MyoPS 2020: train the configuration 2d" in caplog.text
    content = json.loads((target / "dataset.json").read_text())
    assert content["channel_names"] == {"0": "bSSFP", "1": "LGE", "2": "T2"}
    assert content["recommended_configuration"] == "2d" and content["numTraining"] == 1
    assert content["missing_modalities"] == {TEST: ["lge"]}
    written = nib.load(target / "labelsTr" / f"{CASE}.nii.gz")
    assert written.get_data_dtype() == np.uint8
    expected = np.vectorize({0: 0, 200: 1, 500: 2, 600: 3, 1220: 4, 2221: 5}.get)(truth(MYOPS))
    assert np.array_equal(np.asanyarray(written.dataobj), expected)
    assert sorted(path.name for path in (target / "imagesTs").iterdir()) == [f"{TEST}_000{i}.nii.gz" for i in range(3)]


def test_images_and_labels_as_two_sources(tmp_path: Path) -> None:
    write(MYOPS, tmp_path)
    for order in ([0, 1], [1, 0]):
        sources = [tmp_path / "train25", tmp_path / "train25_myops_gd"]
        (found,) = discover(MYOPS, [sources[index] for index in order])
        assert all(found.images) and found.label == sources[1] / f"{CASE}_gd.nii.gz" and found.relative == "."


def test_nested_twice_with_the_labels_next_to_the_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(MYOPS, tmp_path / "src", folder=f"train25/train25/{CASE}")
    inner = tmp_path / "src" / "train25" / "train25"
    shutil.move(tmp_path / "src/train25/train25_myops_gd" / f"{CASE}_gd.nii.gz", inner)
    (inner / f"._{CASE}_C0.nii.gz").write_bytes(b"AppleDouble")
    (found,) = discover(MYOPS, [tmp_path / "src"])
    assert {file.parent for file in found.files} == {inner} and len(found.files) == 4
    assert not caplog.text


def test_a_file_found_twice_is_the_later_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        write(MYOPS, tmp_path / name)
    (found,) = discover(MYOPS, [tmp_path / "b", tmp_path / "a"])
    assert all(tmp_path / "a" in file.parents for file in found.files)
    assert caplog.text.count("found twice") == 4


def test_what_is_no_myops(tmp_path: Path) -> None:
    write(EDITIONS["brats2021"], tmp_path)
    with pytest.raises(InputError, match=r"no case of MyoPS 2020 below .*no file name begins with"):
        discover(MYOPS, [tmp_path])


def test_a_label_without_images(tmp_path: Path) -> None:
    write(MYOPS, tmp_path, missing=["bssfp", "lge", "t2"])
    with pytest.raises(InputError, match=rf"case {CASE}: no image at all in .*{CASE}_C0.nii.gz"):
        discover(MYOPS, [tmp_path])
