"""The file of a page: whole in itself, names never HTML, sorting and viewer in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
from PIL import Image

from nnunetv2_mmkd.evaluation.page.case_view import CaseView
from nnunetv2_mmkd.evaluation.page.content import number
from nnunetv2_mmkd.evaluation.page.pictures import decoded, figure_image, grey_image, mask_image
from nnunetv2_mmkd.evaluation.page.prediction import SEGMENTATION, prediction_page
from nnunetv2_mmkd.evaluation.page.render import rendered, write_page

HOSTILE = "<script>alert(1)<"  # as far as file names go
QUOTES = "\"><img src=x onerror=alert(1)> '{{ 7*7 }}"


def case_view(name: str, missing: str = "no file", volume: float = 12.0) -> CaseView:
    """A case of two slices, 8 x 8; the mask is the upper left quarter of the first one."""
    mask = np.zeros((8, 16), bool)
    mask[:4, :4] = True
    viewer = {
        "case": name,
        "plane": "axial",
        "sides": "RL",
        "aspect": 1.0,
        "size": [8, 8],
        "across": 2,
        "slices": [3, 5],
        "depth": 9,
        "start": 0,
        "images": [
            {"name": "T1", "source": grey_image(np.full((8, 16), 0.5), (0.0, 1.0), (16, 8)), "missing": ""},
            {"name": "T1ce", "source": None, "missing": missing},
        ],
        "regions": [{"name": "WT", "title": "whole tumour (WT)", "colour": "#56B4E9", "labels": 2}],
        "truth": [mask_image(mask, "#56B4E9", (16, 8))],
        "predictions": [{"name": SEGMENTATION, "masks": [mask_image(mask, "#56B4E9", (16, 8))], "lacked": ["T1"]}],
    }
    return CaseView(name, {SEGMENTATION: {"WT": volume}}, viewer=viewer)


def report(*cases: str) -> dict[str, Any]:
    """A report of ``mmkd predict``; the first case has an expectation."""
    entry = {"used": ["t1"], "missing": {"t1ce": "no file"}, "done": True}
    expected = {"WT": {"dice": 0.64, "sd": 0.2, "cases": 6}}
    return {
        "model": {"trainer": "nnUNetTrainerX", "configuration": "3d_fullres", "folds": [0, 1]},
        "modalities": ["t1", "t1ce"],
        "cases": {case: {**entry, **({"expected": expected} if case == cases[0] else {})} for case in cases},
    }


@pytest.fixture
def text() -> str:
    """A page of hostile names."""
    views = [case_view("good", volume=120.5), case_view(HOSTILE, volume=9.0), case_view(QUOTES)]
    return rendered(prediction_page(HOSTILE, report("good", HOSTILE, QUOTES), views, ["WT"]))


class Seen(HTMLParser):
    """Tags, their attributes, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_names_are_never_html(text: str) -> None:
    seen = Seen(text)
    scripts = [attributes for tag, attributes in seen.tags if tag == "script"]
    assert sum("type" not in each for each in scripts) == 1  # ours
    assert not any(tag == "img" or any(name.startswith("on") for name in attributes) for tag, attributes in seen.tags)
    assert {HOSTILE, QUOTES} <= set(seen.text)
    data = [json.loads(part) for part in seen.text if part.startswith("{")]
    assert [each["case"] for each in data] == ["good", HOSTILE, QUOTES]


def test_one_file_without_outside_resources(text: str) -> None:
    seen = Seen(text)
    for tag, attributes in seen.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert "url(" not in text and "@import" not in text and "http:" not in text and "https:" not in text
    policy = next(a["content"] for t, a in seen.tags if a.get("http-equiv") == "Content-Security-Policy") or ""
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert content and base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode() in policy


def test_what_it_says(text: str) -> None:
    words = " ".join(" ".join(Seen(text).text).split())
    for said in (
        "Segmentations in <script>alert(1)<",
        "No case was segmented with T1ce: is that what you expect?",
        "64 ± 20 %",
        "T1ce (no file)",
        "No performance card: what to expect is not known for 2 cases.",
        "120.5",
        "nnUNetTrainerX, 3d_fullres, fold 0, 1",
        "no medical device",
    ):
        assert said in words, said


def test_numbers() -> None:
    assert (number(float("nan")).text, number(float("nan")).sort) == ("–", None)
    assert number(float("inf")).text == "∞" and number(float("inf")).sort == 1e300
    assert number(12.34).text == "12.3" and number(12.34).sort == 12.34


def test_a_figure_stays_what_it_is(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    Image.fromarray(drawn).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(decoded(figure_image(tmp_path / "a.png")).convert("RGB")), drawn)
    assert decoded(figure_image(tmp_path / "a.png", most=15)).size == (15, 10)


SORTED = "[...document.querySelectorAll('#table-1 tbody td a, #table-1 tbody th a')].map((a) => a.textContent)"
PIXEL = """(async () => {
  for (let i = 0; i < 50; i++) await new Promise((done) => setTimeout(done, 10));
  const pen = document.getElementById('screen').getContext('2d'), {width, height} = pen.canvas;
  return [[0.3, 0.3], [0.8, 0.8]].map(([x, y]) => [...pen.getImageData(x * width, y * height, 1, 1).data].slice(0, 3));
})()"""


@pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium: set MMKD_CHROMIUM or put one on the PATH")
def test_in_a_browser(text: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    views = [case_view("good", volume=120.5), case_view(HOSTILE, volume=9.0), case_view(QUOTES)]
    write_page(prediction_page(HOSTILE, report("good", HOSTILE, QUOTES), views, ["WT"]), file)
    with browser.tab(tmp_path / "profile") as tab:
        tab.open(file)
        assert tab.run("document.title") == f"Segmentations in {HOSTILE}"
        assert tab.run(SORTED) == ["good", HOSTILE, QUOTES]
        volume = "[...document.querySelectorAll('#table-1 th[aria-sort]')].find((h) => h.innerText.startsWith('WT'))"
        tab.run(f"{volume}.firstElementChild.click()")
        assert tab.run(f"{volume}.getAttribute('aria-sort')") == "ascending"
        assert tab.run(SORTED) == [HOSTILE, QUOTES, "good"]  # by number, not by text: 9, 12, 120.5
        tab.run("document.querySelector('.filter').value = 'good'")
        tab.run("document.querySelector('.filter').dispatchEvent(new Event('input'))")
        assert tab.run("[...document.querySelectorAll('#table-1 tbody tr')].filter((r) => !r.hidden).length") == 1
        inside, outside = tab.run(PIXEL)
        assert max(outside) - min(outside) < 5 and 100 < outside[0] < 150  # the image
        assert inside[2] > inside[0] + 20  # and the area over it
        state = "document.getElementById('notice').textContent"
        assert tab.run("document.querySelectorAll('#images input')[1].disabled") is True
        assert "T1ce – no file" in tab.run("document.getElementById('images').innerText")
        assert tab.run(state) == ""
        assert "did not get T1" in tab.run("document.getElementById('about').textContent")
        press = "document.getElementById('screen').dispatchEvent(new KeyboardEvent('keydown', {{key: '{}'}}))"
        tab.run(press.format("p"))
        tab.run(press.format("t"))
        inside, outside = tab.run(PIXEL)
        assert inside == outside
        tab.run(press.format("ArrowUp"))
        assert tab.run("document.getElementById('where').textContent") == "5 (2 of 2)"
        tab.run(press.format("n"))
        assert tab.run("document.getElementById('screen').getAttribute('aria-label')").startswith(HOSTILE)
        assert not tab.problems()
        tab.open(file, width=390, scheme="dark")
        assert tab.run("document.documentElement.scrollWidth <= window.innerWidth") is True
        assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
        assert tab.picture().startswith(b"\x89PNG")
        assert not tab.problems()
