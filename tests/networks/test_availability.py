"""How early-fusion networks are told what is available, and why not by constant planes alone."""

from __future__ import annotations

import copy

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from tiny_nnunet import PLAIN, RESIDUAL, Home, differences
from torch import nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.networks.availability import AvailabilityNorm, condition_norms, with_planes
from nnunetv2_mmkd.networks.from_plans import early_fusion
from nnunetv2_mmkd.networks.masking import mask_inputs
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.networks.stems import ModalityStems, separate_stems
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout

NAMES = ("t1", "t1ce", "t2")
FULL, PART = torch.ones(2, 3, dtype=torch.bool), torch.tensor([[True, False, True], [False, False, True]])


def planned(residual: bool = False, channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    kind, blocks = (ResidualEncoderUNet, [1, 1, 1]) if residual else (PlainConvUNet, 1)
    return kind(
        channels, 3, [4, 6, 8], nn.Conv2d, 3, [1, 2, 2], blocks, 2, 1, True, nn.InstanceNorm2d, {"affine": True},
        nonlin=nn.LeakyReLU, deep_supervision=True,
    )  # fmt: skip


def told(residual: bool = False) -> nn.Module:
    return mask_inputs(condition_norms(planned(residual), 3), NAMES, "norms")


def learned(network: nn.Module) -> nn.Module:
    """As after some training: parameters for missing modalities are not zero any more."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if "missing_" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


@pytest.mark.parametrize("residual", [False, True])
def test_told_norms_start_as_the_planned_ones_bit_for_bit(one_thread: None, residual: bool) -> None:
    x = torch.randn(2, 3, 16, 16)
    stock, network = mask_inputs(planned(residual), NAMES), told(residual)
    for mask in (FULL, PART):
        assert differences(stock(x, mask), network(x, mask)) == []
    keys = set(network.state_dict())
    assert keys > set(stock.state_dict())
    assert {key.rsplit(".", 1)[1] for key in keys - set(stock.state_dict())} == {"missing_weight", "missing_bias"}
    assert not any(isinstance(module, nn.InstanceNorm2d) for module in network.modules())


@torch.no_grad()
def test_a_told_norm_by_hand(one_thread: None) -> None:
    norm = learned(AvailabilityNorm(nn.InstanceNorm2d(5, affine=True), 3))
    norm.missing = (~PART).float()
    x = torch.randn(2, 5, 4, 4)
    normal = nn.functional.instance_norm(x)
    for sample, lacks in enumerate(([1], [0, 1])):
        weight = 1 + norm.missing_weight[lacks].sum(0)
        bias = norm.missing_bias[lacks].sum(0)
        torch.testing.assert_close(norm(x)[sample], normal[sample] * weight[:, None, None] + bias[:, None, None])


@torch.no_grad()
def test_told_norms_matter_for_incomplete_samples_only_and_by_sample(one_thread: None) -> None:
    x = torch.randn(2, 3, 16, 16)
    before, after = told(), learned(told())
    assert differences(before(x, FULL), after(x, FULL)) == []
    assert differences(before(x, PART), after(x, PART)) != []
    mixed = torch.stack([FULL[0], PART[1]])
    torch.testing.assert_close(after(x, mixed)[0][:1], after(x[:1], FULL[:1])[0])
    torch.testing.assert_close(after(x, mixed)[0][1:], after(x[1:], PART[1:])[0])


def test_all_parameters_for_missing_modalities_learn() -> None:
    network = told()
    outputs = network(torch.randn(2, 3, 16, 16), torch.tensor([[False, True, True], [True, False, False]]))
    sum(output.square().mean() for output in outputs).backward()
    for name, parameter in network.named_parameters():
        if "missing_" in name:
            assert parameter.grad is not None and (parameter.grad.abs().sum(1) > 0).all(), name


def test_a_copy_of_a_told_network_is_told_by_itself(one_thread: None) -> None:
    first = learned(told())
    second = copy.deepcopy(first)
    x = torch.randn(2, 3, 16, 16)
    expected = first(x, PART)
    second(x, FULL)  # must not reach the first one's norms
    assert differences(second(x, PART), expected) == []
    assert all(torch.equal(m.missing, (~PART).float()) for m in first.modules() if isinstance(m, AvailabilityNorm))


@pytest.mark.parametrize("residual", [False, True])
@torch.no_grad()
def test_stems_by_hand(one_thread: None, residual: bool) -> None:
    """Each modality's convolution and norm, the planned columns at first, summed over what a sample has."""
    network = mask_inputs(separate_stems(planned(residual)), NAMES, "stems")
    (stems,) = (module for module in network.modules() if isinstance(module, ModalityStems))
    torch.manual_seed(2)
    for parameter in (stems.norm.weight, stems.norm.bias):
        parameter.copy_(torch.randn(parameter.shape))
    original = next(module for module in planned(residual).modules() if isinstance(module, nn.Conv2d))
    weight, bias = stems.norm.weight.unflatten(0, (3, -1)), stems.norm.bias.unflatten(0, (3, -1))
    seen: list[torch.Tensor] = []
    stems.register_forward_hook(lambda module, args, output: seen.append(output))
    x = torch.randn(2, 3, 16, 16)
    network(x, PART)
    for sample, available in enumerate(PART):
        maps = [
            nn.functional.conv2d(x[sample : sample + 1, m : m + 1], original.weight[:, m : m + 1], padding=1)
            for m in range(3)
        ]  # the norm takes the bias away
        normal = [nn.functional.instance_norm(each)[0] for each in maps]
        expected = sum(normal[m] * weight[m, :, None, None] + bias[m, :, None, None] for m in range(3) if available[m])
        torch.testing.assert_close(seen[0][sample], expected, rtol=1e-4, atol=1e-4)


def test_all_stems_learn_from_samples_that_have_their_modality() -> None:
    network = mask_inputs(separate_stems(planned()), NAMES, "stems")
    (stems,) = (module for module in network.modules() if isinstance(module, ModalityStems))
    sum(output.square().mean() for output in network(torch.randn(2, 3, 16, 16), PART)).backward()
    learned_by = stems.conv.weight.grad.unflatten(0, (3, -1)).abs().flatten(1).sum(1) > 0
    assert learned_by.tolist() == [True, False, True]  # no sample has the second


def test_planes() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(with_planes(x, PART)[:, :3], x)
    assert with_planes(x, PART)[:, 3:].flatten(2).unique(dim=2)[..., 0].bool().tolist() == PART.tolist()


@torch.no_grad()
def test_a_constant_plane_is_lost_in_the_norm_behind_the_first_convolution(one_thread: None) -> None:
    """The reason for norms: far from the rim the plane changes next to nothing, where a norm that is told does."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True))
    x = torch.randn(2, 3, 128, 128)
    bare = nn.Sequential(block[0], nn.Identity())
    planes, none = with_planes(x, FULL), with_planes(x, torch.zeros_like(FULL))
    inside = (..., slice(1, -1), slice(1, -1))
    before = (bare(planes) - bare(none))[inside].abs().mean()
    after = (block(planes) - block(none))[inside].abs().mean()
    assert after < 0.05 * before


@pytest.mark.parametrize("identifier", [PLAIN, RESIDUAL])
@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_from_plans(home: Home, identifier: str, configuration: str) -> None:
    trainer = home.trainer(nnUNetTrainerModalityDropout, configuration=configuration, identifier=identifier)
    manager = trainer.configuration_manager
    size = manager.patch_size
    mask = torch.tensor([[True, False, True]])
    x = torch.randn(1, 3, *size)
    poisoned = x.clone()
    poisoned[:, 1] = float("nan")
    for way, channels in (("none", 3), ("planes", 6), ("norms", 3), ("stems", 3)):
        network = learned(early_fusion(NetworkRequest(manager, NAMES, 2, True, options={"availability": way})))
        first = next(module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Conv3d)))
        assert first.in_channels == channels
        outputs = network(x, available=mask)
        assert outputs[0].shape == (1, 2, *size)
        assert differences(network(poisoned, available=mask), outputs) == []
        assert differences(network(x, available=torch.ones(3, dtype=torch.bool)), outputs) != []


def test_refusals(home: Home) -> None:
    trainer = home.trainer(nnUNetTrainerModalityDropout)
    with pytest.raises(InputError, match="'plains': choose from none, planes, norms, stems"):
        early_fusion(NetworkRequest(trainer.configuration_manager, NAMES, 2, True, options={"availability": "plains"}))
    with pytest.raises(NotImplementedError, match="availability='planes'"):
        condition_norms(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 3)
    with pytest.raises(NotImplementedError, match="first block has no affine instance norm"):
        separate_stems(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
