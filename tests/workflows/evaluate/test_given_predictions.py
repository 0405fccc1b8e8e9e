"""Folders of segmentations: labels of one meaning, and no case left out by a slip of a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.workflows.evaluate.given_predictions import given_predictions
from nnunetv2_mmkd.workflows.evaluate.settings import SubsetPredictions, Target

OWN = {"background": 0, "edema": 1, "necrosis": 2}
SWAPPED = {"background": 0, "NCR": 1, "ED": 2}


def dataset(labels: dict[str, Any] | None = None, **more: Any) -> str:
    content = {"channel_names": {"0": "T1", "1": "T2"}, "labels": labels or OWN, "file_ending": ".nii.gz"}
    return json.dumps({**content, **more})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Labels of two cases and their segmentations with T1; b lacks T2."""
    for folder in ("labelsTr", "given/t1", "given/t2"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("labelsTr/a", "labelsTr/b", "given/t1/a", "given/t1/b", "given/t2/a"):
        (tmp_path / f"{name}.nii.gz").touch()
    (tmp_path / "dataset.json").write_text(dataset(missing_modalities={"b": ["T2"]}))
    return tmp_path


def given(files: Path, **target: str) -> SubsetPredictions:
    return given_predictions(files / "given", Target(labels=str(files / "labelsTr"), **target))


def test_what_is_expected(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("given/t1/._a.nii.gz", "given/t1/plans.json", "labelsTr/.DS_Store", "given/t1/c.nii.gz"):
        (files / name).touch()
    (files / "given" / "t1" / "dataset.json").write_text(dataset({**OWN, "edema": [1]}))
    assert given(files).expected == {"a": ("t1", "t2"), "b": ("t1",)}
    assert caplog.messages == [f"{files}/given/t1: not scored, as {files}/labelsTr has no label for them: c"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("given/t2/b.nii.gz.part", "looks like b.nii.gz \\(case b, t2\\)"),
        ("given/t2/B.NII.GZ", "looks like b.nii.gz"),
        ("labelsTr/c.nii.gz.tmp", "looks like an image \\*.nii.gz"),
        ("labelsTr/c.nii", "looks like an image \\*.nii.gz"),
        ("labelsTr/A.nii.gz", "'A' and 'a' differ only in letter case"),
    ],
)
def test_lookalikes(files: Path, name: str, message: str) -> None:
    (files / name).touch()
    with pytest.raises(InputError, match=message):
        given(files)


@pytest.mark.parametrize("place", ["given/t1", "given"])
def test_segmentations_with_other_labels(files: Path, place: str) -> None:
    (files / place / "dataset.json").write_text(dataset(SWAPPED))
    with pytest.raises(InputError, match=r"'necrosis non enhancing' has the values 1, in .* it has 2") as error:
        given(files)
    assert str(error.value).startswith(str(files / place / "dataset.json"))


def test_labels_of_another_meaning_than_a_models(files: Path) -> None:
    target = Target(labels=str(files / "labelsTr"))
    made = SubsetPredictions(files, files / "labelsTr", json.loads(dataset(SWAPPED)), {"a": ("t1",)})
    with pytest.raises(InputError, match=f"{files}/dataset.json: the label 'edema' has the values 1, in .* it has 2"):
        given_predictions(files / "given", target, made)
