"""U-HeMIS' moments by hand."""

from __future__ import annotations

import pytest
import torch
from fusion_networks import random_streams, specs

from nnunetv2_mmkd.networks.fusion.hemis import MomentFusion, moments
from nnunetv2_mmkd.networks.fusion.scale_spec import own_features


@pytest.mark.parametrize("subset", [[True, True, True], [True, False, True], [False, True, False]])
@torch.no_grad()
def test_the_fusion_is_a_convolution_of_mean_and_variance(one_thread: None, subset: list[bool]) -> None:
    spec = specs()[0]
    own = own_features(random_streams([spec], torch.tensor([subset])), 0, 0)
    features = torch.stack([each for _, each in own])
    mean, variance = moments(own)
    torch.testing.assert_close(mean, features.mean(0))
    torch.testing.assert_close(variance, features.var(0, correction=0))
    assert (variance == 0).all() == (sum(subset) == 1)
    block = MomentFusion(spec)
    expected = torch.einsum("oc,cxy->oxy", block.project.weight[:, :, 0, 0], torch.cat([mean, variance]))
    torch.testing.assert_close(block(own), block.finish(expected[None]))


def test_squares_that_half_precision_cannot_hold() -> None:
    own = [(0, torch.full((1, 2), 600.0).half()), (1, torch.full((1, 2), -600.0).half())]
    assert moments(own)[1].tolist() == [[360_000.0] * 2]


def test_modalities_are_exchangeable() -> None:
    """Moments do not know which modality is which."""
    first, second = torch.randn(4, 16, 16), torch.randn(4, 16, 16)
    forth, back = moments([(0, first), (2, second)]), moments([(1, second), (2, first)])
    assert all(torch.equal(a, b) for a, b in zip(forth, back, strict=True))
