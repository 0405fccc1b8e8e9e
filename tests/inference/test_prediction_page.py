"""``mmkd predict --report``: one page about a folder, also where an image is gone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_model import write_case

from nnunetv2_mmkd.cli.main import main

HOSTILE = "<script>alert(1)<"


@pytest.fixture
def predict(model: Path, tmp_path: Path) -> Callable[..., int]:
    """Runs the command on ``tmp_path / "in"``."""
    argv = ["predict", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(model), "-f", "0"]
    argv += ["-device", "cpu", "-npp", "0", "-nps", "0", "--disable_tta", "--disable_progress_bar"]
    return lambda *more: main([*argv, *more])


def cases(page: Path) -> dict[str, Any]:
    """What the viewer of a page is given."""
    found = re.findall(r'<script type="application/json" id="case-\d+">(.*?)</script>', page.read_text(), re.DOTALL)
    return {case["case"]: case for case in map(json.loads, found)}


def missing(case: dict[str, Any]) -> dict[str, str]:
    return {image["name"]: image["missing"] for image in case["images"]}


def test_a_page_of_a_folder(predict: Callable[..., int], tmp_path: Path) -> None:
    write_case(tmp_path / "in", "a")
    write_case(tmp_path / "in", HOSTILE, (1, 2))
    assert predict("--report", "--missing", "t1ce") == 0
    shown = cases(tmp_path / "out" / "report.html")
    assert list(shown) == [HOSTILE, "a"]
    assert missing(shown["a"]) == {"T1": "", "T1ce": "excluded by the user", "T2": ""}
    assert missing(shown[HOSTILE]) == {"T1": "no file", "T1ce": "excluded by the user", "T2": ""}
    assert [region["name"] for region in shown["a"]["regions"]] == ["a", "b"]
    text = (tmp_path / "out" / "report.html").read_text()
    assert HOSTILE not in text and "&lt;script&gt;alert(1)&lt;" in text
    assert str(tmp_path) not in text  # a page is sent around
    assert "No case was segmented with T1ce" in text
    assert "what to expect is not known for 2 cases" in text and "Dice in validation" not in text


def test_what_uncertainty_says(predict: Callable[..., int], tmp_path: Path) -> None:
    write_case(tmp_path / "in", "a", (0, 1))
    assert predict("--report", "--uncertainty") == 0
    shown = cases(tmp_path / "out" / "report.html")["a"]
    maps = {image["name"]: bool(image["source"]) for image in shown["images"] if image["map"]}
    assert maps == {"Uncertainty of a": True, "Uncertainty of b": True}
    said = json.loads((tmp_path / "out" / "mmkd_report.json").read_text())["cases"]["a"]["uncertainty"]
    table = shown["numbers"]["Segmentation"]
    assert table["columns"] == ["Region", "Volume", "Agreement", "Leans on"]
    for row, numbers in zip(table["rows"], said.values(), strict=True):
        agreement = numbers["agreement"]
        assert row[2] == ("–" if agreement is None else f"{agreement:.2f}")


def test_no_page_unless_it_is_asked_for(predict: Callable[..., int], tmp_path: Path) -> None:
    write_case(tmp_path / "in", "a")
    assert predict() == 0
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_case_whose_image_is_gone(predict: Callable[..., int], tmp_path: Path) -> None:
    """A was predicted by an earlier run; its T2 has been taken away since."""
    write_case(tmp_path / "in", "a")
    assert predict() == 0
    (tmp_path / "in" / "a_0002.nii.gz").unlink()
    write_case(tmp_path / "in", "b")
    assert predict("--report", "--continue_prediction") == 0
    shown = cases(tmp_path / "out" / "report.html")
    assert missing(shown["a"]) == {"T1": "", "T1ce": "", "T2": "image not found"}
    assert any(shown["a"]["predictions"][0]["masks"]) and not any(missing(shown["b"]).values())


def test_a_page_for_each_part(predict: Callable[..., int], tmp_path: Path) -> None:
    for case in "ab":
        write_case(tmp_path / "in", case)
    for part, case in (("0", "a"), ("1", "b")):
        assert predict("--report", "-num_parts", "2", "-part_id", part) == 0
        assert list(cases(tmp_path / "out" / f"report_part{part}of2.html")) == [case]
    assert not (tmp_path / "out" / "report.html").exists()
