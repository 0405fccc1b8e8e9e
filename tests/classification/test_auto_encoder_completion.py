"""Auto-encoder completion: filling and error by hand, who learns from what, no trace of what is missing."""

from __future__ import annotations

import torch
from toy_subjects import rival

from nnunetv2_mmkd.classification.auto_encoder import AutoEncoderClassifier, AutoEncoderCompletion
from nnunetv2_mmkd.methods.base import Batch

INPUTS = {"a": torch.linspace(-1, 1, 9).view(3, 3), "b": torch.linspace(-2, 1, 15).view(3, 5)}
AVAILABLE = torch.tensor([[True, True], [False, True], [True, True]])


@torch.no_grad()
def test_filling_by_hand() -> None:
    net = rival(AutoEncoderClassifier).eval()
    (fused,) = net.fuse(net.encode(INPUTS, AVAILABLE)).skips
    a, b = (net.encoders[name](INPUTS[name]) for name in "ab")
    torch.testing.assert_close(fused[[0, 2]], torch.stack([a, b], 1)[[0, 2]])
    torch.testing.assert_close(fused[1, 1], b[1])
    torch.testing.assert_close(fused[1, 0], net.auto_encoder(torch.cat([torch.zeros(6), b[1]]))[:6])
    weights = torch.tensor([0.25, 0.75])
    weighted = net.fuse(net.encode(INPUTS, AVAILABLE), weights=[weights]).skips[0]
    torch.testing.assert_close(weighted, fused * weights[:, None])


@torch.no_grad()
def test_the_error_by_hand() -> None:
    net = rival(AutoEncoderClassifier).eval()
    torch.nn.init.zeros_(net.auto_encoder[2].weight)
    net.auto_encoder[2].bias.fill_(0.5)  # whatever is given, 0.5 is made of it
    features = torch.stack([net.encoders[name](INPUTS[name]) for name in "ab"], 1)
    expected = (features[[0, 2]] - 0.5).square().mean()  # the middle subject has one modality only
    torch.testing.assert_close(net.reconstruction(net.encode(INPUTS, AVAILABLE)), expected)
    alone = net.encode(INPUTS, torch.tensor([False, True]))
    assert net.reconstruction(alone) == 0


@torch.no_grad()
def test_each_subset_is_completed_in_turn() -> None:
    net = rival(AutoEncoderClassifier).eval()
    streams = net.encode(INPUTS, torch.tensor([True, True]))
    features = net.table(streams)
    errors = []
    for keep in ([True, False], [False, True], [True, True]):
        masked = torch.where(torch.tensor(keep)[:, None], features, torch.zeros(()))
        errors.append((net.auto_encoder(masked.flatten(1)).view(3, 2, 6) - features).square().mean())
    torch.testing.assert_close(net.reconstruction(streams), torch.stack(errors).mean())


def test_each_term_reaches_its_own_and_nothing_else() -> None:
    net, method = rival(AutoEncoderClassifier), AutoEncoderCompletion()
    net.reconstruction(net.encode(INPUTS, AVAILABLE)).backward()
    assert {name.split(".")[0] for name, w in net.named_parameters() if w.grad is not None} == {"auto_encoder"}
    net.zero_grad(set_to_none=True)
    net(INPUTS, AVAILABLE).sum().backward()
    assert {name.split(".")[0] for name, w in net.named_parameters() if w.grad is not None} == {"encoders", "head"}
    batch = Batch(INPUTS, AVAILABLE, AVAILABLE, None)
    result = method.step(net.eval(), batch, lambda output, _: output.square().mean())
    assert result["parts"]["reconstruction"] > 0
    torch.testing.assert_close(result["loss"], result["parts"]["task"] + result["parts"]["reconstruction"])
