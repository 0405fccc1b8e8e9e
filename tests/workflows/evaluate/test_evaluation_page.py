"""The page of ``mmkd evaluate``: scores, volumes and slices of segmentations that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.evaluation.subsets import all_subset_names

NAMES = ("T1", "T2")
SUBSETS = all_subset_names([name.lower() for name in NAMES])
SHAPE = (16, 18, 10)
HOSTILE = "<script>alert(1)<"
CASES = ("a", "b", HOSTILE)


def save(file: Path, volume: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume, np.diag([1.0, 1.0, 2.0, 1.0])), file)


@pytest.fixture
def evaluate(tmp_path: Path, no_figures_of_the_table: None) -> Callable[..., int]:
    """Runs the command on two methods; of the case b there is no T2."""
    truth = np.zeros(SHAPE, np.uint8)
    truth[4:10, 4:10, 3:7] = 1
    truth[6:8, 6:8, 4:6] = 2
    for case in CASES:
        save(tmp_path / "labels" / f"{case}.nii.gz", truth)
        for channel in range(2 - (case == "b")):
            save(tmp_path / "images" / f"{case}_{channel:04d}.nii.gz", np.full(SHAPE, 100 + channel, np.float32))
        for method in ("X", "Y"):
            for subset in SUBSETS[:1] if case == "b" else SUBSETS:
                predicted = np.roll(truth, (method == "Y") + (subset == "t1"), 0)
                save(tmp_path / method / subset / f"{case}.nii.gz", predicted)
    dataset = {
        "channel_names": {str(number): name for number, name in enumerate(NAMES)},
        "labels": {"background": 0, "whole": [1, 2], "core": 2},
        "regions_class_order": [1, 2],
        "file_ending": ".nii.gz",
        "missing_modalities": {"b": ["T2"]},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    folders = [f"{name}={tmp_path / name}" for name in ("X", "Y")]
    argv = ["evaluate", "-o", str(tmp_path / "out"), "--predictions", *folders, "-l", str(tmp_path / "labels")]
    argv += ["-device", "cpu", "-np", "1", "-nps", "0", "--disable_progress_bar", "--metrics", "dice"]
    return lambda *more: main([*argv, *more])


def cases(text: str) -> dict[str, Any]:
    """What the viewer of a page is given."""
    found = re.findall(r'<script type="application/json" id="case-\d+">(.*?)</script>', text, re.DOTALL)
    return {case["case"]: case for case in map(json.loads, found)}


def rows(text: str, view: int) -> list[list[str]]:
    """The rows of a view of the table of cases."""
    table = text[text.index(">Cases</h2>") :]
    body = re.findall(r"<tbody.*?>(.*?)</tbody>", table, re.DOTALL)[view]
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in body.split("<tr>")[1:]]
    return [[unescape(re.sub(r"<[^>]*>", "", cell)) for cell in row] for row in cells]


def test_scores_volumes_and_slices(
    evaluate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("-i", str(tmp_path / "images")) == 0
    assert f"to look at: {tmp_path / 'out' / 'report.html'}" in capsys.readouterr().out
    text = (tmp_path / "out" / "report.html").read_text()
    table = rows(text, 0)  # with all images, which b has not
    assert [row[:3] for row in table] == [
        [case, method, "nothing"] for method in ("X", "Y") for case in sorted({*CASES} - {"b"})
    ]
    whole, core, *volumes = table[-1][3:]
    assert (whole, core) == ("83.3", "50.0")  # moved by one of six voxels, and of two
    assert volumes == ["0.3", "0.0", "0.3", "0.0"]  # ml: 6 * 6 * 4 voxels of 2 mm^3
    assert ["b", "X", "T2 (missing in the data set)"] in [row[:3] for row in rows(text, 2)]  # with T1 alone
    shown = cases(text)
    assert set(shown) == {*CASES} and HOSTILE not in text
    missing = {image["name"]: image["missing"] for image in shown["b"]["images"]}
    assert missing == {"T1": "", "T2": "missing in the data set"}
    names = [each["name"] for each in shown["a"]["predictions"]]
    assert names == ["X: all images", "X: T2 alone", "X: T1 alone", "Y: all images", "Y: T2 alone", "Y: T1 alone"]
    assert shown["a"]["predictions"][2]["lacked"] == ["T2"]
    assert shown["a"]["numbers"]["Y: all images"]["rows"][0] == ["whole", "83.3", "0.3", "0.3"]


def test_images_that_are_gone_are_said(
    evaluate: Callable[..., int], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("nnUNet_raw", raising=False)
    assert evaluate() == 0
    assert "no images of 3 cases in the page: they were not found (nnUNet_raw, -i)" in caplog.text
    text = (tmp_path / "out" / "report.html").read_text()
    assert "The images of 3 of 3 cases were not found: only segmentations are shown of them." in text
    shown = cases(text)["a"]
    assert {image["missing"] for image in shown["images"]} == {"image not found"}
    assert all(shown["truth"]) and shown["numbers"]["X: all images"]["rows"][0][1] == "100.0"


def test_without_a_page(evaluate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--no_page") == 0
    assert "to look at" not in capsys.readouterr().out and not (tmp_path / "out" / "report.html").exists()


def test_chosen_subsets(evaluate: Callable[..., int], tmp_path: Path) -> None:
    assert evaluate("--overlay_subsets", "t2", "--subsets", "t2", "full") == 0
    shown = cases((tmp_path / "out" / "report.html").read_text())["a"]
    assert [each["name"] for each in shown["predictions"]] == ["X: T2 alone", "Y: T2 alone"]
