"""Which image is which modality of which case, and what is said of those that no case has."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.cases import cases_of_folder, cases_of_lists
from nnunetv2_mmkd.inference.naming import folder_naming, model_naming
from nnunetv2_mmkd.nnunet_json import check_dataset_json, labels_beside

MODALITIES = ("t1", "t1ce", "t2")


def dataset(**channels: str) -> dict[str, Any]:
    names = {key.lstrip("c"): name for key, name in channels.items()}
    return {"channel_names": names, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}


USUAL = dataset(c0="T1", c1="T1ce", c2="T2")
WITH_GAP = dataset(c0="T1", c1="T1ce", c3="T2")


def put(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def found(folder: Path, model: dict[str, Any] = USUAL) -> dict[str, list[str | None]]:
    """Case -> names of the files of t1, t1ce, t2."""
    naming = folder_naming(MODALITIES, check_dataset_json(model), str(folder))
    return {
        case.identifier: [None if file is None else Path(file).name for file in case.files]
        for case in cases_of_folder(str(folder), naming)
    }


def test_the_numbers_are_the_keys_of_channel_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ["a_0000.nii.gz", "a_0001.nii.gz", "a_0003.nii.gz"]
    folder = put(tmp_path / "in", *names)
    assert found(folder, WITH_GAP) == {"a": names}
    put(folder, "b_0003.nii.gz")
    assert found(folder, WITH_GAP) == {"a": names, "b": [None, None, "b_0003.nii.gz"]}
    naming = model_naming(MODALITIES, check_dataset_json(WITH_GAP))
    assert cases_of_lists([["x_0003.nii.gz"]], naming)[0].files == (None, None, "x_0003.nii.gz")
    assert not caplog.messages
    with pytest.raises(InputError, match="this model has no channel 0003, only _0000 t1, _0001 t1ce, _0002 t2"):
        found(folder)


def test_whole_cases_numbered_from_0_are_taken_in_order_as_nnunet_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["a_0000.nii.gz", "a_0001.nii.gz", "a_0002.nii.gz"]
    folder = put(tmp_path / "in", *names)
    assert found(folder, WITH_GAP) == {"a": names}
    assert "taken in this order" in caplog.text
    put(folder, "b_0000.nii.gz")
    with pytest.raises(InputError, match="no channel 0002, only _0000 t1, _0001 t1ce, _0003 t2"):
        found(folder, WITH_GAP)


@pytest.mark.parametrize("place", [".", "..", "link"])
@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_another_channel_order_next_to_the_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str, key: str
) -> None:
    folder = put(tmp_path / "data" / "imagesTs", "a_0000.nii.gz", "a_0001.nii.gz", "a_0002.nii.gz", "b_0001.nii.gz")
    content = {key: {"0": "T2w", "1": "t1n", "2": "T1Gd"}}
    (folder / (".." if place == "link" else place) / "dataset.json").write_text(json.dumps(content))
    if place == "link":
        (tmp_path / "link").symlink_to(folder)
        folder = tmp_path / "link"
    assert found(folder) == {
        "a": ["a_0001.nii.gz", "a_0002.nii.gz", "a_0000.nii.gz"],
        "b": ["b_0001.nii.gz", None, None],
    }
    assert "matched by name: _0000 t2, _0001 t1, _0002 t1ce" in caplog.text


def test_the_same_channels_next_to_the_images_are_nothing_to_talk_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = put(tmp_path / "imagesTs", "a_0000.nii.gz", "a_0001.nii.gz", "a_0002.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps(dataset(c0="t1w", c1="T1Gd", c2="T2w")))
    assert found(folder) == {"a": ["a_0000.nii.gz", "a_0001.nii.gz", "a_0002.nii.gz"]}
    (tmp_path / "dataset.json").write_text('{"about": "something else"}')
    assert found(folder) == {"a": ["a_0000.nii.gz", "a_0001.nii.gz", "a_0002.nii.gz"]}
    assert not caplog.messages


def test_what_is_declared_missing_next_to_the_images_is_not_read(tmp_path: Path) -> None:
    folder = put(tmp_path / "imagesTs", "a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz")
    content = {**dataset(c0="T1w", c1="T1Gd", c2="T2w"), "missing_modalities": {"a": ["t1gd"]}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert found(folder) == {"a": ["a_0000.nii.gz", None, None], "b": ["b_0000.nii.gz", "b_0001.nii.gz", None]}
    content["missing_modalities"] = {"a": ["flair"]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="missing_modalities of case a: unknown modality 'flair'"):
        found(folder)


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"0": "CT"}, "names the modalities ct, and this model has t1, t1ce, t2"),
        ({"0": "T1", "1": "PD"}, "says that 0001 is pd, which the model does not have"),
        ({"0": "T1", "1": "t1w"}, "name the modality 't1' more than once"),
        (["T1"], "'channel_names' must be"),
    ],
)
def test_channels_that_do_not_fit(tmp_path: Path, channels: Any, message: str) -> None:
    folder = put(tmp_path / "imagesTs", "a_0000.nii.gz", "a_0001.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": channels}))
    with pytest.raises(InputError, match=message) as caught:
        found(folder)
    assert str(tmp_path / "dataset.json") in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["My patient_0000.nii.gz", "my patient_0001.nii.gz"], "differ only in letter case or blanks"),
        (["My patient_0000.nii.gz", "My_patient_0001.nii.gz"], "look like one case"),
        (["a_0000.nii.gz", "a_0001.NII.GZ"], r"a_0001\.NII\.GZ looks like .*case a, t1ce"),
        (["a_0000.nii.gz", "b_0001.nii.gz.part"], r"b_0001\.nii\.gz\.part looks like .*case b"),
        (["a_0000.nii.gz", "b_0001"], r"b_0001 looks like .*case b"),
        (["a_0000.nii.gz", "b_0007.nrrd"], r"b_0007\.nrrd looks like an image of case b"),
        (["a_0000.nii.gz", "a_001.nii.gz"], "has no channel suffix"),
        (["a_0000.nii.gz", "a_0001(1).nii.gz"], "has no channel suffix"),
        (["a_0000.nii.gz", "a_0001 copy.nii.gz"], "has no channel suffix"),
        (["patient_0001.nii.gz", "patient_0004.nii.gz"], "is the channel, not the case"),
        (["a_0000.nii"], "looks like a_0000.nii.gz"),
    ],
)
def test_absence_is_not_inferred(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        found(put(tmp_path / "in", *names))


def test_numbers_that_may_be_those_of_cases(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found(put(tmp_path / "in", "a_0000.nii.gz", "a_0002.nii.gz", "b_0002.nii.gz"))
    assert not caplog.messages
    found(put(tmp_path / "numbered", "patient_0001.nii.gz", "patient_0002.nii.gz"))
    (message,) = caplog.messages
    assert "is patient_0001.nii.gz, patient_0002.nii.gz meant as one case with 2 images" in message
    assert "patient_0001_0000.nii.gz" in message


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_a_dataset_json_that_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    folder, file = put(tmp_path / "imagesTs", "a_0000.nii.gz"), tmp_path / "dataset.json"
    {"folder": file.mkdir, "link": lambda: file.symlink_to("nowhere"), "pipe": lambda: os.mkfifo(file)}[kind]()
    with pytest.raises(InputError, match="cannot be read") as caught:
        found(folder)
    with pytest.raises(InputError, match="cannot be read"):
        labels_beside(folder, parent=True)
    assert str(file) in str(caught.value)
