"""What tables and figures write for metrics."""

from __future__ import annotations

import pytest

from nnunetv2_mmkd.evaluation.metrics.registry import metric_spec


@pytest.mark.parametrize(
    ("name", "label", "higher"),
    [
        ("dice", "Dice (%)", True),
        ("hd95", "HD95 (mm)", False),
        ("dice_postprocessed", "Dice, post-processed (%)", True),
        ("lesion_dice@brats2023-gli", "Lesion-wise Dice, BraTS 2023 GLI (%)", True),
        ("lesion_hd95@brats2023-gli", "Lesion-wise HD95, BraTS 2023 GLI (mm)", False),
        ("legacy_hd95@brats2023-gli", "HD95, whole region, BraTS 2023 GLI (mm)", False),
        ("lesion_dice@my-task", "Lesion-wise Dice, my-task (%)", True),
        ("no_such_metric", "no_such_metric", True),
        ("n_true@brats2023-gli", "n_true@brats2023-gli", True),
    ],
)
def test_titles(name: str, label: str, higher: bool) -> None:
    assert metric_spec(name).label() == label
    assert metric_spec(name).higher_is_better is higher


def test_numbers() -> None:
    dice, distance, other = metric_spec("dice"), metric_spec("hd95"), metric_spec("no_such_metric")
    assert dice.text(0.8766) == "87.7"
    assert dice.text(-0.05, signed=True) == "\N{MINUS SIGN}5.0"
    assert dice.text(0.05, signed=True) == "+5.0"
    assert dice.text(-0.0001, signed=True) == "0.0"
    assert dice.text(0.0001, signed=True) == "0.0"
    assert distance.text(3.14159) == "3.1"
    assert other.text(0.0123) == "0.0123"
