"""Encoders with tied convolutions: what is shared, what is each modality's own, and that nothing is counted twice."""

from __future__ import annotations

import io

import pytest
import torch
from tiny_nnunet import PLAIN, RESIDUAL, Home, differences
from torch import nn
from torch.nn.modules.conv import _ConvNd

from nnunetv2_mmkd.networks.from_plans import multi_stream
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout

NAMES = ("t1", "t1ce", "t2")
PLANS = [(PLAIN, "2d"), (PLAIN, "3d_fullres"), (RESIDUAL, "2d"), (RESIDUAL, "3d_fullres")]
MIXED = torch.tensor([[True, False, True], [False, False, True]])


def built(home: Home, identifier: str, configuration: str, own_parts: bool = True) -> MultiStreamUNet:
    trainer = home.trainer(nnUNetTrainerModalityDropout, configuration=configuration, identifier=identifier)
    torch.manual_seed(0)
    return multi_stream(NetworkRequest(trainer.configuration_manager, NAMES, 2, True), own_parts=own_parts)


def images(configuration: str) -> torch.Tensor:
    return torch.randn(2, 3, *[16] * (2 if configuration == "2d" else 3))


@pytest.mark.parametrize(("identifier", "configuration"), PLANS)
def test_what_is_shared_and_what_is_own(home: Home, identifier: str, configuration: str) -> None:
    tied, shared = built(home, identifier, configuration), built(home, identifier, configuration, False)
    for name, parameter in tied.encoders[0].named_parameters():
        others = [dict(encoder.named_parameters())[name] for encoder in tied.encoders[1:]]
        own = any(other is not parameter for other in others)
        assert own == all(other is not parameter for other in others)
        module = tied.encoders[0].get_submodule(name.rpartition(".")[0])
        assert own == (not isinstance(module, _ConvNd) or module.in_channels == 1), name
        assert all(torch.equal(other, parameter) for other in others)  # at the start
    firsts = {id(encoder.get_parameter(name)) for encoder in tied.encoders for name in dict(encoder.named_parameters())
              if encoder.get_parameter(name).shape[1:2] == (1,)}  # fmt: skip
    assert len(firsts) == 3  # one first convolution each
    x = images(configuration)
    tied.eval(), shared.eval()
    with torch.no_grad():
        assert differences(tied(x, MIXED), shared(x, MIXED)) == []
    decoder = {key for key in shared.state_dict() if key.startswith("decoder.") and ".encoder." not in key}
    assert decoder < set(tied.state_dict())


@pytest.mark.parametrize(("identifier", "configuration"), PLANS)
def test_own_parts_learn_from_their_modality_alone(home: Home, identifier: str, configuration: str) -> None:
    network = built(home, identifier, configuration).train()
    x = images(configuration)
    x[~MIXED] = float("nan")
    sum(output.square().mean() for output in network(x, MIXED)).backward()
    shared = {id(p) for p in network.encoders[0].parameters()} & {id(p) for p in network.encoders[1].parameters()}
    for number, encoder in enumerate(network.encoders):
        own = [parameter for parameter in encoder.parameters() if id(parameter) not in shared]
        assert own
        found = [parameter.grad is not None and bool(parameter.grad.abs().sum() > 0) for parameter in own]
        assert any(found) == (number != 1)  # nobody has T1ce
        assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in own)
    assert all(p.grad is not None for p in network.encoders[0].parameters())
    assert {id(p) for p in network.parameters()} == {id(p) for p in network.optional_parameters()}


def test_saved_once_and_loaded_as_it_was(home: Home) -> None:
    network = built(home, PLAIN, "2d")
    with torch.no_grad():
        for number, encoder in enumerate(network.encoders):
            for module in encoder.modules():
                if isinstance(module, nn.InstanceNorm2d):
                    module.bias.fill_(number)
    state = network.state_dict()
    file, apart = io.BytesIO(), io.BytesIO()
    torch.save(state, file)
    torch.save({key: value.clone() for key, value in state.items()}, apart)
    assert file.getbuffer().nbytes < 0.75 * apart.getbuffer().nbytes
    file.seek(0)
    other = built(home, PLAIN, "2d")
    other.load_state_dict(torch.load(file, weights_only=True))
    assert differences(other.state_dict(), state) == []
    x = images("2d")
    other.eval(), network.eval()
    with torch.no_grad():
        assert differences(other(x, MIXED), network(x, MIXED)) == []
        alone = [network.encode(x, mask).scales[0][0] for mask in torch.eye(3, dtype=torch.bool)]
    assert not torch.equal(alone[0], alone[1])


def test_recomputation_gives_the_same_gradients(home: Home) -> None:
    network = built(home, RESIDUAL, "3d_fullres").train().double()
    x = images("3d_fullres").double()
    found = []
    for stages in (0, 2):
        network.recomputed_stages = stages
        network.zero_grad(set_to_none=True)
        sum(output.square().mean() for output in network(x, MIXED)).backward()
        found.append([None if p.grad is None else p.grad.clone() for p in network.parameters()])
    for first, second in zip(*found, strict=True):
        assert (first is None) == (second is None)
        if first is not None:
            torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-12)


def test_compiled_parts_keep_keys_and_results(home: Home) -> None:
    network = built(home, PLAIN, "2d").train()
    x = images("2d")
    keys, expected = list(network.state_dict()), network(x, MIXED)
    network.compile_parts(backend="eager")
    torch.testing.assert_close(network(x, MIXED), expected)
    assert list(network.state_dict()) == keys


def test_refusals(home: Home) -> None:
    trainer = home.trainer(nnUNetTrainerModalityDropout)
    with pytest.raises(ValueError, match="own_parts is for a shared one"):
        multi_stream(NetworkRequest(trainer.configuration_manager, NAMES, 2, True), shared=False, own_parts=True)
