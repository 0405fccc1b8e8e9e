"""A network for a subset takes its channels by name and reads no other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.networks.masking import MISSING_VARIABLE
from nnunetv2_mmkd.networks.specialist import take_channels

NAMES = ("t1", "t1ce", "t2", "flair")


@pytest.mark.parametrize(("subset", "channels"), [(("t1", "t2"), [0, 2]), (("flair",), [3]), (NAMES, [0, 1, 2, 3])])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 0.0])
def test_channels_by_name_and_no_other(subset: tuple[str, ...], channels: list[int], poison: float) -> None:
    network = nn.Conv3d(len(subset), 2, 3)
    x = torch.randn(2, 4, 5, 5, 5)
    expected = network(x[:, channels].contiguous())
    specialist = take_channels(network, NAMES, subset)
    assert set(specialist.state_dict()) == {"weight", "bias"}
    x[:, [channel for channel in range(4) if channel not in channels]] = poison
    mask = torch.tensor([name in subset for name in NAMES])
    for found in (specialist(x), specialist(x, mask), specialist(x, available=mask[None].expand(2, 4))):
        assert torch.equal(found, expected)
    assert torch.equal(specialist(x, available=torch.ones(4, dtype=torch.bool)), expected)


def test_a_blank_channel_of_the_subset_is_taken_as_it_is() -> None:
    network = nn.Conv2d(2, 1, 1)
    x = torch.randn(1, 4, 3, 3)
    x[:, 2] = 0
    expected = network(x[:, [0, 2]])
    assert torch.equal(take_channels(network, NAMES, ("t1", "t2"))(x), expected)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    network = take_channels(nn.Conv2d(2, 1, 1), NAMES, ("t1", "t2"))
    with pytest.raises(InputError, match="2 channels, this model has 4 modalities"):
        network(torch.ones(1, 2, 3, 3))
    lacking = torch.tensor([[True, True, True, True], [True, True, False, True]])
    with pytest.raises(InputError, match=r"t2 is missing: this model is a specialist for t1 \+ t2"):
        network(torch.ones(2, 4, 3, 3), available=lacking)
    monkeypatch.setenv(MISSING_VARIABLE, "t1n flair")
    with pytest.raises(InputError, match="t1 is missing"):
        network(torch.ones(1, 4, 3, 3))
    monkeypatch.setenv(MISSING_VARIABLE, "T1ce flair")
    assert network(torch.ones(1, 4, 3, 3)).shape == (1, 1, 3, 3)
