"""Splits from lists, patients and institutions."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from listed import write_lines, write_names

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.protocols.case_ids import bare
from nnunetv2_mmkd.protocols.data_set import read_data_set
from nnunetv2_mmkd.protocols.folds import group_folds, patient_of
from nnunetv2_mmkd.protocols.institutions import read_sites
from nnunetv2_mmkd.protocols.splits import read_test_cases, write_default_splits, write_splits

CASES = [f"BraTS20_Training_{number:03d}" for number in range(1, 9)]

SMALLEST = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "tumour": 1}, "file_ending": ".nii.gz"}
"""What nnU-Net needs of a dataset.json."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_names(tmp_path, monkeypatch, CASES)


def lists(folder: Path, train: str = "1234", val: str = "56", test: str = "78", number: str = "") -> list[str]:
    written = []
    for role, digits in (("train", train), ("val", val), ("test", test)):
        ids = [f"BraTS20_Training_00{digit}" for digit in digits]
        written.append(str(write_lines(folder / f"brats2020_{role}{number}.txt", *ids)))
    return written


def read(folder: Path, name: str = "splits_final.json"):
    return json.loads((folder / name).read_text())


def test_lists_of_the_literature(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    written = write_splits(501, lists(tmp_path))
    assert read(folder) == [{"train": CASES[:4], "val": CASES[4:6]}]
    tests = read(folder, "mmkd_test_cases.json")
    assert tests == {"source": "brats2020_train.txt, brats2020_val.txt, brats2020_test.txt", "folds": [CASES[6:]]}
    assert written.lines() == ["fold 0: 4 training, 2 validation, 2 test cases", str(folder / "splits_final.json")]
    assert "do not train fold `all`" in caplog.text and "in no fold" not in caplog.text
    assert not list(folder.glob(".*"))


def test_nnunet_reads_them(tmp_path: Path, folder: Path) -> None:
    from batchgenerators.utilities.file_and_folder_operations import load_json

    write_splits(501, lists(tmp_path))
    (split,) = load_json(str(folder / "splits_final.json"))
    assert split["train"] == CASES[:4] and split["val"] == CASES[4:6]


@pytest.mark.parametrize(
    "id_of",
    ["HG_{}", "LG_{}", "{}_vol.npy", "HGG_{}.npy", "{}_seg.nii.gz", "some/where/{}", "  {}  ", "HG_{}_vol.npy"],
)
def test_ids_as_the_repositories_write_them(id_of: str, tmp_path: Path, folder: Path) -> None:
    train = write_lines(tmp_path / "train.txt", "# mine", "", *(id_of.format(case) for case in CASES[:5]))
    val = write_lines(tmp_path / "val.txt", *(id_of.format(case.upper()) for case in CASES[5:]))
    write_splits(501, [str(train), str(val)])
    assert read(folder) == [{"train": CASES[:5], "val": CASES[5:]}]
    assert not (folder / "mmkd_test_cases.json").exists()


def test_ids_of_the_case_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_names(
        tmp_path, monkeypatch, ["a", "b", "c"], sources={"a": "HGG/x_1", "b": "HGG/x_2", "c": "LGG/x_1"}
    )
    train = write_lines(tmp_path / "train.txt", "HGG/x_1", "LGG/x_1")
    val = write_lines(tmp_path / "val.txt", "HG_x_2.npy")
    write_splits(501, [str(train), str(val)])
    assert read(folder) == [{"train": ["a", "c"], "val": ["b"]}]
    write_lines(tmp_path / "train.txt", "c", "x_1")
    with pytest.raises(InputError, match=r"train.txt, line 2: 'x_1' could be any of a, c"):
        write_splits(501, [str(train), str(val)], overwrite=True)


def test_an_exact_name_goes_before_a_bare_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_names(tmp_path, monkeypatch, ["HG_a", "a", "b_seg"])
    train = write_lines(tmp_path / "train.txt", "HG_a", "b_seg")
    val = write_lines(tmp_path / "val.txt", "LG_a")
    write_splits(501, [str(train), str(val)])
    assert read(folder) == [{"train": ["HG_a", "b_seg"], "val": ["a"]}]
    assert bare("Brats18_2013_0_1") == "Brats18_2013_0_1" and bare("x\\LG_y_vol.npy") == "y"


def test_pairs_make_folds_with_their_own_tests(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = [*lists(tmp_path, number="1"), *lists(tmp_path, "5678", "12", "34", number="2")]
    write_splits(501, sorted(files))
    assert read(folder) == [
        {"train": CASES[:4], "val": CASES[4:6]},
        {"train": CASES[4:], "val": CASES[:2]},
    ]
    assert read(folder, "mmkd_test_cases.json")["folds"] == [CASES[6:], CASES[2:4]]
    assert "test each fold on its own" in caplog.text


def test_one_test_list_for_all_folds(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = lists(tmp_path, number="1"), lists(tmp_path, "3456", "12", number="2")
    shared = write_lines(tmp_path / "testing.txt", *CASES[6:])
    write_splits(501, [*first[:2], *second[:2], str(shared)])
    assert read(folder, "mmkd_test_cases.json")["folds"] == [CASES[6:]] * 2
    assert "test each fold" not in caplog.text
    write_lines(shared, CASES[0])
    with pytest.raises(InputError, match=r"BraTS20_Training_001 is named twice: .*train1.txt, line 1, and .*testing"):
        write_splits(501, [*first[:2], *second[:2], str(shared)], overwrite=True)


@pytest.mark.parametrize(
    ("train", "val", "test", "message"),
    [
        ("1234", "46", "78", r"_004 is named twice: .*_train.txt, line 4, and .*_val.txt, line 1. Remove one"),
        ("1234", "56", "18", r"_001 is named twice: .*_train.txt, line 1, and .*_test.txt, line 1"),
        ("1231", "56", "78", r"_001 is named twice: .*_train.txt, line 1, and .*_train.txt, line 4"),
        ("1239", "56", "78", r"1 ids are no training cases of Dataset501_Names: .*_009 \(.*line 4\)\. 1 of .*_004"),
        ("1234", "", "78", r"_val.txt holds no id"),
    ],
)
def test_bad_lists(train: str, val: str, test: str, message: str, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match=message):
        write_splits(501, lists(tmp_path, train, val, test))
    assert not folder.exists()


def test_one_case_under_two_ids_is_a_leak(tmp_path: Path, folder: Path) -> None:
    train = write_lines(tmp_path / "train.txt", CASES[0], CASES[1])
    val = write_lines(tmp_path / "val.txt", f"HG_{CASES[1]}")
    with pytest.raises(InputError, match="_002 is named twice"):
        write_splits(501, [str(train), str(val)])


def test_what_one_side_lacks_is_named(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = lists(tmp_path, "129", "3", "45")
    write_splits(501, files, partial=True)
    assert read(folder) == [{"train": CASES[:2], "val": CASES[2:3]}]
    assert "1 ids that the data set does not have are left out: BraTS20_Training_009" in caplog.text
    assert "3 cases of Dataset501_Names are in no fold and no list: " + ", ".join(CASES[5:]) in caplog.text
    files = lists(tmp_path, "9", "3", "45")
    with pytest.raises(InputError, match=r"train.txt: none of its ids is a case"):
        write_splits(501, files, partial=True, overwrite=True)


def test_names_that_say_nothing(tmp_path: Path, folder: Path) -> None:
    train, val, test = lists(tmp_path)
    with pytest.raises(InputError, match=r"no val list of this name.*train1.txt and val1.txt"):
        write_splits(501, [train, test])
    with pytest.raises(InputError, match="give a train and a val list"):
        write_splits(501, [test])
    for name in ("cases.txt", "train_val.txt"):
        with pytest.raises(InputError, match=r"must say once whether .*rename it"):
            write_splits(501, [str(write_lines(tmp_path / name, "x"))])
    with pytest.raises(InputError, match="same kind of list"):
        write_splits(501, [train, val, str(write_lines(tmp_path / "brats2020_training.txt", "x"))])
    with pytest.raises(InputError, match="cannot be read"):
        write_splits(501, [str(tmp_path / "train.txt"), str(tmp_path / "val.txt")])


def test_nothing_is_overwritten_unasked(tmp_path: Path, folder: Path) -> None:
    files = lists(tmp_path)
    write_splits(501, files)
    write_splits(501, files)  # the same again
    with pytest.raises(InputError, match=r"splits_final.json exists and says something else.*--overwrite"):
        write_splits(501, ["patients"])
    assert read(folder) == [{"train": CASES[:4], "val": CASES[4:6]}]
    write_splits(501, ["patients"], folds=4, overwrite=True)
    assert len(read(folder)) == 4 and not (folder / "mmkd_test_cases.json").exists()
    (folder / "splits_final.json").write_text("[{")
    with pytest.raises(InputError, match="cannot be read"):
        write_splits(501, files)


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("BraTS-GLI-00001-000", "BraTS-GLI-00001"),
        ("BraTS-MEN-RT-0402-1", "BraTS-MEN-RT-0402"),
        ("BraTS-GoAT-00003", "BraTS-GoAT-00003"),
        ("BraTS2021_00000", "BraTS2021_00000"),
        ("Brats18_TCIA08_167_1", "Brats18_TCIA08_167_1"),
    ],
)
def test_patient_of_a_case(case: str, patient: str) -> None:
    assert patient_of(case) == patient


def test_a_patient_key_of_ones_own() -> None:
    assert patient_of("p07_visit2", r"(p\d+)_visit\d") == "p07"
    with pytest.raises(InputError, match="does not match the case 'p07'"):
        patient_of("p07", r"(p\d+)_visit\d")
    with pytest.raises(InputError, match="exactly one group"):
        patient_of("p07", r"p\d+")
    with pytest.raises(InputError, match="no regular expression"):
        patient_of("p07", "(")


def test_patients_are_never_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [f"BraTS-GLI-{patient:05d}-{time:03d}" for patient in range(23) for time in range(1 + patient % 4)]
    folder = write_names(tmp_path, monkeypatch, cases)
    write_splits(501, ["patients"], seed=3)
    splits = read(folder)
    assert len(splits) == 5 and sorted(case for fold in splits for case in fold["val"]) == sorted(cases)
    for fold in splits:
        assert sorted(fold["train"] + fold["val"]) == sorted(cases)
        assert not {case[:15] for case in fold["train"]} & {case[:15] for case in fold["val"]}
    sizes = [len(fold["val"]) for fold in splits]
    assert max(sizes) - min(sizes) <= 1
    write_splits(501, ["patients"], seed=3)  # the same seed gives the same folds
    with pytest.raises(InputError, match="says something else"):
        write_splits(501, ["patients"], seed=4)


def test_patients_of_the_case_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_names(tmp_path, monkeypatch, "abcd", patients={"a": "1", "b": "2", "c": "1", "d": "2"})
    assert read_data_set(501).aliases == {}  # a folder that all cases share names none of them
    assert write_default_splits(501) is not None
    assert sorted(fold["val"] for fold in read(folder)) == [["a", "c"], ["b", "d"]]
    write_splits(501, ["patients"], folds=4, patient_key="(.)", overwrite=True)
    assert sorted(fold["val"] for fold in read(folder)) == [["a"], ["b"], ["c"], ["d"]]


def test_lists_that_divide_patients_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_names(tmp_path, monkeypatch, ["BraTS-GLI-00001-000", "BraTS-GLI-00001-001"])
    train = write_lines(tmp_path / "train.txt", "BraTS-GLI-00001-000")
    val = write_lines(tmp_path / "val.txt", "BraTS-GLI-00001-001")
    write_splits(501, [str(train), str(val)])
    assert "fold 0 divides 1 patients: BraTS-GLI-00001" in caplog.text


def test_groups_are_balanced_and_few_groups_are_refused() -> None:
    folds = group_folds({str(number): str(number) for number in range(13)}, 5, 0)
    assert sorted(len(fold.val) for fold in folds) == [2, 2, 3, 3, 3]
    with pytest.raises(InputError, match="from 2 to 3"):
        group_folds({"a": "1", "b": "2", "c": "3"}, 4, 0)
    with pytest.raises(InputError, match="from 2 to 3"):
        group_folds({"a": "1", "b": "2", "c": "3"}, 1, 0)


@pytest.mark.parametrize("header", ["Subject_ID,Partition_ID", "Partition_ID,Subject_ID"])
def test_institutions(header: str, tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    site_of = dict(zip(CASES[:7], ["01", "01", "01", "02", "02", "03", "-1"], strict=True))
    rows = [",".join((case, site) if header.startswith("S") else (site, case)) for case, site in site_of.items()]
    table = write_lines(tmp_path / "partitioning_1.csv", header, *rows)
    with caplog.at_level(logging.WARNING):
        write_splits(501, ["institutions", str(table)])  # as many folds as institutions, as they are fewer than five
    assert sorted(fold["val"] for fold in read(folder)) == [CASES[:3], CASES[3:5], CASES[5:6]]  # leave one out
    assert "2 cases of Dataset501_Names are in no fold" in caplog.text
    assert read_sites(table, read_data_set(501))[CASES[3]] == "02"


def test_bad_institutions(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="give one CSV"):
        write_splits(501, ["institutions", "a.csv", "b.csv"])
    with pytest.raises(InputError, match=r"case_map.json names no institutions; give the CSV file .*convert again"):
        write_splits(501, ["institutions"])
    table = write_lines(tmp_path / "p.csv", "Subject_ID,Site", f"{CASES[0]},1")
    with pytest.raises(InputError, match=r"p.csv has no column 'Partition_ID': its columns are subject_id, site"):
        write_splits(501, ["institutions", str(table)])
    write_lines(table, "Subject_ID,Partition_ID", f"{CASES[0]},")
    with pytest.raises(InputError, match="line 2: the column 'Partition_ID' is empty"):
        write_splits(501, ["institutions", str(table)])
    write_lines(table, "Subject_ID,Partition_ID")
    with pytest.raises(InputError, match="no row"):
        write_splits(501, ["institutions", str(table)])


def test_data_sets_that_do_not_exist(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="-d 7: there is no data set"):
        write_splits(7, ["patients"])
    raw = tmp_path / "nnUNet_raw"
    (raw / "Dataset501_Other").mkdir()
    with pytest.raises(InputError, match="several data sets: Dataset501_Names, Dataset501_Other"):
        write_splits(501, ["patients"])
    (raw / "Dataset502_Empty").mkdir()
    with pytest.raises(InputError, match=r"no dataset\.json"):
        write_splits(502, ["patients"])
    (raw / "Dataset502_Empty" / "dataset.json").write_text(json.dumps({**SMALLEST, "dataset": {}}))
    with pytest.raises(InputError, match="no case with a label"):
        write_splits(502, ["patients"])
    monkeypatch.delenv("nnUNet_preprocessed")
    with pytest.raises(InputError, match="nnUNet_preprocessed is not set"):
        write_splits(501, ["patients"])


def test_a_preprocessed_data_set_without_raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_raw", raising=False)
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    for case in CASES:
        write_lines(tmp_path / "Dataset009_X" / "gt_segmentations" / f"{case}.nii.gz", "")
    (tmp_path / "Dataset009_X" / "dataset.json").write_text(json.dumps(SMALLEST))
    assert len(write_splits(9, ["patients"]).folds) == 5


def test_default_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_names(tmp_path, monkeypatch, [f"BraTS-GLI-0000{p}-00{t}" for p in range(3) for t in range(2)])
    written = write_default_splits(501)
    assert written is not None and [len(fold.val) for fold in written.folds] == [2, 2, 2]
    before = (folder / "splits_final.json").read_bytes()
    assert write_default_splits(501) is None and (folder / "splits_final.json").read_bytes() == before
    monkeypatch.delenv("nnUNet_preprocessed")
    assert write_default_splits(501) is None and "no splits are written" in caplog.text


def test_one_case_per_patient_needs_no_splits_of_ours(folder: Path) -> None:
    assert write_default_splits(501) is None and not folder.exists()


def test_converted_cases(tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from brats_like import write_case

    from nnunetv2_mmkd.conversion.convert import convert
    from nnunetv2_mmkd.editions.brats import BRATS2018

    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    write_case(tmp_path / "src" / "HGG", "Brats18_A_1", missing=["t2"])
    write_case(tmp_path / "src" / "LGG", "Brats18_B_1")
    target = convert(BRATS2018, [tmp_path / "src"], 501, processes=1, show_progress=False)
    data = read_data_set(501)
    assert data.cases == ("Brats18_A_1", "Brats18_B_1") and data.missing == {"Brats18_A_1": ("t2",)}
    assert data.aliases["Brats18_A_1"] == ("HGG/Brats18_A_1", "Brats18_A_1")
    train = write_lines(tmp_path / "train.txt", "HGG/Brats18_A_1")
    val = write_lines(tmp_path / "val.txt", "LG_Brats18_B_1_vol.npy")
    write_splits(501, [str(train), str(val)])
    assert read(tmp_path / "preprocessed" / target.name) == [{"train": ["Brats18_A_1"], "val": ["Brats18_B_1"]}]


def test_broken_dataset_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_names(tmp_path, monkeypatch, ["a"], missing={"b": ["t1"]})
    with pytest.raises(InputError, match="missing_modalities: the data set has no case 'b'"):
        read_data_set(501)
    file = tmp_path / "nnUNet_raw" / "Dataset501_Names" / "dataset.json"
    (file.parent / "imagesTs").mkdir()
    (file.parent / "imagesTs" / "b_0001.nii.gz").touch()
    assert read_data_set(501).missing == {}  # b has no label
    file.write_text(file.read_text().replace('"b": ["t1"]', '"a": ["pd"]'))
    with pytest.raises(InputError, match="missing_modalities of case a: unknown modality 'pd'"):
        read_data_set(501)
    (tmp_path / "nnUNet_raw" / "Dataset501_Names" / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="'channel_names' must be"):
        read_data_set(501)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("case_map.json", "[]", "case_map.json is a list: expected an object"),
        ("case_map.json", '{"a": "b"}', "case_map.json: 'a' is text: expected an object"),
        ("case_map.json", '{"a": {}, "a": {}}', "the key 'a' stands in it twice"),
        ("dataset.json", json.dumps({**SMALLEST, "dataset": ["a"]}), "'dataset' is a list: expected an object"),
        ("labelsTr/a.NII.GZ", "", "looks like an image"),
    ],
)
def test_damaged_files_of_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: str, message: str
) -> None:
    write_names(tmp_path, monkeypatch, ["x", "y"])
    (tmp_path / "nnUNet_raw" / "Dataset501_Names" / file).write_text(content)
    with pytest.raises(InputError, match=message):
        read_data_set(501)


@pytest.mark.parametrize("content", ['{"folds": ["abc"]}', '{"folds": [[1]]}', '{"folds": {}}', "[]"])
def test_damaged_test_lists(tmp_path: Path, content: str) -> None:
    (tmp_path / "mmkd_test_cases.json").write_text(content)
    with pytest.raises(InputError, match=r"mmkd_test_cases\.json"):
        read_test_cases(tmp_path)
