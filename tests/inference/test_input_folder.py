"""What lies in a folder: case folders, flat files, BIDS, in any spelling; what is refused; tables of cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.editions.spellings import Speller
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.input_folder import read_folder
from nnunetv2_mmkd.inference.manifest import read_manifest

MODALITIES = ("t1", "t1ce", "t2", "flair")
ENDINGS = (".nii.gz", ".nrrd", ".mha", ".nii")


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(
    folder: Path, own: dict[str, list[str]] | None = None, ignored: list[str] | None = None, modalities=MODALITIES
) -> dict[str, dict[str, str]]:
    """Case -> modality -> path."""
    speller = Speller(modalities, own or {}, EDITIONS.values())
    content = read_folder(folder, speller, ENDINGS, ignored or [], dict(enumerate(range(len(modalities)))))
    return {
        case: {modalities[index]: path.relative_to(folder).as_posix() for index, path in images.items()}
        for case, images in content.cases.items()
    }


READ: dict[str, tuple[list[str], dict[str, str]]] = {
    "flat": (
        ["p7_T1.nii.gz", "p7_T1_post.nii.gz", "p7_FLAIR.nii.gz", "p8_T2w.nii.gz", "notes.txt", "p7_T1.json"],
        {"p7": "t1 t1ce flair", "p8": "t2"},
    ),
    "case folders": (["a/T1.nii.gz", "a/T2-FLAIR.nii.gz", "b/T1 Gd.nii.gz"], {"a": "t1 flair", "b": "t1ce"}),
    "with other words": (["a/003_T1_ax.nii.gz", "a/t1c_005_sag.nii.gz"], {"a": "t1 t1ce"}),
    "visits": (["p1/2019/t1.nii.gz", "p1/2020/t1.nii.gz"], {"p1_2019": "t1", "p1_2020": "t1"}),
    "modality folders": (
        ["p1/T1/image.nii.gz", "p1/T1_post/image.nii.gz", "p2/FLAIR/FLAIR.nii.gz", "p2/003_T1/post_contrast.nii.gz"],
        {"p1": "t1 t1ce", "p2": "t1ce flair"},
    ),
    "BraTS 2018": (
        ["HGG/Brats18_X_1_1/Brats18_X_1_1_t1ce.nii.gz", "LGG/Brats18_X_2_1/Brats18_X_2_1_t2.nii.gz",
         "HGG/Brats18_X_1_1/Brats18_X_1_1_seg.nii.gz"],
        {"Brats18_X_1_1": "t1ce", "Brats18_X_2_1": "t2"},
    ),
    "Open MS": (["patient01/T1WKS.nii.gz", "patient01/FLAIR.nii.gz", "patient01/mask1.nii.gz",
                 "patient01/brainmask.nii.gz"], {"patient01": "t1ce flair"}),
    "Open MS, registered": (["MNI/patient01/T1POST_N4_noneck_regtoFLAIR_brain_N4.nii.gz",
                             "MNI/patient01/GOLD_STANDARD_N4_noneck_regtoMNI.nii.gz",
                             "MNI/patient01/T1_N4_noneck_regtoFLAIR_brain_N4.nii.gz"], {"MNI_patient01": "t1 t1ce"}),
    "TCIA": (["x/MRHR_FLAIR_AX_TCGA-FG-6692_SE_IR_5_tir2d1_21_fla.nii.gz", "x/T1_AX_TCGA-FG-6692_SE_10_se2d1_t1.nii.gz",
              "x/MRHR_T1_AX_POST_GAD_TCGA-FG-6692_SE_13_se2d1r_t1c.nii.gz", "y/AX_T1_pre_gd_RM_8_t1.nii.gz"],
             {"x": "t1 t1ce flair", "y": "t1"}),
    "Siemens": (["a/t1_se.nii.gz", "a/t2_tse_tra.nii.gz", "a/t2_tirm_tra_dark-fluid.nii.gz"], {"a": "t1 t2 flair"}),
    "volumes": (["a/3DT1.nii.gz", "a/3DT1_Gd.nii.gz", "a/3D_T2.nii.gz", "a/3dFLAIR.nii.gz"], {"a": "t1 t1ce t2 flair"}),
    "a heart's label": (["Case3001_gd.nii.gz", "Case3001_T2.nii.gz"], {"Case3001": "t2"}),
    "BraTS 2023": (["BraTS-GLI-00001-000/BraTS-GLI-00001-000-t2f.nii.gz"], {"BraTS-GLI-00001-000": "flair"}),
    "other formats": (["a_t1.nii", "a_t2.mha"], {"a": "t1 t2"}),
    "case folders in nnU-Net's naming": (["a/a_0000.nii.gz", "a/a_0003.nii.gz"], {"a": "t1 flair"}),
    "one case": (["T1.nii.gz", "FLAIR.nii.gz"], {"FOLDER": "t1 flair"}),
    "one exam": (["AX_T1_FOLDER_SE_8_t1.nii.gz", "AX_T2_FOLDER_RM_4_t2.nii.gz"], {"FOLDER": "t1 t2"}),
    "predictions below": (["a_t1.nii.gz", "out/mmkd_report.json", "out/a.nii.gz", "out/a/b.nii.gz"], {"a": "t1"}),
    "BIDS": (
        ["sub-1/ses-1/anat/sub-1_ses-1_T1w.nii.gz", "sub-1/ses-1/anat/sub-1_ses-1_ce-gd_T1w.nii.gz",
         "sub-1/ses-1/anat/sub-1_ses-1_PDw.nii.gz", "sub-1/ses-2/anat/sub-1_ses-2_FLAIR.nii.gz",
         "derivatives/sub-1/ses-2/anat/sub-1_ses-2_T1w.nii.gz", "dataset_description.json"],
        {"sub-1_ses-1": "t1 t1ce", "sub-1_ses-2": "flair"},
    ),
    "BIDS and others": (
        ["dataset_description.json", "sub-1/anat/sub-1_T1w.nii.gz", "notes/template.nii.gz"],
        {"sub-1": "t1"},
    ),
    "BIDS with runs": (
        ["sub-1/anat/sub-1_run-1_T1w.nii.gz", "sub-1/anat/sub-1_run-2_T1w.nii.gz"],
        {"sub-1_run-1": "t1", "sub-1_run-2": "t1"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_read(name: str, tmp_path: Path) -> None:
    files, cases = READ[name]
    folder = put(tmp_path / "FOLDER", *files)
    assert {
        case: " ".join(name for name in MODALITIES if name in images) for case, images in found(folder).items()
    } == cases


REFUSED: dict[str, tuple[list[str], str]] = {
    "two for T1ce": (["a/T1c.nii.gz", "a/T1_Gd.nii.gz"], "case a: two files for t1ce: .*T1_Gd.nii.gz and .*T1c.nii.gz"),
    "two, flat": (["a_t1.nii.gz", "a_t1w.nii.gz"], "case a: two files for t1"),
    "compressed and not": (["a_t1.nii.gz", "a_t1.nii"], "case a: two files for t1"),
    "T1 or T1ce": (["a_post_T1.nii.gz", "a_t2.nii.gz"], r"a_post_T1.nii.gz could be t1 or t1ce: say which by --modal"),
    "a subtraction": (["a/T1_sub.nii.gz", "a/t2.nii.gz"], "T1_sub.nii.gz could be t1 or t1ce"),
    "T1 or T1ce, alone": (["a_post_T1.nii.gz"], r"a_post_T1.nii.gz could be t1 or t1ce"),
    "T1 or T1ce, apart": (["a/T1_3D_post.nii.gz", "a/t2.nii.gz"], "could be t1 or t1ce"),
    "T1 or T1ce, by folder": (["a/T1/T1_post.nii.gz", "a/t2.nii.gz"], "could be t1 or t1ce"),
    "T1 or FLAIR, by folder": (["a/T1/flair.nii.gz", "a/t2.nii.gz"], "could be flair or t1"),
    "T2 or FLAIR": (["a/t1.nii.gz", "a/t2_tirm_tra.nii.gz"], "t2_tirm_tra.nii.gz could be flair or t2"),
    "an agent is no label": (["a/T1.nii.gz", "a/MPRAGE_Gd.nii.gz"], "MPRAGE_Gd.nii.gz: its name says no modality"),
    "T1 or T2": (["a_t1_t2.nii.gz", "a_flair.nii.gz"], "could be t1 or t2: .* t2=t1_t2; leave it out by --ignore t1"),
    "several": (["a_adc.nii.gz", "b_adc.nii.gz", "b_t1.nii.gz"], "--ignore adc. The same is asked of b_adc.nii.gz"),
    "nobody has": (["a_adc.nii.gz", "a_t1.nii.gz"], "a_adc.nii.gz is read as adc, and this model has t1, t1ce"),
    "no name with a modality": (["a_scan.nii.gz", "b/im.nii.gz", "a_seg.nii.gz"],
                                r"no name of an image says its modality \(a_scan.nii.gz, b/im.nii.gz\).*--manifest"),
    "no modality": (["a_scan.nii.gz", "a_t1.nii.gz"], "a_scan.nii.gz: its name says no modality, and this model has"),
    "halves": (["a_t1.nii.gz", "a_flair_reg.nii.gz"], "a_t1.nii.gz is read as of 'a', .* 'a_reg', and they look"),
    "one case or four": (["AX_x_T1_3.nii.gz", "x_T2_SE_4.nii.gz"], "no case has two images, and there are t1, t2 .*if"),
    "two folders": (["a/b/t1.nii.gz", "a_b/t2.nii.gz"], "are in different folders and would be of one case, 'a_b'"),
    "flat and folder": (["a_t1.nii.gz", "a/t2.nii.gz"], "are in different folders and would be of one case, 'a'"),
    "name": (["a/t1.nii.gz", "a/t2\udcff.nii.gz"], "is not UTF-8; rename the file"),
    "twins": (["A_t1.nii.gz", "a_t1.nii.gz"], "differ only in letter case"),
    "download": (["a_t1.nii.gz", "a_t2.nii.gz.part"], r"a_t2.nii.gz.part looks like the t2 of case a"),
    "letter case": (["a/t1.nii.gz", "a/T2.NII.GZ"], r"T2.NII.GZ looks like the t2 of case a"),
    "two in letter case": (
        ["a_t1.nii.gz", "a_t2.nii.gz", "a_t2.NII.GZ"],
        r"a_t2.NII.GZ and a_t2.nii.gz differ only in letter case",
    ),
    "copy": (["a_t1.nii.gz", "a_t2.nii.gz", "a_t2 (1).nii.gz"], r"'a' and 'a_\(1\)' differ only in what marks a copy"),
    "empty folder": (["a_t1.nii.gz", "a_t2.nii.gz/readme.txt"], r"a_t2.nii.gz looks like the t2 of case a"),
    "BIDS, session without entity": (
        ["sub-1/ses-1/anat/sub-1_T1w.nii.gz"], "lies in the session ses-1, and its name has no entity ses",
    ),
    "BIDS, other session": (["sub-1/ses-1/anat/sub-1_ses-2_T1w.nii.gz"], "session ses-1, and its name says ses-2"),
    "BIDS, some sessions": (
        ["sub-1/anat/sub-1_T1w.nii.gz", "sub-1/ses-1/anat/sub-1_ses-1_T2w.nii.gz"], "one name has the entity ses",
    ),
    "BIDS, some runs": (
        ["sub-1/anat/sub-1_run-1_T1w.nii.gz", "sub-1/anat/sub-1_T2w.nii.gz"], "one name has the entity run, the other",
    ),
    "BIDS, two": (["sub-1/anat/sub-1_acq-a_T1w.nii.gz", "sub-1/anat/sub-1_acq-b_T1w.nii.gz"], "case sub-1: two files"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    files, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        found(put(tmp_path, *files))


def test_the_user_says_what_is_what(tmp_path: Path) -> None:
    folder = put(tmp_path, "a_post_T1.nii.gz", "a_T1.nii.gz", "a_DWI.nii.gz")
    own = {"t1ce": ["post_t1"], "t1": ["t1"]}
    assert found(folder, own, ["dwi"]) == {"a": {"t1": "a_T1.nii.gz", "t1ce": "a_post_T1.nii.gz"}}
    with pytest.raises(InputError, match=r"a_DWI.nii.gz is read as dwi"):
        found(folder, own)


def test_the_words_of_the_user_go_first(tmp_path: Path) -> None:
    folder = put(
        tmp_path, "a/AX_T1_POST_GD_FLAIR_13_t1c.nii.gz", "a/AXIAL_FLAIR_IR_7_fla.nii.gz", "a/IR_AX_T1_t1.nii.gz"
    )
    with pytest.raises(InputError, match="could be flair or t1ce"):
        found(folder)
    own = {"t1ce": ["t1c"], "t1": ["t1"], "flair": ["fla"]}
    assert {name: path[-10:-7] for name, path in found(folder, own)["a"].items()} == {
        "t1": "_t1",
        "t1ce": "t1c",
        "flair": "fla",
    }


def test_a_folder_without_images_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found(put(tmp_path, "a/t1.nii.gz", "b/IM0001.dcm"))
    assert "no image in the folder b" in caplog.text


def test_a_model_without_t1(tmp_path: Path) -> None:
    """``_t1`` may be the T1ce that the model has, or the T1 that it has not: nobody guesses."""
    folder = put(tmp_path, "a_t1.nii.gz", "a_flair.nii.gz")
    with pytest.raises(InputError, match=r"a_t1.nii.gz is read as t1, and this model has t1ce, flair. If it is one of"):
        found(folder, modalities=("t1ce", "flair"))
    assert found(folder, {"t1ce": ["t1"]}, modalities=("t1ce", "flair"))["a"]["t1ce"] == "a_t1.nii.gz"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["x/a/t1.nii.gz", "x/b/t2.nii.gz"], "no case has two images, and there are t1, t2"),
        (["x/a_t1.nii.gz", "x/b_t2.nii.gz"], "x: a_t1.nii.gz and b_t2.nii.gz are read as images of one case"),
        (["x/003_t1_ax.nii.gz", "x/005_t2_sag.nii.gz", "x/flair.nii.gz"], ""),
    ],
)
def test_asked_back(files: list[str], message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found(put(tmp_path, *files))
    assert message in caplog.text and bool(caplog.messages) == bool(message)


def test_a_link_that_leads_nowhere_is_no_absent_image(tmp_path: Path) -> None:
    folder = put(tmp_path, "a_t1.nii.gz")
    (folder / "a_t2.nii.gz").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"a_t2.nii.gz looks like the t2 of case a"):
        found(folder)


# -- tables of cases ---------------------------------------------------------------------------------------------------


def manifest(folder: Path, content: str | bytes) -> dict[str, dict[int, Path]]:
    put(folder, "a/one.nii.gz", "a/two.nii.gz", "b.nii.gz")
    file = folder / "cases.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_manifest(file, MODALITIES, folder)


@pytest.mark.parametrize(
    "content",
    [
        "case,T1,T1Gd\nx,a/one.nii.gz,a/two.nii.gz\ny,b.nii.gz,\n",
        b"\xef\xbb\xbfcase,T1,T1Gd\nx,a/one.nii.gz,a/two.nii.gz\ny,b.nii.gz,\n",
        "case;T1;T1ce\r\nx;a/one.nii.gz;a/two.nii.gz\r\n;;\r\ny;b.nii.gz;\r\n",
        'T1ce,Case,"t1n"\n a/two.nii.gz ,x,"a/one.nii.gz"\n,y,b.nii.gz\n\n',
        "case\tt1\tt1c\nx\ta/one.nii.gz\ta/two.nii.gz\ny\tb.nii.gz\t\n",
    ],
)
def test_manifest(content: str | bytes, tmp_path: Path) -> None:
    one, two, b = (tmp_path / name for name in ("a/one.nii.gz", "a/two.nii.gz", "b.nii.gz"))
    assert manifest(tmp_path, content) == {"x": {0: one, 1: two}, "y": {0: b}}


def test_absolute_paths_within_the_folder(tmp_path: Path) -> None:
    assert manifest(tmp_path, f"case,t1\nx,{tmp_path}/b.nii.gz\n") == {"x": {0: tmp_path / "b.nii.gz"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("case,t1\nx,absent.nii.gz\n", r"line 2, t1: .*absent.nii.gz does not exist. Leave the cell empty"),
        ("case,t1\nx,a\n", "line 2, t1: .*: is a folder"),
        ("case,t1\nx,b.nii.gz\nx,b.nii.gz\n", "line 3: the case x stands in it twice"),
        ("case,t1\nx,b.nii.gz\nX,b.nii.gz\n", "differ only in letter case"),
        ("case,t1,age\nx,b.nii.gz,70\n", "the column 'age' is no modality of this model: expected case, t1, t1ce"),
        ("case,t1ce,T1Gd\nx,b.nii.gz,\n", "the columns t1ce and T1Gd are the same"),
        ("patient,t1\nx,b.nii.gz\n", "the column 'patient' is no modality"),
        ("t1,t2\nb.nii.gz,\n", "there is no column 'case'"),
        ("case,t1\n", "no case in it; expected a line case,t1,t1ce,t2,flair"),
        ("", "no case in it"),
        ("case,t1,t2\nx,,\n", "line 2: the case x has no image"),
        ("case,t1,t2\nx,b.nii.gz\n", "line 2: 2 cells, and the first line has 3"),
        ("case,t1,t2\nx,b.nii.gz,b.nii.gz\n", "line 2: one file is named for two modalities of the case x"),
        ("case,t1\n../x,b.nii.gz\n", r"line 2: '../x' cannot be the name of a case"),
        ("case,t1\n..,b.nii.gz\n", r"line 2: '..' cannot be the name of a case"),
        (",t1\n", "no case in it"),
        ("case,t1\nx,../b.nii.gz\n", r"line 2, t1: ../b.nii.gz lies outside of"),
        ("case,t1\nx,/etc/passwd\n", "line 2, t1: /etc/passwd lies outside of"),
        ("case,t1\nx,b.nii.gz\n".encode("utf-16"), "not UTF-8 text"),
        ("case,t1\nJosé,b.nii.gz\n".encode("latin-1"), "not UTF-8 text"),
        ('case,t1\n"x,b.nii.gz\n', "line 2: no CSV"),
    ],
)
def test_bad_manifest(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        manifest(tmp_path, content)
    assert "cases.csv" in str(caught.value)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cases.csv: cannot be read \(No such file"):
        read_manifest(tmp_path / "cases.csv", MODALITIES, tmp_path)
