"""RobustSeg's gates, appearance encoders and decoders by hand."""

from __future__ import annotations

import pytest
import torch
from fusion_networks import planned, random_streams, specs
from torch.nn.functional import conv2d, relu

from nnunetv2_mmkd.networks.appearance import AppearanceDecoder, AppearanceEncoder, adaptive_norm, style_gaussian
from nnunetv2_mmkd.networks.fusion.gated import Gate
from nnunetv2_mmkd.networks.fusion.scale_spec import own_features


@pytest.mark.parametrize("subset", [[True, True, True], [True, False, True], [False, True, False]])
@torch.no_grad()
def test_gates_are_a_convolution_of_the_masked_concatenation(one_thread: None, subset: list[bool]) -> None:
    spec = specs()[0]
    block = Gate(spec)
    block.bias.normal_()
    own = own_features(random_streams([spec], torch.tensor([subset])), 0, 0)
    whole = torch.zeros(3, 4, 16, 16)
    for modality, features in own:
        whole[modality] = features
    kernel = torch.cat([each.weight for each in block.gates], 1)
    gates = conv2d(whole.flatten(0, 1)[None], kernel, block.bias, padding=1).sigmoid()
    torch.testing.assert_close(block.open(own), gates[0])
    passed = (gates[0][:, None] * whole).flatten(0, 1)
    projection = block.concat.project.weight.permute(1, 0, 2).flatten(1)[:, :, None, None]
    torch.testing.assert_close(block(own), block.concat.finish(conv2d(passed[None], projection)))


@torch.no_grad()
def test_adaptive_norms_give_features_their_moments(one_thread: None) -> None:
    features, mean, deviation = 5 * torch.randn(2, 3, 8, 8) + 1, torch.randn(2, 3), torch.randn(2, 3)
    found = adaptive_norm(features.bfloat16(), mean, deviation)
    assert found.dtype == torch.bfloat16
    found = adaptive_norm(features, mean, deviation).flatten(2)
    torch.testing.assert_close(found.mean(2), mean)
    torch.testing.assert_close(found.std(2, correction=0), deviation.abs())
    gaussian = style_gaussian((mean, deviation))
    torch.testing.assert_close(gaussian.log_variance.exp(), deviation.square() + 1e-5)


@pytest.mark.parametrize(("dimension", "size"), [(2, (16, 24)), (3, (3, 8, 16))])
@torch.no_grad()
def test_any_image_has_a_code_and_comes_back(dimension: int, size: tuple[int, ...]) -> None:
    encoder = planned(dimension).encoder
    code = AppearanceEncoder(encoder.conv_op)(torch.randn(2, 1, *size))
    assert code.shape == (2, 8)
    assert AppearanceEncoder(encoder.conv_op, gaussian=True)(torch.randn(2, 1, *size)).shape == (2, 16)
    sizes = [tuple(-(-edge // 2**scale) for edge in size) for scale in range(3)]
    decoder = AppearanceDecoder(encoder)
    content = torch.randn(2, 8, *sizes[-1])
    image = decoder(content, decoder.style(code), sizes)
    assert image.shape == (2, 1, *size)
    other = decoder(content, decoder.style(code + 1), sizes)
    assert not torch.allclose(image, other)


@torch.no_grad()
def test_the_decoders_residual_blocks_are_adaptive(one_thread: None) -> None:
    decoder = AppearanceDecoder(planned().encoder)
    decoder.rises, decoder.last = torch.nn.ModuleList(), torch.nn.Identity()
    content, style = torch.randn(1, 8, 4, 4), (torch.randn(1, 8), torch.randn(1, 8))
    x = content
    for first, second in zip(decoder.first, decoder.second, strict=True):
        x = x + adaptive_norm(second(relu(adaptive_norm(first(x), *style))), *style)
    torch.testing.assert_close(decoder(content, style, [(4, 4)]), x)
