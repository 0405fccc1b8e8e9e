"""Where the availability comes from, and that nothing of a missing channel is read."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.networks.masking import MISSING_VARIABLE, detect, mask_inputs, resolve

NAMES = ("t1", "t1ce", "t2")


def test_detection_needs_another_available_channel() -> None:
    x = torch.ones(3, 3, 2, 2)
    x[0, 1] = 0
    x[1] = 0
    assert detect(x).tolist() == [[True, False, True], [True] * 3, [True] * 3]


def test_explicit_before_variable_before_detection(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(1, 3, 2, 2)
    x[:, 0] = 0
    assert resolve(x, None, NAMES).tolist() == [[False, True, True]]
    monkeypatch.setenv(MISSING_VARIABLE, "T1Gd, t2")
    assert resolve(x, None, NAMES).tolist() == [[True, False, False]]
    assert resolve(x, torch.tensor([False, False, True]), NAMES).tolist() == [[False, False, True]]


def test_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="2 channels, this model has 3"):
        resolve(torch.ones(1, 2, 4, 4), None, NAMES)
    with pytest.raises(InputError, match="shape"):
        resolve(torch.ones(2, 3, 4, 4), torch.ones(1, 3, dtype=torch.bool), NAMES)
    with pytest.raises(InputError, match="no modality"):
        resolve(torch.ones(1, 3, 4, 4), torch.zeros(3, dtype=torch.bool), NAMES)
    monkeypatch.setenv(MISSING_VARIABLE, "t1gad")
    with pytest.raises(InputError, match="t1gad"):
        resolve(torch.ones(1, 3, 4, 4), None, NAMES)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30])
def test_a_masked_early_fusion_network_never_reads_a_missing_channel(poison: float) -> None:
    network = mask_inputs(nn.Conv2d(3, 2, 3), NAMES)
    assert set(network.state_dict()) == {"weight", "bias"}
    x = torch.randn(2, 3, 6, 6)
    mask = torch.tensor([[True, False, True], [False, True, True]])
    clean = network(x, available=mask)
    x[~mask] = poison
    assert torch.equal(network(x, available=mask), clean)
    assert torch.equal(network(x, mask), clean)


def test_nothing_missing_changes_nothing() -> None:
    network = nn.Conv2d(3, 2, 3)
    x = torch.randn(2, 3, 6, 6)
    expected = network(x)
    assert torch.equal(mask_inputs(network, NAMES)(x, available=torch.ones(3, dtype=torch.bool)), expected)
