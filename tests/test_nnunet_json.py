"""nnU-Net's JSON files: what is wrong with them is said with file and key."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.nnunet_json import (
    FoldCases,
    check_dataset_json,
    missing_modalities,
    read_dataset_json,
    read_json,
    read_object,
    read_plans,
    read_splits,
)

DATASET: dict[str, Any] = {
    "channel_names": {"0": "T1", "1": "T1Gd", "2": "T2f"},
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
    "regions_class_order": [1, 2, 3],
    "file_ending": ".nii.gz",
    "missing_modalities": {"b": ["flair", "T1c"], "a": []},
}
PLANS: dict[str, Any] = {
    "configurations": {"3d_fullres": {}, "2d": {}},
    "mmkd": {"modalities": ["T1", "t1c"], "subset": ["t1c"]},
}


def test_what_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text(json.dumps(DATASET))
    checked = read_dataset_json(file)
    assert checked.content == DATASET and checked.file_ending == ".nii.gz"
    assert checked.modalities == ("t1", "t1ce", "flair")
    assert checked.missing == {"b": ("t1ce", "flair")}  # in channel order; a lacks nothing
    file.write_text(json.dumps(PLANS))
    plans = read_plans(file)
    assert plans.content == PLANS and plans.configurations == ("2d", "3d_fullres")
    assert plans.modalities == ("t1", "t1ce") and plans.subset == ("t1ce",)
    file.write_text(json.dumps({"configurations": {}}))
    assert read_plans(file).modalities == () == read_plans(file).subset
    file.write_text('[{"train": ["a", "b"], "val": ["c"]}]')
    assert read_splits(file) == (FoldCases(("a", "b"), ("c",)),)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "not JSON"),
        (b'{"a": 1', "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        ('{"a": 1}'.encode("utf-8-sig"), "not JSON: Unexpected UTF-8 BOM"),
        (b'{"b": {"a": 1, "a": 2}}', "the key 'a' stands in it twice"),
        (b"[" * 100000 + b"]" * 100000, "nested too deeply"),
        (b"1" * 5000, "not JSON"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "dataset.json"
    if content is not None:
        file.write_bytes(content)
    for reader in (read_json, read_object, read_dataset_json, read_plans, read_splits):
        with pytest.raises(InputError, match=rf"{file} cannot be read \({reason}"):
            reader(file)


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read_object(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channel_names": None}, "'channel_names' must be"),
        ({"channel_names": ["T1"]}, "'channel_names' must be"),
        ({"channel_names": {}}, "must give each channel a name"),
        ({"channel_names": {"-1": "T1"}}, "'channel_names' must be"),
        ({"channel_names": {"a": "T1"}}, "'channel_names' must be"),
        ({"channel_names": {"0": 7}}, "must give each channel a name"),
        ({"channel_names": {"0": "T1", "1": "t1n"}}, "name the modality 't1' more than once"),
        ({"labels": None}, "'labels' is null: expected an object"),
        ({"labels": [1, 2]}, "'labels' is a list: expected an object"),
        ({"labels": {"background": 0, "tumour": "1"}}, "label 'tumour' is text: expected a whole number"),
        ({"labels": {"background": 0, "tumour": True}}, "label 'tumour' is true or false"),
        ({"labels": {"background": 0, "tumour": [1, [2]]}}, "label 'tumour' is a list"),
        ({"labels": {"background": 0, "a": 1, "b": 3}}, "has the values 0, 1, 3: expected 0, 1, 2, ... without"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "has the values 0, 1, 1: expected 0, 1, 2, ... without"),
        ({"labels": {"background": 0}}, "'labels' has nothing but background"),
        ({"labels": {**DATASET["labels"], "ignore": 5}}, "label 'ignore' is 5: expected 4, one more than the largest"),
        ({"file_ending": 7}, "'file_ending' is a whole number: expected text"),
        ({"regions_class_order": None}, "'regions_class_order' is null: expected a list"),
        ({"regions_class_order": [1, 2]}, r"has 2 entries, 'labels' has 3 regions \(whole, core, enhancing\)"),
        ({"regions_class_order": [1, 1, 3]}, r"has 1 for the region 'core', whose labels are \[2, 3\]"),
        ({"regions_class_order": [3, 2, 3]}, "has 3 for the region 'whole', but 'core', which is painted later"),
        ({"regions_class_order": [1, 3, 3]}, "has 3 for the region 'core', but 'enhancing', which is painted later"),
        ({"regions_class_order": ["1", 2, 3]}, "an entry of 'regions_class_order' is text"),
        ({"labels": {"tumour": 1}}, "must have 'background': 0"),
        ({"labels": {"background": 1}}, "must have 'background': 0"),
        ({"labels": {"background": 0, "tumour": -1}}, "label 'tumour' has the value -1: expected 0 to 65535"),
        ({"labels": {"background": 0, "tumour": 10**400}}, "label 'tumour' has the value 10000"),
        ({"labels": {"background": 0, "tumour": []}}, "label 'tumour' is an empty list"),
        ({"file_ending": "/../../x.nii.gz"}, "expected an ending such as"),
        ({"file_ending": ""}, "expected an ending such as"),
        ({"channel_names": {"0": "T1", "00": "T2"}}, "expected different numbers"),
        ({"channel_names": {"10000": "T1"}}, "at most four digits"),
        ({"missing_modalities": ["a"]}, "'missing_modalities' is a list: expected an object"),
        ({"missing_modalities": "flair"}, "'missing_modalities' is text: expected an object"),
        ({"missing_modalities": {"a": "flair"}}, "missing_modalities: 'a' is text: expected a list"),
        ({"missing_modalities": {"a": [1]}}, "an entry of 'a' is a whole number: expected text"),
        ({"missing_modalities": {"a": ["pd"]}}, "missing_modalities of case a: unknown modality 'pd'"),
    ],
)
def test_bad_dataset_json(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps({**DATASET, **change}))
    with pytest.raises(InputError, match=message) as error:
        read_dataset_json(file)
    assert str(error.value).startswith(str(file))


def test_the_first_nnunets_key_is_named() -> None:
    content = {"modality" if key == "channel_names" else key: value for key, value in DATASET.items()}
    with pytest.raises(InputError, match="rename it to 'channel_names'"):
        check_dataset_json(content)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dataset.json")
    with pytest.raises(InputError, match="it is a pipe"):
        read_json(tmp_path / "dataset.json")


@pytest.mark.parametrize("key", ["channel_names", "labels", "file_ending", "regions_class_order"])
def test_a_missing_key(key: str) -> None:
    with pytest.raises(InputError, match=rf"^dataset\.json.*'{key}'"):
        check_dataset_json({name: value for name, value in DATASET.items() if name != key})


def test_without_regions_no_order_is_needed_and_an_ignore_label_is_no_region() -> None:
    plain = {key: value for key, value in DATASET.items() if key != "regions_class_order"}
    check_dataset_json({**plain, "labels": {"background": 0, "a": 1, "b": [2]}})
    check_dataset_json({**DATASET, "labels": {**DATASET["labels"], "ignore": 4}})


def test_a_case_that_the_data_set_does_not_have() -> None:
    declared = {"missing_modalities": {"a": ["t1"]}}
    assert missing_modalities(declared, ["t1", "t2"], cases={"a", "b"}) == {"a": ("t1",)}
    with pytest.raises(InputError, match="the data set has no case 'a'"):
        missing_modalities(declared, ["t1", "t2"], cases={"b"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is a list: expected an object"),
        ({}, "has no 'configurations'"),
        ({"configurations": ["2d"]}, "'configurations' is a list"),
        ({"configurations": {"2d": 1}}, "configurations: '2d' is a whole number"),
        ({**PLANS, "mmkd": "t1"}, "'mmkd' is text"),
        ({**PLANS, "mmkd": {"modalities": "t1"}}, "mmkd: 'modalities' is text: expected a list"),
        ({**PLANS, "mmkd": {"subset": [1]}}, "mmkd: an entry of 'subset' is a whole number"),
    ],
)
def test_bad_plans(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "plans.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as error:
        read_plans(file)
    assert str(error.value).startswith(str(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "is an object: expected a list"),
        ([1], "fold 0 is a whole number: expected an object"),
        ([{"train": [], "val": []}, {"train": []}], "fold 1 has no 'val'"),
        ([{"train": "a", "val": []}], "fold 0: 'train' is text: expected a list"),
        ([{"train": [1], "val": []}], "fold 0: an entry of 'train' is a whole number"),
    ],
)
def test_bad_splits(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "splits_final.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as error:
        read_splits(file)
    assert str(error.value).startswith(str(file))
