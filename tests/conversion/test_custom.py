"""``mmkd convert custom``, BIDS and YAML: a data set of one's own, right down to its regions; what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from brats_like import SHAPE, labels, save

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.editions.catalogue import get_edition
from nnunetv2_mmkd.editions.custom_labels import label_scheme
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.nnunet_json import read_dataset_json

QUICK = ["-np", "1", "--disable_progress_bar"]
HOW = [
    "--images", "{case}/{case}_{modality}.nii.gz", "--labels", "{case}/{case}_mask.nii.gz",
    "--modalities", "T1", "T1ce=t1c,t1_gd", "FLAIR=flair", "--label", "WT=1,2,4", "TC=1,4", "ET=4",
]  # fmt: skip
YAML = """\
name: clinic
dataset_id: 602
images: "{case}/{case}_{modality}.nii.gz"
labels: "{case}/{case}_mask.nii.gz"
modalities: {T1: , T1ce: [t1c, t1_gd], FLAIR: flair}
label: {WT: [1, 2, 4], TC: [1, 4], ET: 4}
"""


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 1000, SHAPE).astype(np.int16)


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """Three patients, the second without T1ce, the third without a mask."""
    for number in (1, 2, 3):
        folder = tmp_path / "clinic" / f"p{number}"
        for channel, name in enumerate(("t1", "t1_gd", "flair")):
            if (number, name) != (2, "t1_gd"):
                save(folder / f"p{number}_{name}.nii.gz", image(10 * number + channel))
        if number < 3:
            save(folder / f"p{number}_mask.nii.gz", labels(number))
    return tmp_path / "clinic"


def content(target: Path) -> dict[str, bytes]:
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in target.glob("*/*.nii.gz")}


def test_custom_and_yaml(clinic: Path, raw: Path) -> None:
    assert main(["convert", "custom", str(clinic), "-d", "601", "--name", "Clinic", *HOW, *QUICK]) == 0
    target = raw / "Dataset601_Clinic"
    dataset = read_dataset_json(target / "dataset.json")
    assert dataset.content["labels"] == {"background": 0, "WT": [1, 2, 3], "TC": [1, 3], "ET": [3]}
    assert dataset.content["regions_class_order"] == [2, 1, 3]
    assert dataset.content["channel_names"] == {"0": "T1", "1": "T1ce", "2": "FLAIR"}
    assert dataset.missing == {"p2": ("t1ce",)} and dataset.content["numTraining"] == 2
    assert sorted(path.name for path in (target / "imagesTs").iterdir()) == [f"p3_000{c}.nii.gz" for c in range(3)]
    seg = np.asanyarray(nib.load(target / "labelsTr" / "p1.nii.gz").dataobj)
    assert np.array_equal(seg, np.where(labels(1) == 4, 3, labels(1)))
    assert np.array_equal(np.asanyarray(nib.load(target / "imagesTr" / "p1_0001.nii.gz").dataobj), image(11))
    assert not np.asanyarray(nib.load(target / "imagesTr" / "p2_0001.nii.gz").dataobj).any()

    written = get_edition(str(target / "mmkd_edition.yaml"))
    assert (written.dataset_id, written.dataset_name) == (601, "Clinic")

    (clinic.parent / "clinic.yaml").write_text(YAML)
    assert main(["convert", str(clinic.parent / "clinic.yaml"), str(clinic), *QUICK]) == 0
    assert content(raw / "Dataset602_Clinic") == content(target)
    spec = get_edition(str(clinic.parent / "clinic.yaml"))
    for field in ("channels", "image_template", "label_template", "label_map", "regions", "classes"):
        assert getattr(written, field) == getattr(spec, field), field
    assert {value: spec.decoded(value) for value in (1, 2, 3)} == {1: 1, 2: 2, 3: 3}


def test_without_labels(
    clinic: Path, raw: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images that are only to be predicted; what comes next is no training."""
    how = [*HOW[:2], *HOW[4:8], "--splits", "patients"]
    assert main(["convert", "custom", str(clinic), "-d", "601", *how, *QUICK]) == 0
    images = raw / "Dataset601_Custom" / "imagesTs"
    assert len(list(images.iterdir())) == 9 and "this data set can be predicted, not trained on" in caplog.text
    said = capsys.readouterr().out
    assert said == f"next:\n  mmkd predict -m MODEL_FOLDER -f 0 -i {images} -o SEGMENTATIONS\n"


def test_another_description_is_another_conversion(clinic: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "custom", str(clinic), "-d", "601", *HOW, *QUICK]) == 0
    assert main(["convert", "custom", str(clinic), "-d", "601", *HOW[:-1], "ET=4", "rest=3", *QUICK]) == 1
    assert "made with other settings (definition" in capsys.readouterr().err
    assert main(["convert", "custom", str(clinic), "-d", "601", *HOW, *QUICK]) == 0


def test_submission(clinic: Path, raw: Path, tmp_path: Path) -> None:
    """The labels go back to those on disk."""
    (tmp_path / "clinic.yaml").write_text(YAML)
    assert main(["convert", str(tmp_path / "clinic.yaml"), str(clinic), *QUICK]) == 0
    predictions = raw / "Dataset602_Clinic" / "labelsTr"
    submit = ["submit", str(tmp_path / "clinic.yaml"), "-i", str(predictions), "-ref", str(clinic), "--allow_missing"]
    assert main([*submit, "-o", str(tmp_path / "out"), "--disable_progress_bar"]) == 0
    assert np.array_equal(np.asanyarray(nib.load(tmp_path / "out" / "p1.nii.gz").dataobj), labels(1))


def test_pictures(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused where volumes are expected, with what to write in a file of one's own."""
    save(tmp_path / "in" / "a_t1.nii.gz", image(1)[:, :, :1])
    how = ["--images", "{case}_{modality}.nii.gz", "--modalities", "T1"]
    assert main(["convert", "custom", str(tmp_path / "in"), "-d", "601", *how, *QUICK]) == 1
    assert "or take the case out; of pictures: a YAML file with configuration: 2d" in capsys.readouterr().err
    text = 'dataset_id: 602\nimages: "{case}_{modality}.nii.gz"\nmodalities: {T1: t1}\nconfiguration: 2d\n'
    (tmp_path / "own.yaml").write_text(text)
    assert main(["convert", str(tmp_path / "own.yaml"), str(tmp_path / "in"), *QUICK]) == 0
    assert (raw / "Dataset602_Own" / "imagesTs" / "a_0000.nii.gz").is_file()


def test_visits_by_template(raw: Path, tmp_path: Path) -> None:
    for visit, ending in (("2019", ".nii"), ("2020", ".nii.gz")):
        save(tmp_path / "in" / "T1" / f"anna-{visit}{ending}", image(int(visit)))
        save(tmp_path / "in" / "masks" / f"anna-{visit}-x.nii.gz", labels())
    how = ["--images", "{modality}/{patient}-{session}.nii.gz", "--labels", "masks/{patient}-{session}-*.nii.gz"]
    how += ["--modalities", "T1", "--label", "tumour=1,2,4"]
    assert main(["convert", "custom", str(tmp_path / "in"), "-d", "603", *how, *QUICK]) == 0
    cases = json.loads((raw / "Dataset603_Custom" / "case_map.json").read_text())
    assert {case: entry["patient"] for case, entry in cases.items()} == {"anna_2019": "anna", "anna_2020": "anna"}
    assert read_dataset_json(raw / "Dataset603_Custom" / "dataset.json").content["labels"] == {
        "background": 0,
        "tumour": 1,
    }
    assert set(np.unique(nib.load(raw / "Dataset603_Custom" / "labelsTr" / "anna_2019.nii.gz").dataobj)) == {0, 1}


def bids(root: Path) -> Path:
    for visit in ("1", "2"):
        for seed, name in enumerate(("T1w", "ce-gd_T1w", "FLAIR", "bold")):
            if (visit, name) != ("2", "ce-gd_T1w"):
                folder = root / "sub-a" / f"ses-{visit}" / "anat"
                save(folder / f"sub-a_ses-{visit}_{name}.nii.gz", image(seed))
        folder = root / "derivatives" / "masks" / "sub-a" / f"ses-{visit}"
        save(folder / f"sub-a_ses-{visit}_label-lesion_mask.nii.gz", labels())
        save(folder / f"sub-a_ses-{visit}_T1w.nii.gz", image(9))
    return root


@pytest.mark.parametrize("spelled", [["T1", "T1ce", "FLAIR"], ["T1=T1w", "T1ce=ce-gd_T1w", "FLAIR=FLAIR"]])
def test_bids(raw: Path, tmp_path: Path, spelled: list[str]) -> None:
    how = ["--bids", "--labels", "label-lesion_mask", "--modalities", *spelled, "--label", "lesion=1,2,4"]
    assert main(["convert", "custom", str(bids(tmp_path / "in")), "-d", "604", *how, *QUICK]) == 0
    target = raw / "Dataset604_Custom"
    assert read_dataset_json(target / "dataset.json").missing == {"sub-a_ses-2": ("t1ce",)}
    for channel in range(3):
        written = nib.load(target / "imagesTr" / f"sub-a_ses-1_{channel:04d}.nii.gz")
        assert np.array_equal(np.asanyarray(written.dataobj), image(channel))
    assert json.loads((target / "case_map.json").read_text())["sub-a_ses-2"]["patient"] == "sub-a"


@pytest.mark.slow
def test_real_cases_renamed_and_deleted(brats2018_data: Path, raw: Path, tmp_path: Path) -> None:
    """As the edition converts them: images byte by byte, regions voxel by voxel (its values are others)."""
    names = {"t1": "T1_pre", "t1ce": "T1_post", "t2": "T2w", "flair": "T2_FLAIR", "seg": "truth"}
    gone = {0: ("t1ce", "t2"), 1: ("flair",)}
    for number, case in enumerate(sorted(brats2018_data.glob("*/Brats18_*"))[:2]):
        for file in case.iterdir():
            name = file.name.removeprefix(f"{case.name}_").removesuffix(".nii.gz")
            if name not in gone[number]:
                for target in (f"own/{case.name}/{names[name]}.nii.gz", f"brats/{case.name}/{file.name}"):
                    (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
                    (tmp_path / target).symlink_to(file)
    how = ["--images", "{case}/{modality}.nii.gz", "--labels", "{case}/truth.nii.gz", "--label", "WT=1,2,4", "TC=1,4"]
    how += ["ET=4", "--modalities", "T1=T1_pre", "T1ce=T1_post", "T2=T2w", "FLAIR=T2_FLAIR"]
    assert main(["convert", "custom", str(tmp_path / "own"), "-d", "601", *how, *QUICK]) == 0
    assert main(["convert", "brats2018", str(tmp_path / "brats"), "-d", "501", *QUICK]) == 0
    own, brats = raw / "Dataset601_Custom", raw / "Dataset501_BraTS2018"
    images, others = ({name: of for name, of in content(at).items() if "images" in name} for at in (own, brats))
    assert len(images) == 8 and images == others
    dataset, other = (read_dataset_json(folder / "dataset.json") for folder in (own, brats))
    assert dataset.missing == other.missing and len(dataset.missing) == 2
    for path in (own / "labelsTr").iterdir():
        made, expected = (np.asanyarray(nib.load(at / "labelsTr" / path.name).dataobj) for at in (own, brats))
        for region, name in (("WT", "whole_tumor"), ("TC", "tumor_core"), ("ET", "enhancing_tumor")):
            inside = np.isin(made, dataset.content["labels"][region])
            assert inside.any() and np.array_equal(inside, np.isin(expected, other.content["labels"][name])), region


def rename(folder: Path, old: str, new: str) -> None:
    (folder / old).rename(folder / new)


def copy(folder: Path, old: str, new: str) -> None:
    shutil.copy(folder / old, folder / new)


SPOILT: dict[str, tuple[Callable[[Path], object], dict[str, str], str]] = {
    "two candidates": (lambda at: copy(at, "p1/p1_t1_gd.nii.gz", "p1/p1_t1c.nii.gz"), {},
                       "case p1: two files for T1ce: .*p1_t1_gd.nii.gz and .*p1_t1c.nii.gz|p1_t1c.nii.gz and"),
    "a modality nobody has": (lambda at: None, {"FLAIR=flair": "FLAIR=fla"},
                              r"no case has an image of FLAIR = fla; in the place of \{modality\} there are flair"),
    "nothing matches": (lambda at: None, {HOW[1]: "{case}_{modality}.nii.gz"},
                        r"no image fits the template '\{case\}_\{modality\}.nii.gz' .*there are 10 images"),
    "no label matches": (lambda at: None, {HOW[3]: "{case}_seg.nii.gz"}, "no segmentation fits"),
    "a placeholder": (lambda at: None, {HOW[1]: "{subject}/{modality}.nii.gz"}, "{subject} is no placeholder here"),
    "no case": (lambda at: None, {HOW[1]: "x/{modality}.nii.gz"}, "nothing names the case"),
    "no modality": (lambda at: None, {HOW[1]: "{case}/x.nii.gz"}, "nothing says which modality"),
    "modality of labels": (lambda at: None, {HOW[3]: "{case}/{modality}.nii.gz"}, "{modality} is no placeholder here"),
    "braces": (lambda at: None, {HOW[1]: "{case/{modality}.nii.gz"}, "its braces do not match"),
    "out of the folder": (lambda at: None, {HOW[1]: "../{case}/{modality}.nii.gz"}, "expected a path below"),
    "no NIfTI": (lambda at: None, {HOW[1]: "{case}/{modality}.png"}, "expected the name of an image file"),
    "download": (lambda at: rename(at, "p1/p1_flair.nii.gz", "p1/p1_flair.nii.gz.part"), {},
                 "p1_flair.nii.gz.part looks like the FLAIR of case p1"),
    "copy": (lambda at: rename(at, "p1/p1_mask.nii.gz", "p1/p1_mask (1).nii.gz"), {},
             r"p1_mask \(1\).nii.gz looks like the segmentation of case p1"),
    "labels only": (lambda at: [path.unlink() for path in (at / "p1").glob("p1_[tf]*")], {},
                    r"case p1: no image at all in .*p1; expected at least one of \{case\}/"),
    "label of no name": (lambda at: None, {"WT=1,2,4": "WT=1,4,5"}, "has the label 2; custom names 0, 1, 4, 5"),
    "no number": (lambda at: None, {"ET=4": "ET=four"}, "--label 'ET=four': expected NAME=VALUE"),
    "no value": (lambda at: None, {"ET=4": "ET"}, "--label 'ET': expected NAME=VALUE"),
    "label twice": (lambda at: None, {"ET=4": "WT=4"}, "--label WT=4: WT is given twice"),
    "modality twice": (lambda at: None, {"FLAIR=flair": "T1Gd=flair"}, "two channels of one name"),
    "word twice": (lambda at: None, {"FLAIR=flair": "FLAIR=t1_gd"}, "'t1_gd' stands for T1ce and for FLAIR"),
    "empty word": (lambda at: None, {"FLAIR=flair": "FLAIR="}, "--modalities FLAIR=: expected a name and what"),
    "case name": (lambda at: rename(at, "p1", "p?1"), {HOW[1]: "{case}/*_{modality}.nii.gz"},
                  r"'p\?1' cannot be the name of a case"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_refused(name: str, clinic: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, changed, message = SPOILT[name]
    spoil(clinic)
    how = [changed.get(word, word) for word in HOW]
    assert main(["convert", "custom", str(clinic), "-d", "601", *how, *QUICK]) == 1
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert not list(raw.iterdir())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["custom", "SRC"], "name the modalities"),
        (["custom", "SRC", "--modalities", "T1"], "say where the images are: --images"),
        (["custom", "SRC", "--modalities", "T1", "--images", "{case}/{modality}.nii.gz", "--bids"], "not both"),
        (["custom", "SRC", "--modalities", "T1", "--bids", "--labels", "dseg"], "--labels without --label"),
        (["custom", "SRC", "--modalities", "T1", "--bids", "--labels", "{case}.nii.gz", "--label", "a=1"],
         "with --bids give entities and suffix"),
        (["custom", "SRC", "--modalities", "T1", "--bids", "-d", "7"], "no image fits BIDS with these modalities"),
        (["custom", "SRC", *HOW], "give the number of the data set"),
        (["brats2018", "SRC", "--bids"], "--bids describes a data set of your own"),
        (["brats2018", "SRC", "--labels", "x"], "--labels: invalid choice: 'x'"),
        (["nowhere.yaml", "SRC"], "nowhere.yaml: cannot be read"),
    ],
)  # fmt: skip
def test_wrong_usage(
    argv: list[str], message: str, clinic: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["convert", *(str(clinic) if word == "SRC" else word for word in argv)])
    except SystemExit as stop:
        code = stop.code
    assert code in (1, 2) and message in capsys.readouterr().err
    assert not list(raw.iterdir())


def no_sessions(folder: Path) -> None:
    """The names of all files say no session; their folders do."""
    for path in sorted(folder.rglob("sub-*.nii.gz")):
        rename(path.parent, path.name, re.sub("_ses-.", "", path.name))


BIDS: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "a session without entity": (
        lambda at: rename(at / "sub-a/ses-1/anat", "sub-a_ses-1_T1w.nii.gz", "sub-a_T1w.nii.gz"),
        ["T1"], "lies in the session ses-1, and its name has no entity ses"),
    "no session has one": (
        no_sessions, ["T1"], r"ses-1, and its name has no entity ses.*--images '\{patient\}/\{session\}/anat/"),
    "a word nobody has": (
        lambda at: None, ["T1=T1", "FLAIR"], "no case has an image of T1 = T1, and .*_T1w.nii.gz usually is one"),
    "a contrast nobody has": (
        lambda at: None, ["T1", "T1ce=T1c"], "image of T1ce = T1c, and .*ce-gd_T1w.nii.gz usually is one"),
}  # fmt: skip


@pytest.mark.parametrize("name", BIDS)
def test_bids_refused(name: str, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, modalities, message = BIDS[name]
    spoil(bids(tmp_path / "in"))
    how = ["--bids", "--modalities", *modalities]
    assert main(["convert", "custom", str(tmp_path / "in"), "-d", "7", *how, *QUICK]) == 1
    said = capsys.readouterr().err
    assert re.search(message, said), said


def test_a_modality_that_no_case_has_is_said(raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No file can be meant by it: the channels may be those of a model that is there."""
    how = ["--bids", "--modalities", "T1", "PD=PDw"]
    assert main(["convert", "custom", str(bids(tmp_path / "in")), "-d", "7", *how, *QUICK]) == 0
    assert "no case has an image of PD = PDw: if there should be one, look at the names" in caplog.messages


def test_a_label_that_no_image_has_is_said(clinic: Path, raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["convert", "custom", str(clinic), "-d", "601", *HOW, "cavity=9", *QUICK]) == 0
    assert "no segmentation has the label 9 (cavity): is that right?" in caplog.messages


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "is no table of keys and values"),
        (YAML + "name: x\n", "line 1: the key 'name' is given twice"),
        (YAML + "imges: x\n", "'imges' is no key of an edition: choose from .*did you mean images"),
        (YAML.replace("ET: 4", "ET: four"), "label: ET is 'four': expected a whole number or a list"),
        (YAML.replace("ET: 4", "ET: true"), "label: ET is True: expected a whole number"),
        (YAML.replace("FLAIR: flair", "FLAIR: 2"), "modalities: FLAIR is 2: expected text"),
        (YAML.replace("602", "6020"), "dataset_id is 6020: expected a number from 1 to 999"),
        (YAML.replace("602", "'602'"), "dataset_id is '602': expected int"),
        (YAML.replace("name: clinic", "name: brats2018"), "the name 'brats2018' is that of BraTS 2018"),
        (YAML.replace("name: clinic", "name: ../x"), "name '../x': use letters"),
        (YAML.replace("{case}_{modality}", "{case}_{mod}"), "{mod} is no placeholder"),
        (YAML + "patient_pattern: '('\n", "is no regular expression"),
        (YAML.replace("{WT:", "[WT:"), "line 6"),
    ],
)
def test_bad_yaml(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        get_edition(str(tmp_path / "own.yaml"))
    assert "own.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("named", "regions", "order", "classes", "label_map"),
    [
        ({"edema": (2,), "core": (1,)}, {}, (), {"edema": 2, "core": 1}, {0: 0, 1: 1, 2: 2}),
        ({"ET": (4,), "WT": (1, 2, 4), "TC": (1, 4)}, {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}, (2, 1, 3),
         {"WT_without_TC": 2, "TC_without_ET": 1, "ET": 3}, {0: 0, 1: 1, 2: 2, 4: 3}),
        ({"a": (5, 7), "b": (9,), "background": (0,)}, {}, (), {"a": 1, "b": 2}, {0: 0, 5: 1, 7: 1, 9: 2}),
        ({"A": (1, 2), "B": (2, 3), "both": (2,)}, {"A": (1, 2), "B": (2, 3), "both": (2,)}, (1, 3, 2),
         {"A_without_B_both": 1, "B_without_both": 3, "both": 2}, {0: 0, 1: 1, 2: 2, 3: 3}),
    ],
)  # fmt: skip
def test_label_scheme(named, regions, order, classes, label_map) -> None:
    scheme = label_scheme(named)
    assert (scheme.regions, scheme.regions_class_order, scheme.classes) == (regions, order, classes)
    assert scheme.label_map == label_map and list(scheme.regions) == list(regions)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"A": (1, 2), "B": (2, 3)}, "the region B has values that lie in different regions"),
        ({"WT": (1, 2), "ED": (1,), "ET": (2,)}, "the region WT only holds what ED, ET have"),
        ({"a": (1,), "b": (1,)}, "the labels a and b have the same values"),
        ({"a": (0, 1)}, "label a: expected values from 1 on"),
        ({"background": (1,)}, "label background: background is 0 by itself"),
        ({"a": (1,), "ignore": (2,)}, "label ignore"),
        ({"a": (2**31,)}, "label a: expected values from 1 on"),
    ],
)
def test_labels_that_nnunet_cannot_tell_apart(named: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        label_scheme(named)
