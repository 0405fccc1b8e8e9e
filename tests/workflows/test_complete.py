"""``mmkd complete``: an incomplete raw data set becomes one that nnU-Net and our trainers read."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from brats_like import AFFINE, SHAPE, labels, save
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.workflows import complete as module

QUICK = ["-d", "7", "--disable_progress_bar"]


@pytest.fixture
def dataset(raw: Path) -> Path:
    """Six training cases, ``c1`` with T2 alone, ``c2`` with a T1ce of zeros; a test case with T1ce alone."""
    folder = raw / "Dataset007_Own"
    for number in range(6):
        save(folder / "labelsTr" / f"c{number}.nii.gz", labels().clip(max=2))
        for channel in range(3):
            if number != 1 or channel == 2:
                image = np.random.default_rng(number).integers(1, 1000, SHAPE).astype(np.int16)
                save(folder / "imagesTr" / f"c{number}_{channel:04d}.nii.gz", image * ((number, channel) != (2, 1)))
    save(folder / "imagesTs" / "t_0001.nii.gz", np.ones(SHAPE, np.float32))
    content = {
        "channel_names": {"0": "T1", "1": "T1ce", "2": "T2"},
        "labels": {"background": 0, "a": 1, "b": 2},
        "numTraining": 6,
        "file_ending": ".nii.gz",
        "own": "stays",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def state(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


EXPECTED = {"c1": ["t1", "t1ce"], "c2": ["t1ce"], "t": ["t1", "t2"]}


def test_complete(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(dataset)
    assert main(["complete", *QUICK, "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "c1: no t1, t1ce: zero images, declared missing\nc2: t1ce is all zero: declared missing\n" in said
    assert "7 cases, 3 with missing modalities (t1 in 2, t1ce in 2, t2 in 1); 4 zero images\ndry run" in said
    assert state(dataset) == before
    assert main(["complete", *QUICK]) == 0
    after = state(dataset)
    new = {f"imagesTr/c1_{c:04d}.nii.gz" for c in (0, 1)} | {f"imagesTs/t_{c:04d}.nii.gz" for c in (0, 2)}
    assert after.keys() - before.keys() == new
    assert {name for name in before if after[name] != before[name]} == {"dataset.json"}
    content = json.loads(after["dataset.json"])
    assert content.pop("missing_modalities") == EXPECTED and content == json.loads(before["dataset.json"])
    for name in new:
        image = nib.load(dataset / name)
        assert not np.asanyarray(image.dataobj).any() and np.array_equal(image.affine, AFFINE)
    verify_dataset_integrity(str(dataset), num_processes=1)
    assert main(["complete", *QUICK]) == 0
    assert state(dataset) == after


def test_an_interrupted_run_goes_on(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["complete", *QUICK]) == 130
    assert "missing_modalities" not in json.loads((dataset / "dataset.json").read_text())
    assert main(["complete", *QUICK]) == 0
    assert json.loads((dataset / "dataset.json").read_text())["missing_modalities"] == EXPECTED


def edit(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / "dataset.json").read_text())
        (folder / "dataset.json").write_text(json.dumps({**content, **changes}))

    return change


def flipped(folder: Path) -> None:
    image = nib.load(folder / "imagesTr" / "c0_0001.nii.gz")
    nib.save(nib.as_closest_canonical(image), folder / "imagesTr" / "c0_0001.nii.gz")


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no dataset.json": (lambda at: (at / "dataset.json").unlink(), "dataset.json cannot be read"),
    "dataset": (edit(dataset={"a": {}}), "its key 'dataset' lists the images one by one"),
    "png": (edit(file_ending=".png"), "file_ending is '.png'; zero images are written as"),
    "unknown case": (edit(missing_modalities={"x": ["t1"]}), "the data set has no case 'x'"),
    "no imagesTr": (lambda at: shutil.rmtree(at / "imagesTr"), "has no imagesTr"),
    "no label": (lambda at: (at / "labelsTr/c3.nii.gz").unlink(), "cases with no segmentation in labelsTr: c3"),
    "no image": (lambda at: (at / "imagesTr/c1_0002.nii.gz").unlink(), "cases with no image in imagesTr: c1"),
    "download": (lambda at: (at / "imagesTr/c1_0000.nii.gz.part").touch(), "c1_0000.nii.gz.part looks like c1_0000"),
    "channel": (lambda at: shutil.copy(at / "imagesTr/c0_0000.nii.gz", at / "imagesTr/c0_0007.nii.gz"), "no channel"),
    "broken": (lambda at: (at / "imagesTr/c0_0001.nii.gz").write_bytes(b""), "c0_0001.nii.gz: cannot be read"),
    "grid": (lambda at: save(at / "imagesTr/c0_0001.nii.gz", np.ones((9, 9, 9), np.int16)), "has shape"),
    "orientation": (flipped, "is stored in another orientation than"),
    "zeros": (lambda at: save(at / "imagesTr/c1_0002.nii.gz", np.zeros(SHAPE)), "case c1: all its images are zero"),
    "two data sets": (lambda at: (at.parent / "Dataset007_Other").mkdir(), "there is several: Dataset007_Other, "),
    "no data set": (lambda at: at.rename(at.parent / "Dataset008_Own"), "expected one folder Dataset007_... in"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_refused(name: str, dataset: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, message = SPOILT[name]
    spoil(dataset)
    before = state(raw)
    assert main(["complete", *QUICK]) == 1
    said = capsys.readouterr().err
    assert re.search(re.escape(message), said), said
    assert state(raw) == before
