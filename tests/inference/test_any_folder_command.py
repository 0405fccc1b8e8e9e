"""``mmkd predict`` in folders that are not in nnU-Net's naming: the same segmentations, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_model import image_of, read, write, write_case

from nnunetv2_mmkd.cli.main import main

NAMES = ("T1_pre", "T1_post", "T2")
QUICK = ["-f", "0", "-device", "cpu", "-npp", "0", "-nps", "0", "--disable_tta", "--disable_progress_bar"]
YAML = """\
name: ward
images: "{case}/{case}_{modality}.nii.gz"
modalities: {T1: T1_pre, T1ce: T1_post, T2, PD: pd}
"""


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``anna``, whole, and ``bert`` without T1ce: case folders, and the same in nnU-Net's naming, BIDS and a table."""
    home = tmp_path_factory.mktemp("hospital")
    rows = ["case;T1;T1Gd;T2"]
    for case, channels in (("anna", (0, 1, 2)), ("bert", (0, 2))):
        write_case(home / "nnunet", case, channels)
        for channel in channels:
            image = image_of(case, channel)
            write(home / "ward" / case / f"{case}_{NAMES[channel]}.nii.gz", image)
            suffix = ("T1w", "ce-gd_T1w", "T2w")[channel]
            write(home / "bids" / f"sub-{case}" / "anat" / f"sub-{case}_{suffix}.nii.gz", image)
        rows.append(";".join([case, *(f"{case}/{case}_{NAMES[c]}.nii.gz" if c in channels else "" for c in range(3))]))
    (home / "ward" / "cases.csv").write_text("\n".join(rows), encoding="utf-8-sig")
    (home / "ward.yaml").write_text(YAML)
    return home


def predict(model: Path, home: Path, out: Path, *how: str) -> int:
    words = [word.replace("HOME", str(home)) for word in how]
    return main(["predict", "-m", str(model), "-o", str(out), *QUICK, *words])


@pytest.mark.parametrize(
    ("how", "files"),
    [
        (["-i", "HOME/ward"], ["anna", "bert"]),
        (["-i", "HOME/bids", "--output_name", "{folder}/{case}_dseg"],
         ["sub-anna/anat/sub-anna_dseg", "sub-bert/anat/sub-bert_dseg"]),
        (["--manifest", "HOME/ward/cases.csv", "--output_name", "{case}_seg.nii.gz"], ["anna_seg", "bert_seg"]),
        (["-i", "HOME/ward", "--edition", "HOME/ward.yaml"], ["anna", "bert"]),
    ],
)  # fmt: skip
def test_same_segmentations(
    model: Path, hospital: Path, tmp_path: Path, how: list[str], files: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert predict(model, hospital, tmp_path / "dry", *how, "--dry-run") == 0
    shown = [line for line in caplog.messages if "anna: t1 = " in line or "t1ce: no file" in line]
    assert len(shown) == 2 and not (tmp_path / "dry").exists(), caplog.messages
    assert predict(model, hospital, tmp_path / "expected", "-i", "HOME/nnunet") == 0
    assert predict(model, hospital, tmp_path / "out", *how) == 0
    report = json.loads((tmp_path / "out" / "mmkd_report.json").read_text())
    assert [entry["used"] for entry in report["cases"].values()] == [["t1", "t1ce", "t2"], ["t1", "t2"]]
    assert [entry["segmentation"] for entry in report["cases"].values()] == [f"{file}.nii.gz" for file in files]
    for file, case in zip(files, ("anna", "bert"), strict=True):
        made, expected = (
            (tmp_path / place).read_bytes() for place in (f"out/{file}.nii.gz", f"expected/{case}.nii.gz")
        )
        assert made == expected
    assert read(tmp_path / "expected" / "anna.nii.gz").any()
    assert predict(model, hospital, tmp_path / "out", *how, "--continue_prediction") == 0
    assert caplog.messages[-1].startswith("segmentations: none new, all exist already; what each was made from: ")
    assert json.loads((tmp_path / "out" / "mmkd_report.json").read_text())["cases"].keys() == report["cases"].keys()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            ["-i", "HOME/ward", "--manifest", "HOME/ward/cases.csv", "--ignore", "x"],
            "leave out --edition, --modalities",
        ),
        (["-i", "HOME/ward", "--edition", "HOME/ward.yaml", "--modalities", "T1=t1"], "--edition says how images are"),
        (["-i", "HOME/ward", "--modalities", "FLAIR=t1_pre"], "unknown modality 'FLAIR'"),
        (["-i", "HOME/ward", "--modalities", "T1=T1_post"], "two files for t1"),
        (["-i", "HOME/ward", "--edition", "brats2018x"], "unknown edition"),
        (["-i", "HOME/ward", "--edition", "brats2018"], "no case of BraTS 2018 below"),
        (["-i", "HOME/ward", "--output_name", "seg"], "--output_name 'seg': expected {case}"),
        (["-i", "HOME/ward", "--output_name", "../{case}"], "way out of the output folder"),
        (["-i", "HOME/ward", "--output_name", "{case}{x}"], "no other braces"),
        (["-i", "HOME/ward", "-o", "HOME/ward", "--output_name", "{folder}/{case}_T2"], "is HOME/ward, which is read"),
        (["-i", "HOME/ward", "-o", "HOME", "--output_name", "ward/{case}/{case}_T2"], "would overwrite an image"),
        (["-i", "HOME/ward", "--ignore", "t1", "t2"], "has no image CASE_XXXX"),
    ],
)
def test_refusals(
    model: Path, hospital: Path, tmp_path: Path, how: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(hospital.rglob("*"))
    assert predict(model, hospital, tmp_path / "out", *how) == 1
    assert message.replace("HOME", str(hospital)) in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and sorted(hospital.rglob("*")) == before


def test_neither_folder_nor_table(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "-m", str(model), "-o", "out"])
    assert "give the input folder with -i (or --manifest)" in capsys.readouterr().err
