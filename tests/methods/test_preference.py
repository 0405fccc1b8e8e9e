"""PASSION's preference and gradient weights by hand."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.preference import initial_weights, neglected, relative_preference, updated_weights

NAN = float("nan")


def test_preference_by_hand() -> None:
    distance = torch.tensor([[1.0, 3.0, NAN], [2.0, 2.0, 5.0]])
    available = torch.tensor([[True, True, False], [True, True, True]])
    found = relative_preference(distance, available)
    assert torch.allclose(found, torch.tensor([[0.5, -0.5, 0.0], [1 / 3, 1 / 3, -2 / 3]]))
    assert torch.allclose(found.sum(1), torch.zeros(2), atol=1e-6)
    assert neglected(found).tolist() == [[False, True, False], [False, False, True]]


def test_preference_needs_two_modalities_and_a_distance() -> None:
    alone = torch.tensor([[False, True, False]])
    assert relative_preference(torch.tensor([[NAN, 0.0, NAN]]), alone).tolist() == [[0, 0, 0]]
    assert relative_preference(torch.tensor([[NAN, 4.0, NAN]]), alone).tolist() == [[0, 0, 0]]
    equal = relative_preference(torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool))
    assert equal.tolist() == [[0, 0, 0]] and not neglected(equal).any()


def test_start_is_the_inverse_of_what_is_there() -> None:
    assert torch.allclose(
        initial_weights((0.2, 0.4, 0.6, 0.8), ("t1", "t1ce", "flair", "t2")), torch.tensor([1.25, 1 / 0.6, 2.5, 5.0])
    )
    with pytest.raises(InputError, match="no training case of this fold has t2"):
        initial_weights((0.5, 1.0), ("t1", "t2"))


def test_weights_of_some_epochs_by_hand() -> None:
    start = initial_weights((0.5, 0.75), ("t1", "t2"))
    first = updated_weights(start, start, torch.tensor([0.5, -0.5]), 0.1)
    assert torch.allclose(first, torch.tensor([1.95, 4.05]))  # Eq. (13)
    second = updated_weights(first, start, torch.tensor([0.2, NAN]), 0.1)
    assert torch.allclose(second, torch.tensor([1.93, 4.05]))
    far = updated_weights(second, start, torch.tensor([100.0, -1000.0]), 0.1)
    assert torch.allclose(far, torch.tensor([0.1 * 2, 4.0 * 4]))


def test_weights_that_move_in_units_of_their_start() -> None:
    start = torch.tensor([1.25, 5.0])
    moved = updated_weights(start, start, torch.tensor([0.5, -0.5]), 0.1, relative=True)
    torch.testing.assert_close(moved / start, torch.tensor([0.95, 1.05]))
    moved = updated_weights(start, start, torch.tensor([0.5, -0.5]), 0.1)
    torch.testing.assert_close(moved / start, torch.tensor([0.96, 1.01]))
