"""What figures write for metrics."""

from __future__ import annotations

import pytest

from nnunetv2_mmkd.evaluation.metric_names import axis_label, metric_of, number


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
        ("volume_error", "volume_error", True),
        ("n_true@brats2023-gli", "n_true@brats2023-gli", True),
    ],
)
def test_titles(name: str, label: str, higher: bool) -> None:
    assert axis_label(metric_of(name)) == label
    assert metric_of(name).higher_is_better is higher


def test_numbers() -> None:
    dice, distance, other = metric_of("dice"), metric_of("hd95"), metric_of("volume_error")
    assert number(0.8766, dice) == "87.7"
    assert number(-0.05, dice, signed=True) == "\N{MINUS SIGN}5.0"
    assert number(0.05, dice, signed=True) == "+5.0"
    assert number(-0.0001, dice, signed=True) == "0.0"
    assert number(0.0001, dice, signed=True) == "0.0"
    assert number(3.14159, distance) == "3.1"
    assert number(0.0123, other) == "0.0123"
