"""``mmkd_progress.png`` and the line of the log: the most telling curves, under names for people."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.image import imread

from nnunetv2_mmkd.training.curve_log import _line
from nnunetv2_mmkd.training.curves import PANELS, SWITCH, by_group, draw_curves

NAN = float("nan")
CURVES = {
    "pseudo Dice/all modalities": [0.5, 0.6],
    "pseudo Dice/subset law": [0.3, 0.4],
    "fill l1/t1": [0.1, NAN],
    "my own/curve": [1.0, 2.0],
    "importance/t1": [0.4, 0.3],
    "loss/task": [0.2, -0.1],
    "meta loss/held-out cases": [NAN, 0.3],
}


def test_the_most_telling_groups_come_first() -> None:
    groups = by_group(CURVES)
    assert list(groups) == ["pseudo Dice", "loss", "importance", "meta loss", "fill l1", "my own"]
    assert all(title and label for title, label in PANELS.values())


def test_four_panels_unless_all_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    draw_curves(CURVES, tmp_path / "four.png", "A trainer")
    monkeypatch.setenv(SWITCH, "1")
    draw_curves(CURVES, tmp_path / "all.png", "A trainer")
    four, everything = (imread(tmp_path / f"{name}.png").shape for name in ("four", "all"))
    assert four[:2] == (704, 1056) and everything[1] == 2 * four[1]


def test_one_short_line() -> None:
    line = _line({name: values[-1] for name, values in CURVES.items()})
    dice = "pseudo Dice: with all modalities 0.6, with modalities dropped 0.4"
    assert line == f"mmkd: {dice}; loss: task -0.1; importance: t1 0.3"
