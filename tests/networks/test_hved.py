"""U-HVED's fusion by hand."""

from __future__ import annotations

import torch
from fusion_networks import random_streams, specs
from torch.nn.functional import conv2d

from nnunetv2_mmkd.losses.gaussian import Gaussian, product_of_gaussians
from nnunetv2_mmkd.networks.fusion.hved import HVEDFusion

MASKS = torch.tensor([[True, False, True], [False, True, False]])


@torch.no_grad()
def test_what_is_deployed_is_the_mean_of_the_product(one_thread: None) -> None:
    scales = specs()
    fusion, streams = HVEDFusion(scales), random_streams(scales, MASKS)
    skips = fusion(streams).skips
    for scale, block in enumerate(fusion):
        for sample in range(2):
            factors = []
            for features, (own, m) in zip(streams.scales[scale], streams.pairs, strict=True):
                if own == sample:
                    head = block.heads[m]
                    factors.append(conv2d(features[None], head.weight, head.bias)[0])
            half = scales[scale].channels // 2
            both = torch.stack(factors)
            mean = product_of_gaussians(Gaussian(both[:, :half], both[:, half:])).mean
            expected = block.finish(conv2d(mean[None], block.project.weight))
            torch.testing.assert_close(skips[scale][sample, None], expected)


@torch.no_grad()
def test_gaussians_and_back_are_the_forward_pass(one_thread: None) -> None:
    scales = specs()
    fusion, streams = HVEDFusion(scales), random_streams(scales, MASKS)
    gaussians = fusion.gaussians(streams)
    means = []
    for scale in gaussians.scales:
        own = [[each for each, (b, _) in zip(scale, gaussians.pairs, strict=True) if b == sample] for sample in (0, 1)]
        products = [product_of_gaussians(Gaussian(*torch.stack(each).chunk(2, 1))) for each in own]
        means.append(torch.stack([each.mean for each in products]))
    for found, expected in zip(fusion.widen(means), fusion(streams).skips, strict=True):
        torch.testing.assert_close(found, expected)
