"""Errors of reconstructed images by hand."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_mmkd.losses.reconstruction import reconstruction_error


@pytest.mark.parametrize(("p", "expected"), [(1, [1.5, 0.0]), (2, [5 / 2, 0.0])])
def test_mean_over_the_voxels_that_count(p: int, expected: list[float]) -> None:
    prediction, image = torch.zeros(2, 1, 3), torch.tensor([[[1.0, -2.0, 50.0]], [[7.0, 7.0, 7.0]]])
    valid = torch.tensor([[[True, True, False]], [[False, False, False]]])
    image.masked_fill_(~valid, float("nan"))  # what does not count leaves no trace
    assert reconstruction_error(prediction, image, p, valid).tolist() == expected
    assert reconstruction_error(prediction, image.nan_to_num(3.0), p).tolist() == pytest.approx(
        [2.0, 3.0] if p == 1 else [14 / 3, 9.0]
    )


def test_only_two_norms() -> None:
    with pytest.raises(ValueError, match="p must be"):
        reconstruction_error(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), 3)
