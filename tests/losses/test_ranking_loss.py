"""More modalities are not worse than fewer: values, gradients and nested subsets."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_mmkd.losses.ranking import more_versus_fewer
from nnunetv2_mmkd.modalities import all_subsets, strictly_fewer


def test_value_and_gradients_in_closed_form() -> None:
    more = torch.tensor([0.7, 0.2, 0.5], requires_grad=True)
    fewer = torch.tensor([0.4, 0.6, 0.5], requires_grad=True)
    loss = more_versus_fewer(more, fewer)
    assert float(loss.detach()) == pytest.approx(0.1)  # (0.3 + 0 + 0) / 3
    loss.backward()
    assert torch.allclose(more.grad[:2], torch.tensor([1 / 3, 0.0]))
    assert torch.allclose(fewer.grad[:2], torch.tensor([-1 / 3, 0.0]))


def test_half_precision_is_compared_in_single() -> None:
    more, fewer = torch.tensor([2.0001], dtype=torch.float32), torch.tensor([2.0])
    assert more_versus_fewer(more.half(), fewer.half()).dtype == torch.float32
    assert float(more_versus_fewer(more, fewer)) > 0


def test_losses_of_different_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        more_versus_fewer(torch.zeros(2), torch.zeros(3))


def test_smaller_subsets_are_proper_uniform_and_seeded() -> None:
    available = torch.tensor([[True, True, False, True]]).repeat(3000, 1)
    drawn = strictly_fewer(available, torch.Generator().manual_seed(0))
    assert not (drawn & ~available).any() and drawn.any(1).all() and (drawn.sum(1) < 3).all()
    subsets, counts = drawn.unique(dim=0, return_counts=True)
    assert len(subsets) == 6 and counts.min() > 400  # 500 of each expected
    assert torch.equal(drawn, strictly_fewer(available, torch.Generator().manual_seed(0)))
    assert available.sum() == 9000  # the argument is left alone


def test_one_modality_has_no_smaller_subset() -> None:
    single = all_subsets(4)[:4]
    assert torch.equal(strictly_fewer(single), single)
